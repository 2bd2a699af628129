#!/usr/bin/env bash
# The embedded API server beside kube-apiserver and etcd: rates and memory, as a table.
#   bench-api.sh [OBJECTS]     10000 by default; 100000 takes a quarter of an hour and more
# Both keep their data on disk and wait for it. The real servers come from scripts/kubernetes/build.sh.
# PROFILE=debug proves the script with few objects; its figures say nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

objects=${1:-10000}
target=${CARGO_TARGET_DIR:-target}
[[ $objects =~ ^[1-9][0-9]*$ ]] || { echo "bench-api: OBJECTS: '$objects' is not a number above 0" >&2; exit 2; }
case ${PROFILE:-release} in
release) folder=release build=(--release) bench=() ;;
debug) folder=debug build=() bench=(--profile dev) ;;
*) echo "bench-api: PROFILE: '$PROFILE' is neither release nor debug" >&2; exit 2 ;;
esac
cargo build --locked -q "${build[@]}" -p caracal-apiserver --bin caracal-apiserver
cargo bench --locked -q "${bench[@]}" -p caracal-datastore --bench api --no-run

work=$(mktemp -d)
export CARACAL_K8S_STATE=$work/real CARACAL_K8S_API_PORT=${CARACAL_K8S_API_PORT:-26443} CARACAL_K8S_ETCD_PORT=${CARACAL_K8S_ETCD_PORT:-22379}
export CARACAL_K8S_FSYNC=1
embedded=
finish() {
  [ -z "$embedded" ] || kill "$embedded" 2>/dev/null || true
  scripts/kubernetes/control-plane.sh down 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT

CARACAL_LOG=warn "$target/$folder/caracal-apiserver" --data "$work/data" --listen 127.0.0.1:0 --kubeconfig-out "$work/embedded" &
embedded=$!
for _ in $(seq 300); do [ -s "$work/embedded" ] && break; sleep 0.1; done
real=$(scripts/kubernetes/control-plane.sh up | tail -1)
pids=$(scripts/kubernetes/control-plane.sh status | awk '/pid/ { print $3 }' | paste -sd,)
echo "machine: $(nproc) cores, load $(cut -d' ' -f1-3 /proc/loadavg) at the start"
cargo bench --locked -q "${bench[@]}" -p caracal-datastore --bench api -- "$objects" "embedded=$work/embedded=$embedded" "kube-apiserver + etcd=$real=$pids"
echo "load $(cut -d' ' -f1-3 /proc/loadavg) at the end; etcd's data $(du -sm "$CARACAL_K8S_STATE/etcd" | cut -f1) MiB, the embedded server's $(du -sm "$work/data" | cut -f1) MiB"
