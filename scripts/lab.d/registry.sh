# A private registry, so that pushed images have real digests. Sourced by scripts/lab.

registry_answers() { curl -sf --max-time 5 "http://127.0.0.1:$(port_of registry)/v2/"; }

registry_up() {
    pid_of registry >/dev/null && registry_answers >/dev/null && return 0
    stop_server registry
    have docker-registry || apt_install registry docker-registry curl || return 1
    have docker-registry || return 0
    choose_port registry 5000 || return 1
    mkdir -p "$lab/registry"
    cat >"$lab/registry.yml" <<CONFIG
version: 0.1
log: {level: warn}
storage:
  filesystem: {rootdirectory: $lab/registry}
  delete: {enabled: true}
http: {addr: "127.0.0.1:$(port_of registry)"}
CONFIG
    say "starting a registry on 127.0.0.1:$(port_of registry)"
    start_server registry docker-registry serve "$lab/registry.yml"
    ready registry 60 registry_answers
}
registry_down() { stop_server registry; }
registry_status() { tell_server registry "127.0.0.1:$(port_of registry || true)"; }
registry_env() {
    if pid_of registry >/dev/null; then put BACKSTAY_REGISTRY "127.0.0.1:$(port_of registry)"; fi
}
