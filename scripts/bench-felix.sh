#!/usr/bin/env bash
# felix on a node of its own: start, changes, traffic and memory, in one backend or both, as Markdown tables.
#   scripts/bench-felix.sh [iptables|nftables|both]
# Sizes: PODS="0 100 1000" POLICIES="0 1000 10000" SELECTING="0 1 100 1000 10000" CIDRS=100000 ROUNDS=15 IDLE=5.
# PROFILE=dev measures nothing worth keeping, but shows that it works. Needs root, nft, iptables, ipset.
set -euo pipefail
cd "$(dirname "$0")/.."

which=${1:-both} profile=${PROFILE:-release} cargo=${CARGO:-cargo}
[ "$(id -u)" = 0 ] || { echo "network namespaces need root: sudo $0 $*" >&2; exit 1; }
for program in nft iptables-nft-restore ipset; do
  command -v "$program" >/dev/null || { echo "$program is missing: run make deps" >&2; exit 1; }
done
case $which in
  iptables | nftables) backends=$which ;;
  both) backends="iptables nftables" ;;
  *) echo "$which: write iptables, nftables or both" >&2; exit 1 ;;
esac

dir=$profile; [ "$profile" = dev ] && dir=debug
# The bench is built in the profile of the program that it measures.
flags=(--profile "$profile")
"$cargo" build --locked "${flags[@]}" -p caracal-apiserver -p caracal-felix --bins
bench=$("$cargo" bench --locked "${flags[@]}" -p caracal-felix --bench node --no-run --message-format=json 2>/dev/null |
  jq -r 'select(.target.name == "node" and .executable != null) | .executable' | tail -1)
[ -n "$bench" ] || { echo "the measuring program was not built: cargo bench -p caracal-felix --bench node --no-run" >&2; exit 1; }
export CARACAL_APISERVER=$PWD/${CARGO_TARGET_DIR:-target}/$dir/caracal-apiserver
case ${CARGO_TARGET_DIR:-} in /*) CARACAL_APISERVER=$CARGO_TARGET_DIR/$dir/caracal-apiserver ;; esac
for backend in $backends; do
  BACKEND=$backend "$bench"
done
