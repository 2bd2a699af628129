#!/usr/bin/env bash
# What CI runs on real nodes: with the cache of scripts/kubernetes two nodes, the chart and the smoke, in a few minutes.
# Without the cache, root or images it leaves that out, and its last lines say what and why: a green run without them
# has shown less.
set -uo pipefail
cd "$(dirname "$0")/.."
LIMIT=${CI_E2E_LIMIT:-300}
left_out=()
HELM_MISSING_CODE=0 scripts/test-chart.sh || exit 1
command -v helm >/dev/null || scripts/kubernetes/build.sh list helm | grep -qv 'not built' ||
  left_out+=("the tests of the chart: helm is not built (scripts/kubernetes/build.sh helm)")
scripts/test-docs.sh || exit 1

why=
missing=$(scripts/kubernetes/build.sh list cluster | awk '/not built/ && $1 != "coredns" && $1 != "cnitool" { print $1 }' | paste -sd' ')
if [ -n "$missing" ]; then
  why="the cache of Kubernetes lacks: $missing (key $(scripts/kubernetes/build.sh key); fill it with: scripts/kubernetes/build.sh cluster)"
elif [ "$(id -u)" != 0 ]; then
  why="nodes need root"
elif [ ! -e "${IMAGES_DIR:-target/images}/caracal-node.tar" ]; then
  why="there are no images: make images"
elif ! unshare --mount --pid --net --fork true 2>/dev/null; then
  why="namespaces cannot be made here"
fi
if [ -z "$why" ]; then
  # TERM lets it take its cluster away.
  timeout --signal=TERM --kill-after=60 "$LIMIT" scripts/test-e2e.sh smoke || { echo "ci-e2e: the smoke on real nodes failed, or took longer than $LIMIT s" >&2; exit 1; }
else
  left_out+=("two real nodes with the chart, and the smoke: $why")
fi
[ -n "${CI_E2E_ALL:-}" ] || left_out+=("Netpol, churn and faults on real nodes: they take longer; make test-e2e, make test-e2e PART=churn")
command -v promtool >/dev/null || left_out+=("the tests of the alerts: promtool is missing")
for line in "${left_out[@]}"; do echo "NOT RUN: $line"; done
