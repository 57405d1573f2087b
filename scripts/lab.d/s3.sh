# Two S3 servers. `s3` is our own small program over s3s-fs: it checks signatures and checksums, but its conditional
# create is not atomic. `moto` has atomic conditional create, versions and locks, and checks no signature.
# Sourced by scripts/lab.

lab_access_key=backstay-lab
lab_secret_key=backstay-lab-secret

s3_answers() { curl -s --max-time 5 -o /dev/null "http://127.0.0.1:$(port_of s3)/"; }

s3_up() {
    pid_of s3 >/dev/null && s3_answers && return 0
    stop_server s3
    # Whoever has built the whole workspace has built it too, and says where it lies.
    local built=${BACKSTAY_S3_SERVER:-}
    if [ ! -x "$built" ]; then
        have cargo || { left_out s3 "needs cargo to build the server"; return 0; }
        say "building the S3 server of crates/testkit"
        built=$(cd "$repo" && cargo build --quiet -p backstay-testkit --bin s3_server --message-format json 9>&- |
            sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)
    fi
    [ -x "$built" ] || { say "the S3 server does not build"; return 1; }
    mkdir -p "$lab/s3"
    # A copy: a later build must not replace the program under the running server.
    install -m 755 "$built" "$lab/s3_server"
    choose_port s3 9000 || return 1
    say "starting an S3 server on 127.0.0.1:$(port_of s3)"
    S3_ACCESS_KEY=$lab_access_key S3_SECRET_KEY=$lab_secret_key \
        start_server s3 "$lab/s3_server" --root "$lab/s3" --port "$(port_of s3)"
    ready s3 60 s3_answers
}
s3_down() { stop_server s3; }
s3_status() { tell_server s3 "http://127.0.0.1:$(port_of s3 || true)"; }
s3_env() {
    put AWS_ACCESS_KEY_ID "$lab_access_key"
    put AWS_SECRET_ACCESS_KEY "$lab_secret_key"
    put AWS_REGION us-east-1
    # No look at an instance metadata service that is not there.
    put AWS_EC2_METADATA_DISABLED true
    if pid_of s3 >/dev/null; then put BACKSTAY_S3_ENDPOINT "http://127.0.0.1:$(port_of s3)"; fi
}

moto_version='moto[server]==5.2.5'
moto_answers() { curl -sf --max-time 5 -o /dev/null "http://127.0.0.1:$(port_of moto)/moto-api/data.json"; }

moto_up() {
    pid_of moto >/dev/null && moto_answers && return 0
    stop_server moto
    if [ ! -e "$lab/moto/ready" ]; then
        python_with moto ensurepip || { left_out moto "no Python that can make a virtual environment"; return 0; }
        say "installing the Python package $moto_version into $lab/moto"
        rm -rf "$lab/moto"
        { python3 -m venv "$lab/moto" && "$lab/moto/bin/pip" install --quiet "$moto_version"; } \
            >"$lab/run/moto-install.log" 2>&1 || { tail -n 5 "$lab/run/moto-install.log" >&2; return 1; }
        touch "$lab/moto/ready"
    fi
    choose_port moto 5555 || return 1
    say "starting moto on 127.0.0.1:$(port_of moto)"
    start_server moto "$lab/moto/bin/moto_server" -H 127.0.0.1 -p "$(port_of moto)"
    ready moto 90 moto_answers
}
moto_down() { stop_server moto; }
moto_status() { tell_server moto "http://127.0.0.1:$(port_of moto || true)"; }
moto_env() {
    if pid_of moto >/dev/null; then put BACKSTAY_MOTO_ENDPOINT "http://127.0.0.1:$(port_of moto)"; fi
    # For tests that need one of their own, which then keeps to policies.
    if [ -e "$lab/moto/ready" ]; then put BACKSTAY_MOTO_BIN "$lab/moto/bin"; fi
}
