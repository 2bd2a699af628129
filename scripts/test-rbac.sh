#!/usr/bin/env bash
# The controllers with exactly the rights that the chart gives them, on a real API server with RBAC: they must do all
# their work, and never be refused anything.
#   KUBECONFIG        an administrator of an empty test cluster (an API server and etcd are enough)
#   CARACAL_BIN_DIR   where caracal-controllers is (default: target/release)
set -euo pipefail
cd "$(dirname "$0")/.."
bin=${CARACAL_BIN_DIR:-$PWD/target/release}
fail() { echo "test-rbac: $*" >&2; [ -f "${log:-}" ] && tail -n 20 "$log" >&2; exit 1; }
[ -n "${KUBECONFIG:-}" ] || fail "name the kubeconfig of an empty test cluster in KUBECONFIG"
[ -x "$bin/caracal-controllers" ] || fail "$bin/caracal-controllers is missing; run 'make build', or set CARACAL_BIN_DIR"
command -v kubectl >/dev/null || fail "kubectl is missing"
[ -z "$(kubectl get ippools.projectcalico.org -o name --ignore-not-found 2>/dev/null)" ] || fail "this cluster has pools: it is no empty test cluster"

work=$(mktemp -d) log=$work/log pid=
finish() { [ -z "$pid" ] || kill "$pid" 2>/dev/null || true; rm -rf "$work"; }
trap finish EXIT
until_ok() { # until_ok WHAT COMMAND…
  local what=$1 deadline=$((SECONDS + 60)); shift
  until "$@" >/dev/null 2>&1; do [ $SECONDS -lt $deadline ] || fail "not within a minute: $what"; sleep 0.5; done
}
gone() { ! kubectl get "$@" >/dev/null 2>&1; }
field() { [ "$(kubectl get "${@:3}" -o jsonpath="$2")" = "$1" ]; } # field VALUE PATH OBJECT…
answered() { # the node's word, as its agent gives it
  local id
  id=$(kubectl get node rbac-1 -o jsonpath='{.metadata.annotations.caracal\.dev/address-question}' | sed -n 's/^{"id":"\([^"]*\)".*/\1/p')
  [ -n "$id" ] && kubectl annotate --overwrite node rbac-1 "caracal.dev/address-answer={\"id\":\"$id\",\"held\":[]}"
}

echo "definitions and rights"
kubectl apply --server-side -f charts/caracal-crds/templates >/dev/null
{
  printf 'apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: rbac-test}\nrules:\n'
  cat charts/caracal/files/controllers-clusterrole.yaml
  printf -- '---\napiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: rbac-test, namespace: kube-system}\nrules:\n'
  cat charts/caracal/files/controllers-role.yaml
} | kubectl apply -f - >/dev/null
kubectl -n kube-system create serviceaccount rbac-test --dry-run=client -o yaml | kubectl apply -f - >/dev/null
kubectl create clusterrolebinding rbac-test --clusterrole=rbac-test --serviceaccount=kube-system:rbac-test --dry-run=client -o yaml | kubectl apply -f - >/dev/null
kubectl -n kube-system create rolebinding rbac-test --role=rbac-test --serviceaccount=kube-system:rbac-test --dry-run=client -o yaml | kubectl apply -f - >/dev/null

echo "a policy under its old name"
kubectl apply -f - >/dev/null <<'YAML'
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: default.web, namespace: default, annotations: {projectcalico.org/metadata: '{"name":"web"}'}}
spec: {selector: all()}
YAML

cat >"$work/kubeconfig" <<YAML
apiVersion: v1
kind: Config
current-context: test
contexts: [{name: test, context: {cluster: test, user: test}}]
clusters: [{name: test, cluster: {server: "$(kubectl config view --raw --minify -o jsonpath='{.clusters[0].cluster.server}')", certificate-authority-data: "$(kubectl config view --raw --minify --flatten -o jsonpath='{.clusters[0].cluster.certificate-authority-data}')"}}]
users: [{name: test, user: {token: "$(kubectl -n kube-system create token rbac-test)"}}]
YAML
env -u KUBECONFIG CARACAL_LOG=info "$bin/caracal-controllers" --kubeconfig "$work/kubeconfig" --metrics none --health none >"$log" 2>&1 &
pid=$!
until_ok "default tiers" kubectl get tiers.projectcalico.org default kube-admin kube-baseline
until_ok "the configuration" kubectl get kubecontrollersconfigurations.projectcalico.org default
until_ok "the policy under its new name" kubectl get networkpolicies.projectcalico.org web
until_ok "the old policy to go" gone networkpolicies.projectcalico.org default.web

echo "leaks, a node and a pool that go, host endpoints, forecast"
kubectl patch kubecontrollersconfigurations.projectcalico.org default --type merge -p '{"spec":{"controllers":{"node":{"leakGracePeriod":"2s","hostEndpoint":{"autoCreate":"Enabled"}}}}}' >/dev/null
object() { printf -- '---\napiVersion: %s\nkind: %s\nmetadata: {name: %s}\n' "$@"; }
block() { # block NODE PREFIX: a block of two addresses, one of which a pod that is not there had
  object projectcalico.org/v3 IPAMBlock "${2//./-}-31"
  printf 'spec: {cidr: %s/31, affinity: "host:%s", allocations: [0, null], unallocated: [1], sequenceNumber: 5, sequenceNumberForAllocation: {"0": 4}, deleted: false, strictAffinity: false, attributes: [{handle_id: net.%s, secondary: {node: %s, namespace: default, pod: gone}}]}\n' "$2" "$1" "$1" "$1"
  object projectcalico.org/v3 BlockAffinity "$1-${2//./-}-31"
  printf 'spec: {node: %s, cidr: %s/31, state: confirmed, type: host, deleted: false}\n' "$1" "$2"
  object projectcalico.org/v3 IPAMHandle "net.$1"
  printf 'spec: {handleID: net.%s, block: {%s/31: 1}, deleted: false}\n' "$1" "$2"
}
{
  for node in rbac-1 rbac-2; do object v1 Node $node; done
  object projectcalico.org/v3 IPPool rbac; echo 'spec: {cidr: 10.255.0.0/30, blockSize: 31}'
  object projectcalico.org/v3 IPPool rbac-going; echo 'spec: {cidr: 10.255.1.0/30, blockSize: 31}'
  object projectcalico.org/v3 Tier rbac; echo 'spec: {order: 5, defaultAction: Deny}'
  object projectcalico.org/v3 CalicoNodeStatus rbac; echo 'spec: {node: rbac-2, classes: [Agent], updatePeriodSeconds: 10}'
  block rbac-1 10.255.0.0
  block rbac-2 10.255.0.2
} | kubectl create --validate=false -f - >/dev/null
kubectl patch --subresource=status caliconodestatuses.projectcalico.org rbac --type merge -p '{"status":{"lastUpdated":"2026-01-01T00:00:00Z"}}' >/dev/null
until_ok "host endpoints" kubectl get hostendpoints.projectcalico.org rbac-1-auto-hep rbac-2-auto-hep
until_ok "the pool's finalizer" field '["projectcalico.org/ippool-finalizer"]' '{.metadata.finalizers}' ippools.projectcalico.org rbac-going
until_ok "the tier's finalizer" field '["projectcalico.org/tier-controller"]' '{.metadata.finalizers}' tiers.projectcalico.org rbac
kubectl delete --wait=false ippools.projectcalico.org/rbac-going tiers.projectcalico.org/rbac node/rbac-2 >/dev/null
until_ok "the pool to go" gone ippools.projectcalico.org rbac-going
until_ok "the tier to go" gone tiers.projectcalico.org rbac
until_ok "the node's block to go" gone ipamblocks.projectcalico.org 10-255-0-2-31
until_ok "the node's handle to go" gone ipamhandles.projectcalico.org net.rbac-2
until_ok "the node's host endpoint to go" gone hostendpoints.projectcalico.org rbac-2-auto-hep
until_ok "the node's status to be emptied" field '' '{.status.lastUpdated}' caliconodestatuses.projectcalico.org rbac
until_ok "a question to the other node" answered
until_ok "the leak to be freed" gone ipamhandles.projectcalico.org net.rbac-1
# Two of its addresses are reserved away: nothing is left.
kubectl create -f - >/dev/null <<'YAML'
apiVersion: projectcalico.org/v3
kind: IPReservation
metadata: {name: rbac}
spec: {reservedCIDRs: [10.255.0.0/30]}
YAML
until_ok "the forecast" field Exhausted '{.status.conditions[?(@.type=="AddressesRunningOut")].reason}' ippools.projectcalico.org rbac
[ -n "$(kubectl get events -n default --field-selector reason=AddressesRunningOut -o name)" ] || fail "no Event tells of the shortage"
kill "$pid"; wait "$pid" || fail "ended with an error"; pid=
[ -z "$(kubectl -n kube-system get lease caracal-controllers -o jsonpath='{.spec.holderIdentity}')" ] || fail "the Lease was not given up"
if grep -E 'give this user the right|forbidden' "$log"; then fail "was refused a right"; fi
echo "test-rbac: all done with the chart's rights, and nothing refused"
