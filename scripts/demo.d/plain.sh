# The story on plain processes: PostgreSQL, one application, files. Sourced by scripts/demo.

# Servers refuse root.
as_server() {
    if [ "$(id -u)" = 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi
}

plain_server() {
    pg_bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)
    [ -n "$pg_bin" ] || pg_bin=${BACKSTAY_PG_BIN_DIRS%%:*}
    local home=$work/server port
    mkdir -p "$home"
    [ "$(id -u)" != 0 ] || chown postgres "$home"
    (cd / && as_server "$pg_bin/initdb" -A trust -E UTF8 --locale C.UTF-8 --no-sync -D "$home/cluster" >"$work/initdb.log")
    port=$(free_port)
    undoing+=("cd / && as_server $pg_bin/pg_ctl -D $home/cluster -m immediate stop")
    (cd / && as_server "$pg_bin/pg_ctl" -D "$home/cluster" -l "$home/log" -w -t 120 \
        -o "-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories=$home -c fsync=off" start >/dev/null)
    as_server "$pg_bin/psql" -q -h 127.0.0.1 -p "$port" -d postgres \
        -c 'create role shop login createdb' -c 'create database shop owner shop'
    url=postgres://shop@127.0.0.1:$port/shop
}

plain_project() {
    project=$work/plain/project
    mkdir -p "$project"
    cp -r fixtures/shop/config fixtures/shop/migrations "$project/"
    printf 'DATABASE_URL=%s\nSHOP_RELEASE=1.0\n' "$url" >"$project/.env"
    chmod 600 "$project/.env"
    configure plain 'url = "file:.env#DATABASE_URL"' '
[migrations]
folder = "migrations"'
    DATABASE_URL=$url SHOP_MIGRATIONS=$project/migrations SHOP_SEED=fixtures/shop/seed.sql "$shop" migrate

    local port
    port=$(free_port)
    DATABASE_URL=$url SHOP_HOST=127.0.0.1 SHOP_PORT=$port SHOP_CONFIG=$project/config/shop.conf SHOP_VERSION=1.0 \
        "$shop" serve 2>"$work/shop.log" &
    undoing+=("kill $!")
    address=http://127.0.0.1:$port
    wait_for 60 curl -sf "$address/health/db" || fail "the shop does not come up"
}

bad_change() {
    sql "alter table store.orders add column discount_cents bigint not null default 0"
    sql "drop table store.order_lines cascade"
    sql "update store.customers set name = 'nobody', settings = '{}'"
    sql "insert into store.orders (customer_id, note) select 1, 'made by the bad release' from generate_series(1, 100)"
    sed -i 's/SHOP_RELEASE=1.0/SHOP_RELEASE=1.1/' "$project/.env"
    echo 'greeting = broken' >"$project/config/shop.conf"
}

# What many deploy scripts do when they roll back, on a copy: so that it is seen what it does not take back.
todays_way() {
    local copy=${url%/shop}/shop_todays_way
    sql "create database shop_todays_way template template0"
    "$pg_bin/pg_dump" -Fc "$url" | "$pg_bin/pg_restore" --no-owner -d "$copy"
    "$pg_bin/pg_restore" --clean --if-exists --no-owner -d "$copy" "$work/before.dump" 2>"$work/todays.errors" || true
    local url=$copy
    note "pg_restore --clean over it: $(grep -c 'error:' "$work/todays.errors" || true) errors; tables of the bad release still there: $(sql \
        "select count(*) from pg_tables where schemaname = 'store' and tablename = 'loyalty_points'")"
    [ "$(sql "select count(*) from pg_tables where tablename = 'loyalty_points'")" = 1 ] ||
        fail "the old way took the new table back; the demo says it does not"
    url=${copy%_todays_way}
    sql "drop database shop_todays_way"
}

plain_story() {
    title "On plain processes: one PostgreSQL, one application, its files"
    plain_server
    plain_project
    note "a shop with $(sql 'select count(*) from store.orders') orders runs at $address"

    step "A repository, its key and its recovery phrase:" - 0 init --recovery-file "$work/plain/phrase"
    keep_state good
    "$pg_bin/pg_dump" -Fc "$url" >"$work/before.dump"
    step "Before the deploy, record the release and prove that it restores:" "snapshot, proven (plain)" 0 snapshot --prove

    note "now a bad release: rows overwritten, a table dropped, a column and a table added, .env and config edited"
    bad_change
    sql "create table store.loyalty_points (customer_id bigint references store.customers, points integer)"
    keep_state bad
    same_state good && fail "the bad release changed nothing"
    todays_way

    step "What would be taken back, and what would be lost:" - 0 restore latest --plan
    must_be bad "a plan changed nothing"
    start_reading "$address/orders"
    step "Take it back:" "restore (plain)" 0 restore latest --yes
    stop_reading "outage during restore (plain)"
    must_be good "rows, schema and files are as before the release"

    step "It was the wrong decision? Take that back too:" "undo (plain)" 0 undo --yes
    must_be bad "the bad release is back, nothing lost"

    killed_restore
    step "And to the good state:" - 0 restore latest --yes
    must_be good "rows, schema and files are as before the release"
    step "What there is:" - 0 list
    step "And what one of them holds:" - 0 show latest
    step "Every stored byte is still what was written:" "check (plain)" 0 check
}

# Killed when the staged copy stands and nothing is switched. Should the restore be quicker than the eye, it is over, and
# recover finds nothing to do: in both cases the state must be the old or the new, whole.
killed_restore() {
    printf '\n   A restore that is killed in the middle:\n   $ backstay restore latest --yes &  kill -9\n'
    (cd "$project" && exec "$backstay" restore latest --yes >"$work/killed.log" 2>&1) &
    local run=$!
    until [ -n "$(sql "select 1 from pg_database where datname like 'shop\_\_staged%' limit 1" 2>/dev/null)" ]; do
        kill -0 "$run" 2>/dev/null || break
    done
    kill -KILL "$run" 2>/dev/null || true
    wait "$run" 2>/dev/null || true
    step "Ends it, in old or in new:" "recover after kill -9 (plain)" 0 recover
    if same_state bad; then
        note "pg_dump and diff: the state is the old one, whole"
    else
        must_be good "the state is the new one, whole"
    fi
    [ -z "$(sql "select datname from pg_database where datname like 'shop\_\_staged%'")" ] ||
        fail "the killed restore left its staged copy behind"
    step "Nothing is unfinished any more:" - 0 recover
}
