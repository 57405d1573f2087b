#!/bin/sh
# Puts the databases of this folder back into a PostgreSQL server.
#   sh restore.sh check      looks whether that would work and changes nothing
#   sh restore.sh restore    does it, and stops at the first step that fails
# The server is the one that PGHOST, PGPORT, PGUSER, and PGPASSWORD or ~/.pgpass name. RESTORE_AS holds a line
# RECORDED=NAME for every database that is to have another name.
set -eu

cd "$(dirname "$0")"
maintenance=${PGDATABASE:-postgres}
# Text is read as it was written, whatever the server, the role or the database prefer.
PGCLIENTENCODING=UTF8
PGOPTIONS="-c search_path= -c row_security=off -c datestyle=ISO,YMD -c intervalstyle=postgres -c timezone=UTC
 -c lc_monetary=C -c standard_conforming_strings=on -c xmloption=content -c default_transaction_read_only=off
 -c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0"
PGOPTIONS=$(printf '%s' "$PGOPTIONS" | tr '\n' ' ')
export PGCLIENTENCODING PGOPTIONS

# Anything of a user's own: what initdb makes has lower numbers.
own_objects="select (select count(*) from pg_catalog.pg_class where oid >= 16384)
     + (select count(*) from pg_catalog.pg_proc where oid >= 16384)
     + (select count(*) from pg_catalog.pg_type where oid >= 16384)
     + (select count(*) from pg_catalog.pg_namespace where oid >= 16384)
     + (select count(*) from pg_catalog.pg_largeobject_metadata)"

say() { printf '  %s\n' "$*"; }

# psql on a database: its name is given so that it is never taken for a list of settings.
on() {
    database=$1
    shift
    PGDATABASE=$database psql -X -A -t -v ON_ERROR_STOP=1 "$@"
}

# The name a recorded database is to have.
target() {
    recorded=$(cat "$1/name")
    chosen=$(printf '%s\n' "${RESTORE_AS:-}" | while IFS= read -r line; do
        if [ "${line%%=*}" = "$recorded" ]; then printf '%s' "${line#*=}"; fi
    done)
    printf '%s' "${chosen:-$recorded}"
}

exists() {
    test "$(echo "select count(*) from pg_catalog.pg_database where datname = :'name'" | on "$maintenance" -v name="$1")" = 1
}

check() {
    command -v psql >/dev/null || { say "psql is not installed: it comes with the package postgresql-client" >&2; exit 1; }
    command -v gunzip >/dev/null || { say "gunzip is not installed" >&2; exit 1; }
    echo 'select 1' | on "$maintenance" >/dev/null || {
        say "the server cannot be reached; PGHOST, PGPORT, PGUSER and PGPASSWORD say where it is" >&2
        exit 1
    }
    for folder in */; do
        folder=${folder%/}
        name=$(target "$folder")
        lacking=$(on "$maintenance" -v name="$name" -f "$folder/check.sql")
        if [ -n "$lacking" ]; then
            printf '%s\n' "$lacking" | while IFS= read -r line; do say "$name: $line"; done >&2
            exit 1
        fi
        if exists "$name"; then
            if [ "$(echo "$own_objects" | on "$name")" != 0 ]; then
                say "the database $name is there and not empty; restore into another: --as '$(cat "$folder/name")=NAME'" >&2
                exit 1
            fi
            say "$name: is there, and empty"
        else
            say "$name: will be made"
        fi
    done
}

# The schema as pg_restore wrote it, without what this server or this psql is too old for.
feed() {
    file=$1
    name=$2
    # A database may have nothing of a kind.
    [ -e "$file" ] || return 0
    set --
    if [ "$(echo 'show server_version_num' | on "$name")" -lt 170000 ]; then
        set -- "$@" -e '/^SET transaction_timeout = 0;$/d'
    fi
    if ! printf '\\restrict a1\n\\unrestrict a1\n' | on "$name" >/dev/null 2>&1; then
        set -- "$@" -e '/^\\restrict [0-9A-Za-z]*$/d' -e '/^\\unrestrict [0-9A-Za-z]*$/d'
    fi
    if [ $# = 0 ]; then
        on "$name" -q -f "$file" >/dev/null
    else
        sed "$@" "$file" | on "$name" -q >/dev/null
    fi
}

# The lines of one file and of those that continue it, as COPY reads them from psql's own input.
lines() { gunzip -c "$1".*.gz && printf '\\.\n'; }

# psql takes an input that breaks off for a whole one: what COPY counted decides.
load() {
    head=$1
    expected=$(sed -n '1s/^-- //p' "$head")
    said=$({ cat "$head" && lines "${head%.sql}.copy"; } | on "$2")
    if [ "$said" != "COPY $expected" ]; then
        say "$head: $expected rows were recorded, and psql says: $said" >&2
        return 1
    fi
}

load_large_objects() {
    here=$1/large-objects
    said=$({
        cat "$here/before.sql" &&
            echo 'copy pg_temp.backstay_list from stdin;' && lines "$here/list.copy" &&
            echo 'copy pg_temp.backstay_contents from stdin;' && lines "$here/contents.copy" &&
            cat "$here/after.sql"
    } | on "$2" -q)
    if [ "$said" != "$(cat "$here/count")" ]; then
        say "$(cat "$here/count") large objects were recorded, and psql says: $said" >&2
        return 1
    fi
}

restore_one() {
    folder=$1
    name=$2
    if ! exists "$name"; then
        say "$name: making it"
        on "$maintenance" -q -v name="$name" -f "$folder/create.sql"
    fi
    say "$name: types, functions and tables"
    feed "$folder/before-rows.sql" "$name"
    for head in "$folder"/rows/*.sql; do
        [ -e "$head" ] || continue
        say "$name: rows of $(basename "$head" .sql)"
        load "$head" "$name"
    done
    if [ -d "$folder/large-objects" ]; then
        say "$name: large objects"
        load_large_objects "$folder" "$name"
    fi
    say "$name: indexes, keys, triggers and rules"
    feed "$folder/after-rows.sql" "$name"
    # Not before: an owner may have taken rights from itself, and event triggers may forbid anything.
    say "$name: rights, sequences, materialized views, statistics, event triggers"
    feed "$folder/rights.sql" "$name"
    on "$name" -q -f "$folder/finish.sql"
    feed "$folder/event-triggers.sql" "$name"
    say "$name: settings and rights of the database"
    on "$maintenance" -q -v name="$name" -f "$folder/settings.sql"
}

# Not called where its result is tested: there `set -e` would be off, and a step that fails would not end it.
restore() {
    name=
    trap 'stopped=$?; [ "$stopped" = 0 ] || say "stopped${name:+; drop the database $name, which is not whole, before another try}" >&2' EXIT
    say "roles that are missing"
    on "$maintenance" -q -f roles.sql
    for folder in */; do
        name=$(target "${folder%/}")
        restore_one "${folder%/}" "$name"
        name=
    done
}

case ${1:-} in
    check) check ;;
    restore) restore ;;
    *) echo "usage: sh restore.sh check|restore" >&2 && exit 2 ;;
esac
