# Installing: Debian packages, also of the next release, and Python packages. Sourced by scripts/lab.

lists_are_fresh() { # updated by us within a day, or by the machine's owner
    [ -n "$(find "$lab/run/apt.updated" -mtime -1 2>/dev/null)" ]
}

refresh_lists() {
    lists_are_fresh && return 0
    apt-get -qq update >"$lab/run/apt.log" 2>&1 || say "apt-get update complained, see $lab/run/apt.log"
    touch "$lab/run/apt.updated"
}

# Debian starts a service when its package is installed. The lab starts its own, so that is forbidden for the moment.
without_starting_services() {
    local policy=/usr/sbin/policy-rc.d made=no status=0
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        made=yes
    fi
    "$@" || status=$?
    [ "$made" = no ] || rm -f "$policy"
    return "$status"
}

apt_install() { # name-in-the-lab package...
    local name=$1
    shift
    if ! is_root || ! have apt-get; then
        left_out "$name" "needs root and apt-get to install $*"
        return 0
    fi
    say "installing Debian packages: $*"
    refresh_lists
    without_starting_services env DEBIAN_FRONTEND=noninteractive \
        apt-get -qq -y --no-install-recommends -o DPkg::Lock::Timeout=300 install "$@" >>"$lab/run/apt.log" 2>&1 || {
        tail -n 15 "$lab/run/apt.log" >&2
        return 1
    }
}

# A private view of the Debian release after this one: its own lists, its own (empty) record of what is installed.
# Nothing of it is ever installed on the machine; packages are only unpacked into the lab's folder.
next_suite=trixie
next_apt() { # apt-get arguments...
    local view=$lab/next file
    if [ ! -e "$view/ready" ]; then
        local now
        now=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
        [ -n "$now" ] && have apt-get || { say "not a Debian machine"; return 1; }
        rm -rf "$view"
        mkdir -p "$view/sources" "$view/lists/partial" "$view/archives/partial"
        for file in /etc/apt/sources.list /etc/apt/sources.list.d/*; do
            # Only sources whose suite is the release itself; other vendors' suites have no such successor.
            [ -f "$file" ] && grep -qE "(^|[[:space:]])$now([[:space:]]|\$)" "$file" || continue
            sed -E "s/(^|[[:space:]])$now(-updates|-security)?/\1$next_suite\2/g" "$file" >"$view/sources/$(basename "$file")"
        done
        : >"$view/status"
        chmod -R a+rX "$view"
        next_options "$view" -qq update >"$lab/run/next.log" 2>&1 || { tail -n 5 "$lab/run/next.log" >&2; return 1; }
        touch "$view/ready"
    fi
    next_options "$view" "$@" >>"$lab/run/next.log" 2>&1
}
next_options() { # view arguments...
    local view=$1
    shift
    apt-get -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$view/sources" \
        -o Dir::State::lists="$view/lists" -o Dir::State::status="$view/status" \
        -o Dir::Cache::archives="$view/archives" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= \
        -o Acquire::Languages=none -o Debug::NoLocking=1 -o APT::Sandbox::User=root "$@"
}

python_with() { # name-in-the-lab module: python3 with that module, installed if it must be
    local name=$1 module=$2
    python3 -c "import $module" 2>/dev/null && return 0
    case $module in
        pip) apt_install "$name" python3 python3-pip ;;
        ensurepip) apt_install "$name" python3 python3-venv ;;
    esac
    python3 -c "import $module" 2>/dev/null
}
