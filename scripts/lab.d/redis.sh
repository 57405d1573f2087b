# Redis, empty, nothing kept on disk. Sourced by scripts/lab.

redis_answers() { [ "$(redis-cli -h 127.0.0.1 -p "$(port_of redis)" ping)" = PONG ]; }

redis_up() {
    pid_of redis >/dev/null && redis_answers && return 0
    stop_server redis
    have redis-server || apt_install redis redis-server || return 1
    have redis-server || return 0
    choose_port redis 6390 || return 1
    mkdir -p "$lab/redis"
    say "starting Redis on 127.0.0.1:$(port_of redis)"
    start_server redis redis-server --bind 127.0.0.1 --port "$(port_of redis)" --dir "$lab/redis" --save '' --daemonize no
    ready redis 60 redis_answers
}
redis_down() { stop_server redis; }
redis_status() { tell_server redis "127.0.0.1:$(port_of redis || true)"; }
redis_env() {
    if pid_of redis >/dev/null; then put BACKSTAY_REDIS_URL "redis://127.0.0.1:$(port_of redis)"; fi
}
