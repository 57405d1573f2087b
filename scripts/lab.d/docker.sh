# Docker Engine: the one that answers, else our own dockerd with its own socket and folders. Sourced by scripts/lab.

docker_socket=$lab/run/docker.sock

# Whose engine: "theirs" when the caller's own answers, "ours" when the lab's does.
engine() {
    if pid_of docker >/dev/null && engine_answers "unix://$docker_socket"; then
        echo ours
    elif have docker && docker version >/dev/null 2>&1; then
        echo theirs
    else
        return 1
    fi
}
engine_answers() {
    have docker && DOCKER_HOST=$1 docker version >/dev/null 2>&1
}
# For every piece that talks to the engine.
on_engine() {
    case $(engine) in
        ours) DOCKER_HOST=unix://$docker_socket "$@" ;;
        theirs) "$@" ;;
        *) return 1 ;;
    esac
}

docker_up() {
    local whose
    if whose=$(engine); then
        [ "$whose" = ours ] || say "an engine answers already: using it"
        return 0
    fi
    if ! is_root; then
        left_out docker "no engine answers, and starting one needs root"
        return 0
    fi
    if ! have dockerd || ! have docker; then
        apt_install docker docker.io iptables || return 1
    fi
    if ! grep -q ' cgroup2\? ' /proc/mounts; then
        have cgroupfs-mount || apt_install docker cgroupfs-mount || return 1
        cgroupfs-mount || true
    fi
    # Kernels differ in what they let an engine do. The last rung has no address translation: containers reach each
    # other and published ports work, the outside does not, which nothing here needs.
    mkdir -p "$lab/run/legacy"
    ln -sf "$(command -v iptables-legacy || echo /nonexistent)" "$lab/run/legacy/iptables"
    ln -sf "$(command -v ip6tables-legacy || echo /nonexistent)" "$lab/run/legacy/ip6tables"
    start_engine "$PATH" || start_engine "$lab/run/legacy:$PATH" || start_engine "$PATH" --iptables=false || {
        left_out docker "dockerd does not start on this machine, see $lab/run/docker.log"
        return 0
    }
}

start_engine() { # path extra-options...
    local path=$1
    shift
    # One that was killed leaves it behind, and another process may have its number by now.
    rm -f "$lab/run/dockerd.pid"
    say "starting dockerd on $docker_socket"
    PATH=$path start_server docker dockerd --host "unix://$docker_socket" --data-root "$lab/docker" \
        --exec-root "$lab/run/docker-exec" --pidfile "$lab/run/dockerd.pid" --ip 127.0.0.1 \
        --log-opt max-size=5m "$@"
    ready docker 90 engine_answers "unix://$docker_socket"
}

docker_down() { stop_server docker; }
docker_status() {
    case $(engine || true) in
        ours) tell docker "engine of the lab at $docker_socket, process $(pid_of docker)" ;;
        theirs) tell docker "an engine that was there before" ;;
        *) tell_server docker engine ;;
    esac
}
docker_env() {
    # Also while the engine comes up again: the address is what matters.
    if pid_of docker >/dev/null; then put DOCKER_HOST "unix://$docker_socket"; fi
}
