#!/bin/sh
# Unpacks the files of this folder into the folder that RESTORE_INTO names, which must be empty or not there.
#   sh restore.sh check      looks whether that would work and changes nothing
#   sh restore.sh restore    does it
set -eu

cd "$(dirname "$0")"
say() { printf '  %s\n' "$*"; }

check() {
    command -v tar >/dev/null || { say "tar is not installed" >&2; exit 1; }
    if [ -z "${RESTORE_INTO:-}" ]; then
        say "say where the files go, with --into FOLDER, or leave them out with --only" >&2
        exit 1
    fi
    if [ -e "$RESTORE_INTO" ] && [ ! -d "$RESTORE_INTO" ]; then
        say "$RESTORE_INTO is no folder" >&2
        exit 1
    fi
    for place in "$RESTORE_INTO" "$RESTORE_INTO.outside"; do
        if [ -n "$(ls -A "$place" 2>/dev/null)" ]; then
            say "$place is not empty; name another folder" >&2
            exit 1
        fi
    done
    above=$(dirname "$RESTORE_INTO")
    if [ ! -d "$above" ] || [ ! -w "$above" ]; then
        say "$above is not there, or cannot be written to" >&2
        exit 1
    fi
    say "into $RESTORE_INTO"
}

# Unpacked beside and renamed, so that the folder is whole or not there.
restore() {
    beside=$RESTORE_INTO.unpacking
    mkdir -m 700 "$beside"
    tar -xpf files.tar -C "$beside"
    mkdir -p "$beside/root"
    if [ -d "$RESTORE_INTO" ]; then rmdir "$RESTORE_INTO"; fi
    mv "$beside/root" "$RESTORE_INTO"
    say "unpacked into $RESTORE_INTO"
    if [ -d "$beside/outside" ]; then
        if [ -d "$RESTORE_INTO.outside" ]; then rmdir "$RESTORE_INTO.outside"; fi
        mv "$beside/outside" "$RESTORE_INTO.outside"
        say "what lay outside the project's folder is in $RESTORE_INTO.outside, with its whole path"
    fi
    rmdir "$beside"
}

case ${1:-} in
    check) check ;;
    restore) restore ;;
    *) echo "usage: sh restore.sh check|restore" >&2 && exit 2 ;;
esac
