#!/usr/bin/env bash
# The datastore's suite against a real kube-apiserver on etcd, and the embedded server held to the same answers.
#   test-kube.sh            compares
#   RECORD=1 test-kube.sh   writes the real server's answers anew, then compares
# The programs come from scripts/kubernetes/build.sh.
set -euo pipefail
cd "$(dirname "$0")/.."

export CARACAL_K8S_STATE=${CARACAL_K8S_STATE:-$(mktemp -d)/kube}
trap 'scripts/kubernetes/control-plane.sh down' EXIT
# A server that was started again has forgotten the first versions: that is what 410 is tested with.
start() { scripts/kubernetes/control-plane.sh up >/dev/null && scripts/kubernetes/control-plane.sh restart; }
start
CARACAL_TEST_KUBECONFIG=$CARACAL_K8S_STATE/admin.kubeconfig
export CARACAL_TEST_KUBECONFIG
if [ "${RECORD:-0}" = 1 ]; then
  CARACAL_RECORD=1 cargo test --locked -p caracal-datastore --test agree -- --ignored real_
  scripts/kubernetes/control-plane.sh down
  start
fi
cargo test --locked -p caracal-datastore --no-fail-fast --test agree --test it -- --include-ignored
