#!/usr/bin/env bash
# What plugging a container in and out costs: the plugins through the daemon and without it, reference ptp + host-local,
# and the same kernel work by a bare netlink loop, in one run. On the embedded API, and on a real kube-apiserver when
# etcd, kube-apiserver and kubectl are in the folder CARACAL_KUBERNETES. Needs root: it works in network namespaces.
set -euo pipefail
cd "$(dirname "$0")/.."
count=${1:-200}
profile=${PROFILE:-release}
target=${CARGO_TARGET_DIR:-target}/$profile
[ -e /usr/lib/cni/ptp ] || { echo "bench-cni: /usr/lib/cni/ptp is missing: run make deps (containernetworking-plugins)" >&2; exit 1; }
${CARGO:-cargo} build --locked --profile "$profile" -p caracal-cni --features bench --bins
${CARGO:-cargo} build --locked --profile "$profile" -p caracal-apiserver --bins
[ "$(id -u)" = 0 ] && as_root=() || as_root=(sudo -E)
"${as_root[@]}" "$target/bench-cni" --count "$count"
for folder in ${CARACAL_KUBERNETES:-} "$HOME"/.cache/caracal-k8s/*/bin; do
  if [ -x "$folder/kube-apiserver" ] && [ -x "$folder/etcd" ] && [ -x "$folder/kubectl" ]; then
    echo
    "${as_root[@]}" "$target/bench-cni" --count "$count" --kubernetes "$folder"
    exit
  fi
done
echo "bench-cni: no kube-apiserver found (CARACAL_KUBERNETES names its folder): embedded API only" >&2
