#!/usr/bin/env bash
# Runs upstream's end-to-end tests on a cluster of nodes.sh whose network enforces NetworkPolicy.
#
#   e2e.sh list [FOCUS]      names of the tests that match
#   e2e.sh run [FOCUS]       runs them (Netpol); JUnit and log are kept in CARACAL_E2E_RESULTS
#   e2e.sh conformance       those of sig-network that are tagged [Conformance]
#
#   CARACAL_E2E_RESULTS      directory for the result files (default $CARACAL_K8S_STATE/e2e)
#   CARACAL_E2E_SKIP         regular expression of tests to leave out (default: SCTP, where the kernel has none)
#   CARACAL_E2E_TIMEOUT      for the whole run (60m)
#   CARACAL_E2E_ARGS         more arguments for e2e.test
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"
RESULTS=${CARACAL_E2E_RESULTS:-$K8S_STATE/e2e}

# Servers of SCTP never come up on a kernel without it.
default_skip() { if grep -q '^SCTP' /proc/net/protocols; then echo '^$'; else echo SCTP; fi; }

run() { # run FOCUS [ARGUMENT…]
  local focus=$1; shift
  need_bin e2e.test kubectl
  [[ -e $K8S_STATE/admin.kubeconfig ]] || die "no cluster runs; start one with: nodes.sh up 2"
  mkdir -p "$RESULTS"
  # Upstream's names of images lead to those that images.sh made.
  cat >"$RESULTS/repos.yaml" <<'YAML'
promoterE2eRegistry: caracal.test/e2e
gcRegistry: caracal.test
gcEtcdRegistry: caracal.test
sigStorageRegistry: caracal.test
dockerLibraryRegistry: caracal.test
YAML
  # shellcheck disable=SC2086
  KUBE_TEST_REPO_LIST=$RESULTS/repos.yaml PATH=$BIN:$PATH inside "$BIN/e2e.test" \
    --kubeconfig="$K8S_STATE/admin.kubeconfig" --provider=local --kubectl-path="$BIN/kubectl" \
    --num-nodes=-1 --allowed-not-ready-nodes=0 --prepull-images=false --disable-log-dump=true \
    --report-dir="$RESULTS" --ginkgo.focus="$focus" --ginkgo.skip="${CARACAL_E2E_SKIP:-$(default_skip)}" \
    --ginkgo.timeout="${CARACAL_E2E_TIMEOUT:-60m}" --ginkgo.no-color ${CARACAL_E2E_ARGS:-} "$@" 2>&1 |
    tee "$RESULTS/log.txt"
}

case ${1:-} in
list) run "${2:-Netpol}" --ginkgo.dry-run --ginkgo.v | grep -E '^\s*\[sig-|^\[It\]|^\[sig' | sort -u ;;
run) run "${2:-Netpol}" ;;
conformance) run '\[sig-network\].*\[Conformance\]' ;;
*) usage "$@" ;;
esac
