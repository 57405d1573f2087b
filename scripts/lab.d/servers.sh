# Starting, finding and ending servers of the lab. Sourced by scripts/lab.

# A folder that other users can enter: PostgreSQL refuses to run as root, and root's home is often closed.
if [ -n "${BACKSTAY_LAB:-}" ]; then
    lab=$BACKSTAY_LAB
elif [ "$(id -u)" = 0 ]; then
    lab=/var/cache/backstay/lab
else
    lab=${XDG_CACHE_HOME:-$HOME/.cache}/backstay/lab
fi
mkdir -p "$lab/run"
chmod 755 "$lab"

say() { echo "lab: $*" >&2; }
is_root() { [ "$(id -u)" = 0 ]; }
have() { command -v "$1" >/dev/null 2>&1; }

# Two callers at once would install the same package or start the same server twice. Servers do not inherit the lock.
one_at_a_time() {
    exec 9>"$lab/lock"
    flock -n 9 || { say "waiting for another scripts/lab"; flock 9; }
}

left_out() { # name why
    echo "$1: $2" >"$lab/run/$1.left_out"
    say "left out: $1 ($2)"
}
forget_left_out() { rm -f "$lab/run/$1.left_out"; }
left_out_of() {
    local name
    for name in "$@"; do cat "$lab/run/$name.left_out" 2>/dev/null || true; done
}

# The kernel's start time beside the id: a reused process id is not ours.
start_time() { # pid
    local stat
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
    stat=${stat##*) }
    set -- $stat
    [ "$1" != Z ] || return 1
    echo "${20}"
}

pid_of() { # name -> the id, if it is still the process that we started
    local pid started
    { read -r pid started <"$lab/run/$1.pid"; } 2>/dev/null || return 1
    [ -n "$started" ] && [ "$(start_time "$pid")" = "$started" ] && echo "$pid"
}

start_server() { # name command...
    local name=$1 pid
    shift
    setsid nohup "$@" >"$lab/run/$name.log" 2>&1 </dev/null 9>&- &
    pid=$!
    # setsid forks only when it leads a group already; as a background job of a script it does not, so $! is the server.
    echo "$pid $(start_time "$pid" || true)" >"$lab/run/$name.pid"
}

stop_server() { # name
    local name=$1 pid
    pid=$(pid_of "$name") || { rm -f "$lab/run/$name.pid"; return 0; }
    say "stopping $name (process $pid)"
    kill -TERM "$pid" 2>/dev/null || true
    until_true 60 not_running "$name" || kill -KILL "$pid" 2>/dev/null || true
    until_true 10 not_running "$name" || { say "$name (process $pid) does not end"; return 1; }
    rm -f "$lab/run/$name.pid"
}
not_running() { ! pid_of "$1" >/dev/null; }

# Polls a condition; the deadline is only for a condition that never comes.
until_true() { # seconds command...
    local deadline=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$deadline" ] || return 1
        sleep 0.1
    done
}

# As until_true, but gives up at once when the server has ended, and shows what it said.
ready() { # name seconds command...
    local name=$1 deadline=$((SECONDS + $2))
    shift 2
    until "$@" >/dev/null 2>&1; do
        if not_running "$name" || [ "$SECONDS" -ge "$deadline" ]; then
            say "$name did not come up; the end of $lab/run/$name.log:"
            tail -n 15 "$lab/run/$name.log" >&2
            stop_server "$name"
            return 1
        fi
        sleep 0.1
    done
}

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

port_of() { cat "$lab/run/$1.port" 2>/dev/null; }
keep_port() { echo "$2" >"$lab/run/$1.port"; }

# The port it had before, the wished one, or any that is free.
choose_port() { # name wish
    local port
    for port in "$(port_of "$1" || true)" "$2" $(shuf -i 20000-29999 -n 40); do
        [ -n "$port" ] || continue
        if ! listens "$port"; then
            keep_port "$1" "$port"
            return 0
        fi
    done
    say "no free port for $1"
    return 1
}

tell() { # name, one line of status
    printf '%-11s %s\n' "$1" "$2"
}
tell_server() { # name what
    local pid
    if pid=$(pid_of "$1"); then
        tell "$1" "$2, process $pid"
    elif [ -e "$lab/run/$1.left_out" ]; then
        tell "$1" "left out$(sed 's/^[^:]*:/:/' "$lab/run/$1.left_out")"
    else
        tell "$1" "down"
    fi
}
put() { printf 'export %s=%q\n' "$1" "$2"; }
