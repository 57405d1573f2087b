#!/bin/sh
# Puts back what lies beside this file. It needs no Backstay, and can be read.
set -eu

# A kind and a folder for each part, in this order.
parts='@PARTS@'

usage() {
    cat <<'END'
Puts a release back from this archive: databases, images and files. What is there already is never replaced.

Usage: sh restore.sh [--only PARTS] [--into FOLDER] [--as RECORDED=NAME]... [--check]

  --only PARTS         only these: database, images, files; with commas between
  --into FOLDER        where the files go; it must be empty or not there
  --as RECORDED=NAME   another name for a database
  --check              look whether it would work, and change nothing
  --help               this text

The PostgreSQL server is named as psql wants it: PGHOST, PGPORT, PGUSER, and PGPASSWORD or ~/.pgpass.
Needs sha256sum; for databases psql and gunzip, for files tar, for images docker.

Exit codes: 0 done · 2 wrong usage · 10 refused, nothing was changed · 13 stopped on the way: the last lines
            say where · 20 the archive is damaged, nothing was changed
END
}

wrong() {
    printf 'error: %s\nhint: sh restore.sh --help\n' "$1" >&2
    exit 2
}

fail() {
    printf 'error: %s\nstate: %s\n' "$2" "$3" >&2
    exit "$1"
}

only=
look=no
RESTORE_INTO=
RESTORE_AS=
while [ $# -gt 0 ]; do
    case $1 in
        --help | -h) usage && exit 0 ;;
        --check) look=yes ;;
        --only | --into | --as)
            [ $# -ge 2 ] || wrong "$1 needs a value"
            case $1 in
                --only) only=$2 ;;
                --into) RESTORE_INTO=$2 ;;
                --as)
                    case $2 in ?*=?*) ;; *) wrong "--as is RECORDED=NAME" ;; esac
                    RESTORE_AS="$RESTORE_AS$2
"
                    ;;
            esac
            shift
            ;;
        *) wrong "$1 is not known here" ;;
    esac
    shift
done

wanted() { case ",${only:-$1}," in *",$1,"*) ;; *) return 1 ;; esac; }

for word in $(printf '%s' "$only" | tr ',' ' '); do
    case " $parts" in *" $word:"*) ;; *) wrong "there is no part $word in this archive" ;; esac
done
if [ -n "$RESTORE_INTO" ]; then
    case $RESTORE_INTO in /*) ;; *) RESTORE_INTO=$PWD/$RESTORE_INTO ;; esac
fi
export RESTORE_INTO RESTORE_AS

cd "$(dirname "$0")"

echo "Checking that the archive is whole"
command -v sha256sum >/dev/null || fail 10 "sha256sum is not installed" "nothing was changed"
found=$(sha256sum -c SHA256SUMS 2>&1) || {
    printf '%s\n' "$found" | grep -v ': OK$' >&2 || true
    fail 20 "the archive is damaged, or files of it are missing" "nothing was changed"
}

for part in $parts; do
    wanted "${part%%:*}" || continue
    echo "Checking ${part#*:}"
    sh "./${part#*:}/restore.sh" check || fail 10 "${part#*:} cannot be restored here" "nothing was changed"
done
if [ $look = yes ]; then
    echo "It would work. Nothing was changed."
    exit 0
fi
for part in $parts; do
    wanted "${part%%:*}" || continue
    echo "Restoring ${part#*:}"
    sh "./${part#*:}/restore.sh" restore || fail 13 "${part#*:} could not be restored" "stopped half-way; what was named above is done"
done
echo "Done."
