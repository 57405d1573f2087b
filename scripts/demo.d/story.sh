# How the demo speaks, compares and measures. Sourced by scripts/demo.

title() { printf '\n== %s\n' "$*"; }
note() { printf '   %s\n' "$*"; }
fail() { printf '   WRONG: %s\n' "$*" >&2; exit 1; }

# One step: what it shows, then the command as one would type it, its output and its time.
step() { # explanation measure-name expected-exit arguments-of-backstay...
    local explanation=$1 name=$2 wanted=$3 status=0 start
    shift 3
    printf '\n   %s\n   $ backstay %s\n' "$explanation" "$*"
    start=$(now_ms)
    (cd "$project" && "$backstay" --no-color "$@" 2>&1) | sed 's/^/     /' || status=${PIPESTATUS[0]}
    measured "$name" "$(($(now_ms) - start)) ms"
    [ "$status" = "$wanted" ] || fail "backstay $1 exited with $status, not $wanted"
}

now_ms() { echo $(($(date +%s%N) / 1000000)); }
measures=()
measured() { if [ "$1" != - ]; then measures+=("$1|$2"); fi; }
table() {
    local line
    for line in "${measures[@]}"; do printf '   %-52s %s\n' "${line%%|*}" "${line#*|}"; done
}

# The oracle: the text that pg_dump writes, which Backstay has no hand in. Rows are sorted, for their order in a file
# is nobody's promise; \restrict lines hold a random word.
state_of_database() { # url file
    { "$pg_bin/pg_dump" --schema-only "$1"; "$pg_bin/pg_dump" --data-only "$1" | LC_ALL=C sort; } |
        grep -vE '^\\(un)?restrict ' >"$2"
}
# The files of the project with their rights, byte for byte.
state_of_files() { # folder file
    (cd "$1" && find .env config -type f -printf '%p %m\n' | sort && find .env config -type f | sort | xargs cat) >"$2"
}
keep_state() { # name
    state_of_database "$url" "$work/$1.database"
    state_of_files "$project" "$work/$1.files"
}
same_state() { # name-then: does the present equal it?
    keep_state now
    cmp -s "$work/$1.database" "$work/now.database" && cmp -s "$work/$1.files" "$work/now.files"
}
must_be() { # name-then what
    same_state "$1" || {
        diff "$work/$1.database" "$work/now.database" | head -n 20 || true
        diff "$work/$1.files" "$work/now.files" | head -n 20 || true
        fail "$2"
    }
    note "pg_dump and diff: $2"
}

sql() { "$pg_bin/psql" --no-psqlrc -v ON_ERROR_STOP=1 -Atq "$url" -c "$1"; }

# A customer who reads again and again. Writes "milliseconds ok|no"; the outage is the longest time between two good
# answers, whether a read in it failed or only waited.
start_reading() { # address
    : >"$work/reads"
    while :; do
        if curl -sf --max-time 5 -o /dev/null "$1"; then echo "$(now_ms) ok"; else echo "$(now_ms) no"; fi
    done >"$work/reads" 2>/dev/null &
    reader=$!
    undoing+=("kill $reader")
    wait_for 60 grep -q ok "$work/reads" || fail "nobody answers at $1"
}
stop_reading() { # measure-name
    local since
    since=$(wc -l <"$work/reads")
    # One more good answer after the end of the outage, so that its end is seen.
    wait_for 60 answered_after "$since" || fail "the application does not answer any more"
    kill "$reader" 2>/dev/null || true
    wait "$reader" 2>/dev/null || true
    local outage
    outage=$(awk '$2 == "ok" { if (last && $1 - last > most) most = $1 - last; last = $1 } END { print most + 0 }' "$work/reads")
    measured "$1" "$outage ms of $(wc -l <"$work/reads") reads"
    note "a client that read all the time was without an answer for $outage ms"
}
answered_after() { tail -n "+$(($1 + 1))" "$work/reads" | grep -q ok; }

wait_for() { # seconds command...
    local deadline=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$deadline" ] || return 1
        sleep 0.05
    done
}
free_port() {
    local port
    for port in $(shuf -i 30000-39999 -n 50); do
        if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then echo "$port"; return 0; fi
    done
    return 1
}

configure() { # how-the-database-is-reached extra-tables
    cat >"$project/backstay.toml" <<TOML
project = "shop"

[repository]
url = "$work/$1/repository"
key = "file:$work/$1/key"

[database.shop]
$2

[files]
include = [".env", "config/**"]
$3
TOML
    export BACKSTAY_STATE=$work/$1/state
    mkdir -p "$work/$1"
}
