#!/usr/bin/env bash
# Pods are made and deleted on a cluster of nodes.sh with Caracal's chart while its programs, the API server, etcd,
# kubelets and a whole node go away and come back. Afterwards nothing may be left or missing: every pod has its network,
# every address in use is a pod's, every interface and route of a node is one of its pods'.
#
#   churn.sh [PODS]      pods to make in all (1000); about one a second
#
#   CARACALCTL           the program (default: caracalctl in the path)
#   FAULTS               those to inject, of: felix bgpd agent apiserver etcd containerd kubelet node forget (all)
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"
NS=churn RELEASE_NS=${RELEASE_NS:-caracal-system}
GROUPS_OF_PODS=4
ctl=${CARACALCTL:-caracalctl}
k() { kctl -n "$NS" "$@"; }
fail() { printf 'churn: %s\n' "$*" >&2; exit 1; }
node_exec() { "$here/nodes.sh" exec "$@"; }
nodes() { kctl get nodes -o jsonpath='{.items[*].metadata.name}'; }
last_node() { nodes | tr ' ' '\n' | sed 's/^node//' | sort -n | tail -1; }

# Inside the node's own process namespace, so nobody else's process is met.
kill_in_node() { # kill_in_node N NAME
  node_exec "$1" sh -c "kill -9 \$(pidof $2)" 2>/dev/null || log "node$1: no $2 to kill"
}
control_plane() { CARACAL_K8S_FABRIC=1 "$here/control-plane.sh" "$@" >/dev/null; }

inject() { # inject FAULT
  local n
  n=$(last_node)
  log "fault: $1"
  case $1 in
  felix) kill_in_node 1 caracal-felix ;;
  bgpd) kill_in_node "$n" caracal-bgpd ;;
  agent) kctl -n "$RELEASE_NS" delete pod -l app.kubernetes.io/component=node --field-selector "spec.nodeName=node$n" --wait=false >/dev/null ;;
  apiserver) control_plane restart kube-apiserver ;;
  etcd) control_plane restart etcd ;;
  containerd) kill_in_node 1 containerd ;;
  kubelet) kill_in_node "$n" kubelet ;;
  node) # as when its power is cut and its disk is new; the API is away while it boots
    control_plane stop kube-apiserver
    "$here/nodes.sh" stop "$n" 2>/dev/null
    control_plane up
    "$here/nodes.sh" up "$n" >/dev/null 2>&1
    [[ -z ${NODE_IMAGES:-} ]] || "$here/nodes.sh" load $NODE_IMAGES ;;
  forget) # deleted, and registered again under its name
    kctl delete node "node$n" --wait=false >/dev/null
    sleep 2
    kill_in_node "$n" kubelet ;;
  *) fail "unknown fault '$1'" ;;
  esac
}

group() { # group NUMBER: a Deployment without pods yet
  cat <<YAML
apiVersion: apps/v1
kind: Deployment
metadata: {name: churn-$1}
spec:
  replicas: 0
  selector: {matchLabels: {churn: "$1"}}
  template:
    metadata: {labels: {churn: "$1"}}
    spec:
      terminationGracePeriodSeconds: 0
      # A node that is gone for a moment gives its pods up after a moment.
      tolerations:
      - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 20}
      - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 20}
      containers:
      - {name: pause, image: "caracal.test/e2e/agnhost:$(cat "$IMAGES/agnhost.version")", imagePullPolicy: IfNotPresent, args: [netexec, --http-port=8080]}
YAML
}

scale() { # scale NUMBER REPLICAS; the API may be away for a moment
  poll 120 k scale deployment "churn-$1" --replicas="$2" || fail "the API server stays away"
}
settled() { # settled NUMBER REPLICAS
  [[ $(k get deployment "churn-$1" -o jsonpath='{.status.readyReplicas}') == "$2" ]] && [[ $(k get pods -l "churn=$1" -o name | wc -l) == "$2" ]]
}

# Every address that is in use is a pod's or the node's, and the other way round.
addresses_agree() {
  local out
  out=$(inside "$ctl" --kubeconfig "$K8S_STATE/admin.kubeconfig" ipam check 2>&1) && grep -q 'found 0 problems' <<<"$out" || { last_check=$out; return 1; }
}

# A node has an interface and a route for each of its pods in the pod network, and no other.
kernel_agrees() { # kernel_agrees N
  local wanted there
  wanted=$(kctl get pods -A --field-selector "spec.nodeName=node$1" -o json |
    jq -r '.items[] | select(.spec.hostNetwork != true and .status.phase == "Running") | .status.podIP' | sort)
  there=$(node_exec "$1" ip -4 route show | awk '/dev cali/ {print $1}' | sort)
  [[ $wanted == "$there" ]] || { last_kernel="node$1: pods $(tr '\n' ' ' <<<"$wanted")- routes $(tr '\n' ' ' <<<"$there")"; return 1; }
  [[ $(node_exec "$1" ip -o link show type veth | grep -c ': cali') == $(grep -c . <<<"$wanted" || true) ]]
}

every_pod_answers() {
  local address
  for address in $(k get pods -o jsonpath='{.items[*].status.podIP}'); do
    node_exec 1 curl -sS -m 5 -o /dev/null "http://$address:8080/hostname" || { log "no answer from $address"; return 1; }
  done
}

main() {
  local total=${1:-1000} made=0 wave=0 n g faults fault
  need jq curl
  command -v "$ctl" >/dev/null || fail "'$ctl' is missing; name caracalctl in CARACALCTL"
  read -ra faults <<<"${FAULTS:-felix apiserver bgpd kubelet agent etcd containerd node forget}"
  kctl delete namespace "$NS" --ignore-not-found --wait >/dev/null
  kctl create namespace "$NS" >/dev/null
  for ((g = 1; g <= GROUPS_OF_PODS; g++)); do group $g | k apply -f - >/dev/null; done
  # Leaks are cleared within the run, not after a quarter of an hour.
  kctl patch kubecontrollersconfigurations.projectcalico.org default --type merge -p '{"spec":{"controllers":{"node":{"leakGracePeriod":"15s"}}}}' >/dev/null
  local size=$((total / 20 > 25 ? 25 : total / 20 < 5 ? 5 : total / 20))
  while ((made < total)); do
    g=$((wave % GROUPS_OF_PODS + 1))
    scale $g $size
    made=$((made + size))
    fault=${faults[$((wave % ${#faults[@]}))]}
    sleep 2
    inject "$fault"
    # The wave before is taken away while this one comes.
    scale $(((wave + GROUPS_OF_PODS - 1) % GROUPS_OF_PODS + 1)) 0
    poll 240 settled $g $size || { k get pods -o wide >&2; k get events --sort-by=.lastTimestamp | tail -5 >&2; fail "wave $((wave + 1)) did not become ready after the fault '$fault'"; }
    wave=$((wave + 1))
    log "$made pods made"
  done
  for ((g = 1; g <= GROUPS_OF_PODS; g++)); do scale $g 2; done
  for ((g = 1; g <= GROUPS_OF_PODS; g++)); do poll 240 settled $g 2 || fail "the last pods did not become ready"; done
  poll 60 every_pod_answers || fail "a pod has no network"
  for n in $(nodes); do poll 60 kernel_agrees "${n#node}" || fail "the kernel is not as the pods are: ${last_kernel:-interfaces}"; done
  poll 240 addresses_agree || { printf '%s\n' "$last_check" >&2; fail "addresses are not as the pods are"; }
  kctl delete namespace "$NS" --wait >/dev/null
  for n in $(nodes); do poll 60 kernel_agrees "${n#node}" || fail "something stayed in the kernel: ${last_kernel:-interfaces}"; done
  log "churn: $made pods in $wave waves, a fault in each: addresses, routes and interfaces as they should be"
}
main "$@"
