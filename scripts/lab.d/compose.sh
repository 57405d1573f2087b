# Compose v2 as a plugin of the docker command. Debian 12 has none; the next release's needs nothing but libc.
# Sourced by scripts/lab.

compose_folder=$lab/docker-config
compose_plugin=$compose_folder/cli-plugins/docker-compose

compose_is_there() { have docker && docker compose version >/dev/null 2>&1; }

compose_up() {
    compose_is_there && return 0
    [ -x "$compose_plugin" ] && return 0
    if ! have docker; then
        left_out compose "there is no docker command here"
        return 0
    fi
    say "unpacking docker-compose of Debian $next_suite into $compose_folder"
    local work=$lab/compose.new
    rm -rf "$work"
    mkdir -p "$work" "$compose_folder/cli-plugins"
    if ! (cd "$work" && next_apt download docker-compose) || ! dpkg-deb -x "$work"/docker-compose_*.deb "$work/root"; then
        left_out compose "the package of Debian $next_suite cannot be had here"
        return 0
    fi
    cp "$(find "$work/root" -name docker-compose -type f -perm -u+x | head -n 1)" "$compose_plugin"
    rm -rf "$work"
    [ -e "$compose_folder/config.json" ] || echo '{}' >"$compose_folder/config.json"
    DOCKER_CONFIG=$compose_folder docker compose version >/dev/null
}

compose_down() { :; }
compose_status() {
    if compose_is_there; then
        tell compose "$(docker compose version --short), was there before"
    elif [ -x "$compose_plugin" ]; then
        tell compose "$(DOCKER_CONFIG=$compose_folder docker compose version --short) in $compose_folder"
    else
        tell_server compose plugin
    fi
}
compose_env() {
    if [ -x "$compose_plugin" ]; then put DOCKER_CONFIG "$compose_folder"; fi
}
