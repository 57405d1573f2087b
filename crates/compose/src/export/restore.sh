#!/bin/sh
# Gives the images of this folder to the Docker engine, under names that nothing else has.
#   sh restore.sh check      looks whether that would work and changes nothing
#   sh restore.sh restore    does it, and stops at the first step that fails
set -eu

cd "$(dirname "$0")"
say() { printf '  %s\n' "$*"; }

check() {
    command -v docker >/dev/null || { say "docker is not installed" >&2; exit 1; }
    docker version >/dev/null || { say "the Docker engine cannot be reached; DOCKER_HOST says where it is" >&2; exit 1; }
    while read -r verb image name; do
        say "$verb $image as $name"
    done <images
}

restore() {
    while read -r verb image name; do
        say "$verb $image as $name"
        case $verb in
            load) docker load --quiet --input "$image" </dev/null >/dev/null ;;
            pull)
                docker pull --quiet "$image" </dev/null >/dev/null
                docker tag "$image" "$name"
                ;;
            tag) docker tag "$image" "$name" ;;
        esac
        docker image inspect "$name" </dev/null >/dev/null
    done <images
    say "compose.override.yml makes Compose run them: docker compose -f … -f $PWD/compose.override.yml up -d"
}

case ${1:-} in
    check) check ;;
    restore) restore ;;
    *) echo "usage: sh restore.sh check|restore" >&2 && exit 2 ;;
esac
