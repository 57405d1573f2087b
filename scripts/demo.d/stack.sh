# The story on a Compose stack: application, worker, migration, PostgreSQL and Redis in containers, under traffic; a bad
# release is deployed and taken back. Sourced by scripts/demo.

compose() { (cd "$project" && docker compose "$@"); }
image_of() { docker inspect --format '{{ .Image }}' "$(compose ps -aq "$1")"; }

stack_project() {
    project=$work/stack/project
    mkdir -p "$project"
    cp -r fixtures/shop/compose.yml fixtures/shop/.env fixtures/shop/config fixtures/shop/migrations "$project/"
    local app_port db_port
    app_port=$(free_port)
    db_port=$(free_port)
    sed -i "s/^SHOP_REGISTRY=.*/SHOP_REGISTRY=$BACKSTAY_REGISTRY/; s/18000/$app_port/; s/15432/$db_port/g" "$project/.env"
    echo "SHOP_PROJECT=backstay-demo-$$" >>"$project/.env"
    chmod 600 "$project/.env"
    address=http://127.0.0.1:$app_port
    url=$(sed -n 's/^DATABASE_URL=//p' "$project/.env")
    pg_bin=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
    configure stack 'url = "file:.env#DATABASE_URL"' "
[compose]
files = [\"compose.yml\"]
project = \"backstay-demo-$$\"

[health.api]
http = \"$address/health\""
    undoing+=("docker compose --project-directory $project -p backstay-demo-$$ down --volumes --timeout 5")
}

# The worker changes rows all the time: states are compared while nobody writes.
keep_still_state() { # name
    compose pause app worker >/dev/null 2>&1
    keep_state "$1"
    compose unpause app worker >/dev/null 2>&1
}

start_ordering() {
    while :; do curl -s --max-time 5 -o /dev/null -X POST "$address/orders" || true; sleep 0.2; done &
    orderer=$!
    undoing+=("kill $orderer")
}
stop_ordering() {
    kill "$orderer" 2>/dev/null || true
    wait "$orderer" 2>/dev/null || true
}
all_packed() { [ "$(sql "select count(*) from store.orders where state = 'new'")" = 0 ]; }

stack_story() {
    title "On a Compose stack: application, worker, migration, PostgreSQL, Redis"
    stack_project
    note "release 1.0 goes up under the name backstay-demo-$$"
    compose up --detach --quiet-pull --wait app worker >"$work/up.log" 2>&1 || { cat "$work/up.log"; fail "the stack does not come up"; }
    local good_app good_worker customers
    good_app=$(image_of app)
    good_worker=$(image_of worker)
    start_ordering
    wait_for 60 test "$(sql 'select count(*) from store.orders')" -gt 0
    step "A repository and its key:" - 0 init --recovery-file "$work/stack/phrase"
    stop_ordering
    wait_for 120 all_packed || fail "the worker does not pack"
    keep_still_state good
    customers=$(sql "select md5(string_agg(c::text, ',' order by id)) from store.customers c")
    step "Images, files and database under one id, proven:" "snapshot, proven (stack)" 0 snapshot --prove

    note "deploying release 1.1: a new schema, an edited .env and config; the application is unhealthy"
    start_ordering
    sql "alter table store.orders add column discount_cents bigint not null default 0"
    sql "update store.customers set name = 'nobody'"
    sed -i 's/^SHOP_RELEASE=.*/SHOP_RELEASE=1.1-unhealthy/' "$project/.env"
    echo 'greeting = broken' >"$project/config/shop.conf"
    compose up --detach --quiet-pull app worker >"$work/up.log" 2>&1 || { cat "$work/up.log"; fail "release 1.1 is not even created"; }
    wait_for 60 curl -s "$address/version" || fail "release 1.1 does not answer at all"
    curl -sf "$address/health" >/dev/null && fail "release 1.1 should be unhealthy"
    [ "$(image_of app)" != "$good_app" ] || fail "release 1.1 runs the old image"
    note "running: $(curl -s "$address/version"), health: $(curl -s "$address/health")"
    step "Backstay sees it too:" - 21 health --timeout 5
    stop_ordering

    start_reading "$address/version"
    step "Take the whole release back:" "restore (stack)" 0 restore latest --yes
    stop_reading "outage during restore (stack)"
    [ "$(image_of app)" = "$good_app" ] || fail "the application does not run its old image"
    [ "$(image_of worker)" = "$good_worker" ] || fail "the worker does not run its old image"
    note "docker inspect: application and worker run the image ids of before"
    [ "$(sql "select md5(string_agg(c::text, ',' order by id)) from store.customers c")" = "$customers" ] ||
        fail "the customers are not those of before"
    wait_for 120 curl -sf "$address/health/db" || fail "the application is not healthy"
    keep_still_state now
    cmp -s "$work/good.database" "$work/now.database" || { diff "$work/good.database" "$work/now.database" | head; fail "the database differs"; }
    cmp -s "$work/good.files" "$work/now.files" || fail "the files differ"
    note "pg_dump and diff: rows, schema and files are as before; $(curl -s "$address/version")"
    step "And Backstay says so:" - 0 health --timeout 120
    step "What runs, and what could be taken back:" - 0
}
