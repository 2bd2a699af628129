#!/usr/bin/env bash
# Proves that the network of a cluster of nodes.sh works: a pod on every node, pod to pod between nodes, a Service,
# kubectl exec and logs, a NetworkPolicy that refuses and one that admits. Ends with an error at the first failure.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"
NS=smoke
k() { kctl -n "$NS" "$@"; }
fetch() { k exec "$1" -- curl -gsS -m "${3:-5}" "$2" </dev/null; } # fetch POD URL [SECONDS]
bracketed() { if [[ $1 == *:* ]]; then echo "[$1]"; else echo "$1"; fi; }

workload() {
  cat <<YAML
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      tolerations: [{operator: Exists}]
      containers:
      - name: web
        image: caracal.test/e2e/agnhost:$(cat "$IMAGES/agnhost.version")
        imagePullPolicy: IfNotPresent
        args: [netexec, --http-port=8080]
        readinessProbe: {httpGet: {path: /hostname, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
YAML
}

policy() { # policy NAME SPEC
  printf '{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","metadata":{"name":"%s"},"spec":%s}' "$1" "$2" | k apply -f - >/dev/null
}

every_pod_reaches_every_pod() {
  local from name ip answer
  while read -r from _; do
    while read -r name ip; do
      answer=$(fetch "$from" "http://$(bracketed "$ip"):8080/hostname") || die "$from cannot reach $name at $ip"
      [[ $answer == "$name" ]] || die "$ip answered as '$answer', not as $name"
    done <<<"$pods"
  done < <(awk '!seen[$1]++' <<<"$pods")
  log "every pod reaches every pod"
}

service_answers() {
  local from answers i service=$1
  while read -r from _; do
    answers=''
    for ((i = 0; i < 12; i++)); do answers+="$(fetch "$from" "http://$service/hostname")"$'\n' || die "$from cannot reach the service at $service"; done
    log "$from: the service answered from $(sort -u <<<"$answers" | grep -c .) of $nodes pods"
  done < <(awk '!seen[$1]++' <<<"$pods")
}

policy_is_enforced() {
  local from name ip
  from=$(awk 'NR == 1 {print $1}' <<<"$pods")
  read -r name ip < <(awk -v from="$from" '$1 != from {print; exit}' <<<"$pods") || true
  [[ -n ${name:-} ]] || { log "one node only: policy between nodes is not looked at"; return 0; }
  ip=$(bracketed "$ip")
  policy nobody '{"podSelector":{},"policyTypes":["Ingress"]}'
  refused() { ! fetch "$from" "http://$ip:8080/hostname" 1; }
  admitted() { fetch "$from" "http://$ip:8080/hostname" 1; }
  poll 15 refused || die "a policy that admits nobody does not keep $from from $name"
  policy web-only '{"podSelector":{"matchLabels":{"app":"web"}},"ingress":[{"from":[{"podSelector":{"matchLabels":{"app":"web"}}}]}]}'
  poll 15 admitted || die "a policy that admits app=web keeps $from from $name"
  k delete networkpolicy --all >/dev/null
  log "policy refuses and admits"
}

need_bin kubectl
nodes=$(kctl get nodes -o name | wc -l)
kctl delete namespace "$NS" --ignore-not-found --wait >/dev/null
kctl create namespace "$NS" >/dev/null
poll 30 k get serviceaccount default || die "no service account was made"
workload | k apply -f - >/dev/null
k rollout status daemonset/web --timeout="${SMOKE_TIMEOUT:-120}s" >/dev/null || { k describe pods | tail -40 >&2; die "pods did not become ready"; }
k get pods -o wide >&2
# One line for each address.
pods=$(k get pods -o jsonpath='{range .items[*]}{.metadata.name} {.status.podIPs[*].ip}{"\n"}{end}' | awk '{for (i = 2; i <= NF; i++) print $1, $i}')
every_pod_reaches_every_pod
service_answers "$(k get service web -o jsonpath='{.spec.clusterIP}')"
policy_is_enforced
k logs "$(awk 'NR == 1 {print $1}' <<<"$pods")" >/dev/null || die "kubectl logs failed"
kctl delete namespace "$NS" --wait >/dev/null
log "smoke: pods on $nodes nodes, pod to pod, service, exec, logs, policy: fine"
