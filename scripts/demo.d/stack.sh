# The story on a Compose stack: application, worker, migration, PostgreSQL and Redis in containers, under traffic; a bad
# release is deployed under guard, which takes it back. Sourced by scripts/demo.

compose() { (cd "$project" && docker compose "$@"); }
image_of() { docker inspect --format '{{ .Image }}' "$(compose ps -aq "$1")"; }

stack_project() {
    project=$work/stack/project
    mkdir -p "$project"
    cp -r fixtures/shop/compose.yml fixtures/shop/.env fixtures/shop/config fixtures/shop/migrations "$project/"
    cp -r fixtures/shop/migrations-next "$project/next"
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

[migrations]
folder = \"migrations\"

[health.api]
http = \"$address/health\"

[guard]
settle_window = \"5s\""
    deploy_script
    # The containers that anchor images carry the project's name and stand outside of it.
    undoing+=("docker ps --all --quiet --filter name=^backstay-keep-backstay-demo-$$- | xargs --no-run-if-empty docker rm --force")
    undoing+=("docker compose --project-directory $project -p backstay-demo-$$ down --volumes --timeout 5")
}

# The deploy of the bad release, as a team would have written it: migrate, edit, up.
deploy_script() {
    cat >"$project/deploy" <<SCRIPT
#!/bin/sh -e
cp next/* migrations/
"$backstay" --no-color migrate run
sed -i 's/^SHOP_RELEASE=.*/SHOP_RELEASE=1.1-unhealthy/' .env
echo 'greeting = broken' >config/shop.conf
docker compose up --detach --quiet-pull app worker >"$work/up.log" 2>&1
SCRIPT
    chmod 755 "$project/deploy"
}

# The worker changes rows all the time: states are compared while nobody writes.
keep_still_state() { # name
    compose pause app worker >/dev/null 2>&1
    keep_state "$1"
    compose unpause app worker >/dev/null 2>&1
}

# Customers order without a pause from whatever release runs; with a word, only from one whose version says it.
start_ordering() { # word-of-the-version
    : >"$work/ordered"
    while :; do
        if curl -s --max-time 5 "$address/version" | grep -q "${1:-}"; then
            curl -sf --max-time 5 -o /dev/null -X POST "$address/orders" && echo one >>"$work/ordered"
        fi
        sleep 0.2
    done &
    orderer=$!
    undoing+=("kill $orderer")
}
stop_ordering() {
    kill "$orderer" 2>/dev/null || true
    wait "$orderer" 2>/dev/null || true
    note "customers made $(wc -l <"$work/ordered") orders meanwhile"
}
all_packed() { [ "$(sql "select count(*) from store.orders where state = 'new'")" = 0 ]; }

stack_story() {
    title "On a Compose stack: application, worker, migration, PostgreSQL, Redis"
    stack_project
    note "release 1.0 goes up under the name backstay-demo-$$"
    compose up --detach --quiet-pull --wait app worker >"$work/up.log" 2>&1 || { cat "$work/up.log"; fail "the stack does not come up"; }
    local good_app good_worker
    good_app=$(image_of app)
    good_worker=$(image_of worker)
    start_ordering
    step "A repository and its key:" - 0 init --recovery-file "$work/stack/phrase"
    wait_for 60 test -s "$work/ordered" || fail "nobody can order"
    stop_ordering
    wait_for 120 all_packed || fail "the worker does not pack"
    keep_still_state good
    step "The migrations that the database has:" - 0 migrate status

    note "release 1.1 is bad: it migrates the schema, edits .env and config, and then it is unhealthy. Its deploy script:"
    sed 's/^/     | /' "$project/deploy"
    # From the moment the bad release answers until it is taken back, customers write into it.
    start_reading "$address/version"
    start_ordering 1.1
    step "The deploy under guard: images, files and database are recorded and proven before, and taken back together after:" \
        "guard: snapshot, deploy, probe, take back (stack)" 12 guard -- ./deploy
    stop_reading "outage during the deploy and its taking back"
    stop_ordering
    [ -s "$work/ordered" ] || fail "nobody ordered from the bad release: it never answered"

    [ "$(image_of app)" = "$good_app" ] || fail "the application does not run its old image"
    [ "$(image_of worker)" = "$good_worker" ] || fail "the worker does not run its old image"
    note "docker inspect: application and worker run the image ids of before"
    wait_for 120 curl -sf "$address/health/db" || fail "the application is not healthy"
    keep_still_state now
    cmp -s "$work/good.database" "$work/now.database" || { diff "$work/good.database" "$work/now.database" | head; fail "the database differs"; }
    cmp -s "$work/good.files" "$work/now.files" || fail "the files differ"
    note "pg_dump and diff: rows, schema and files are as before; $(curl -s "$address/version")"
    step "And Backstay says so:" - 0 health --timeout 120
    step "The deploy's migration is pending again:" - 0 migrate status
    step "What was done:" - 0 history
    step "What runs, and what can be done next:" - 0
}
