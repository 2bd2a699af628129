#!/usr/bin/env bash
# What plugging a container in and out costs: the plugins through the daemon and without it, reference ptp + host-local,
# and the same kernel work by a bare netlink loop, in one run. On the embedded API, and on a real kube-apiserver when
# etcd, kube-apiserver and kubectl are in the folder CARACAL_KUBERNETES. The plugins are those of `make dist-cni`; the
# daemon and the API server have the profile PROFILE. Needs root: it works in network namespaces.
set -euo pipefail
cd "$(dirname "$0")/.."
count=${1:-200}
profile=${PROFILE:-release}
folder=$profile
[ "$profile" = dev ] && folder=debug
target=${CARGO_TARGET_DIR:-target}/$folder
# The reference plugins that belong to the Kubernetes in use, else those of the system.
for reference in ${CARACAL_REFERENCE_CNI:-} "$HOME"/.cache/caracal-k8s/*/cni /usr/lib/cni; do
  [ -x "$reference/ptp" ] && [ -x "$reference/host-local" ] && break
done
[ -x "$reference/ptp" ] || { echo "bench-cni: no reference ptp and host-local: run make deps (containernetworking-plugins)" >&2; exit 1; }
${CARGO:-cargo} build --locked --profile "$profile" -p caracal-cni -p caracal-apiserver --features caracal-cni/bench --bins
# With PLUGINS the plugins of another folder are measured.
plugins=${PLUGINS:-$(scripts/dist-cni.sh | tail -1)}
[ "$(id -u)" = 0 ] && as_root=() || as_root=(sudo -E)
bench=("${as_root[@]}" "$target/bench-cni" --count "$count" --plugins "$plugins" --reference "$reference")
"${bench[@]}"
for programs in ${CARACAL_KUBERNETES:-} "$HOME"/.cache/caracal-k8s/*/bin; do
  if [ -x "$programs/kube-apiserver" ] && [ -x "$programs/etcd" ] && [ -x "$programs/kubectl" ]; then
    echo
    "${bench[@]}" --kubernetes "$programs"
    exit
  fi
done
echo "bench-cni: no kube-apiserver found (CARACAL_KUBERNETES names its folder): embedded API only" >&2
