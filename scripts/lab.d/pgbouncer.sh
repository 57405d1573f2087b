# PgBouncer, only the program: whoever needs a pooler starts a private one. Sourced by scripts/lab.

pgbouncer_program() { command -v pgbouncer || { [ -x /usr/sbin/pgbouncer ] && echo /usr/sbin/pgbouncer; }; }

pgbouncer_up() {
    [ -z "$(pgbouncer_program)" ] || return 0
    apt_install pgbouncer pgbouncer
}
pgbouncer_down() { :; }
pgbouncer_status() { tell pgbouncer "$(pgbouncer_program || echo 'not installed')"; }
pgbouncer_env() { :; }
