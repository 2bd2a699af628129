#!/usr/bin/env bash
# The chart on real nodes, as a user installs it, judged by programs that others wrote. Needs root.
#
#   test-e2e.sh             cluster, chart, smoke, top-of-rack, helm test, upgrade and rollback, Netpol, uninstall
#   test-e2e.sh smoke       the same without Netpol: a few minutes
#   test-e2e.sh churn       smoke, then CHURN (1000) pods while programs, API server and nodes go away and come back
#
#   NODES (2)  PROXY=nftables|iptables (nftables)  FOCUS (Netpol)
#   IMAGES_DIR (target/images)   archives of the images, as `make images` writes them
#   RESULTS (target/e2e)         where result files and logs are kept
#   KEEP=1                       leaves the cluster standing
#
# Programs: scripts/kubernetes/build.sh cluster e2e.test. It makes a cluster of its own and takes it away again.
set -Eeuo pipefail
cd "$(dirname "$0")/.."
export CARACAL_K8S_NAME=${CARACAL_K8S_NAME:-ck8se2e}
export CARACAL_K8S_STATE=${CARACAL_K8S_STATE:-${TMPDIR:-/tmp}/$CARACAL_K8S_NAME}
export CARACAL_K8S_CNI=none CARACAL_K8S_PROXY=${PROXY:-nftables}
kube=scripts/kubernetes
here=$PWD/$kube
. $kube/lib.sh

part=${1:-all} nodes=${NODES:-2} results=${RESULTS:-$PWD/target/e2e} archives=${IMAGES_DIR:-$PWD/target/images}
release=caracal namespace=caracal-system
TOR_AS=64601
FABRIC=1

fail() { printf 'test-e2e: %s\n' "$*" >&2; exit 1; }
step() { printf '\n== %s\n' "$*"; }
helm() { inside "$BIN/helm" --kubeconfig "$K8S_STATE/admin.kubeconfig" --namespace "$namespace" "$@" 2> >(grep -v 'found symbolic link' >&2); }
k() { kctl -n "$namespace" "$@"; }
node_names() { kctl get nodes -o jsonpath='{.items[*].metadata.name}'; }
seconds() { date +%s.%N; }
since() { awk -v a="$1" -v b="$(seconds)" 'BEGIN { printf "%.1f", b - a }'; }

preconditions() {
  local missing
  [[ $part =~ ^(all|smoke|churn)$ ]] || fail "what is '$part'? nothing, smoke or churn"
  need_root
  need bird birdc jq curl
  missing=$($kube/build.sh list cluster | awk '/not built/ && $1 != "coredns" && $1 != "cnitool" { print $1 }' | paste -sd' ')
  [[ -z $missing ]] || fail "not built: $missing; build with: $kube/build.sh $missing"
  [[ $part != all || -x $BIN/e2e.test ]] || fail "upstream's tests are not built; build with: $kube/build.sh e2e.test"
  for image in node controllers ctl; do
    [[ -e $archives/caracal-$image.tar ]] || fail "$archives/caracal-$image.tar is missing; make it with: make images"
  done
  [[ ! -e $K8S_STATE ]] || fail "$K8S_STATE exists: another run, or what a run with KEEP=1 left; take it away with: CARACAL_K8S_NAME=$CARACAL_K8S_NAME CARACAL_K8S_STATE=$K8S_STATE $kube/nodes.sh down"
}

keep_logs() {
  local n pod
  mkdir -p "$results/logs"
  for n in "$K8S_STATE"/nodes/node*/log; do
    [[ -d $n ]] || continue
    mkdir -p "$results/logs/$(basename "$(dirname "$n")")" && cp "$n"/*.log "$results/logs/$(basename "$(dirname "$n")")/" 2>/dev/null
  done
  for pod in $(k get pods -o name 2>/dev/null); do
    k logs "$pod" --all-containers --prefix >"$results/logs/${pod##*/}.log" 2>&1
    k logs "$pod" --all-containers --previous >"$results/logs/${pod##*/}.previous.log" 2>/dev/null || rm -f "$results/logs/${pod##*/}.previous.log"
  done
  kctl get nodes,pods -A -o wide >"$results/logs/objects.txt" 2>&1
}

finish() {
  local code=$?
  trap - EXIT
  set +e
  keep_logs
  if [[ ${KEEP:-0} == 1 ]]; then
    printf '\nThe cluster is left standing:\n  export CARACAL_K8S_NAME=%s CARACAL_K8S_STATE=%s\n  %s/nodes.sh kubectl get pods -A -o wide\n  %s/nodes.sh down\n' \
      "$CARACAL_K8S_NAME" "$K8S_STATE" "$kube" "$kube"
  else
    $kube/nodes.sh down >/dev/null 2>&1 || { echo "test-e2e: could not take the cluster away" >&2; code=1; }
  fi
  [[ $code == 0 ]] || echo "test-e2e: failed; logs are in $results" >&2
  exit $code
}

# The fabric's own router, as a network team would set one up: it accepts what nodes announce and gives it its kernel.
router() {
  cat >"$results/bird.conf" <<BIRD
router id $FABRIC_IP4;
protocol device {}
protocol kernel { ipv4 { import none; export all; }; }
protocol bgp nodes {
  local $FABRIC_IP4 as $TOR_AS;
  neighbor range 172.30.0.0/24 as 64512;
  dynamic name "node";
  passive;
  ipv4 { import all; export none; };
}
BIRD
  spawn bird nsenter --net="/run/netns/$FABRIC_NS" bird -f -c "$results/bird.conf" -s "$results/bird.ctl" -P "$results/bird.pid"
}
birdc_() { birdc -s "$results/bird.ctl" "$@"; }

values() {
  jq -n --arg tor "$FABRIC_IP4" --argjson number "$TOR_AS" '{
    image: {pullPolicy: "IfNotPresent"},
    ipPools: [{name: "pods", cidr: "10.244.0.0/16", natOutgoing: true}],
    bgp: {peers: [{name: "tor", peerIP: $tor, asNumber: $number}]},
    node: {logFormat: "text"}, controllers: {logFormat: "text"}
  }'
}

all_ready() { [[ $(kctl get nodes -o json | jq '[.items[].status.conditions[] | select(.type == "Ready" and .status == "True")] | length') == "$nodes" ]]; }
rolled_out() {
  k rollout status daemonset/$release-node --timeout=120s >/dev/null || { k describe pods | tail -60 >&2; fail "the node agents are not ready"; }
  k rollout status deployment/$release-controllers --timeout=120s >/dev/null || fail "the controllers are not ready"
}

install() {
  local begin
  values >"$results/values.json"
  begin=$(seconds)
  helm install "$release" charts/caracal --create-namespace --values "$results/values.json" >"$results/notes.txt" || fail "helm install"
  poll 120 all_ready || { k get pods -o wide >&2; kctl describe nodes | grep -A12 '^Conditions' >&2; fail "nodes did not become Ready"; }
  ready_after=$(since "$begin")
  echo "nodes Ready $ready_after s after helm install was called"
  rolled_out
}

# One block a node at least, by the router's own words; and a machine behind it reaches a pod by its own address.
top_of_rack() {
  local seen address
  blocks_seen() { [[ $(birdc_ show route | grep -cE '^10\.244\.[0-9.]+/26') -ge $nodes ]]; }
  k create deployment reach --image="caracal.test/e2e/agnhost:$(cat "$IMAGES/agnhost.version")" --replicas="$nodes" -- /agnhost netexec --http-port=8080 >/dev/null
  k rollout status deployment/reach --timeout=60s >/dev/null || fail "a Deployment does not become ready"
  poll 30 blocks_seen || { birdc_ show protocols >&2; birdc_ show route >&2; fail "the router does not see a block of each node"; }
  birdc_ show route | grep -E '^10\.244' | tee "$results/router.txt"
  address=$(k get pods -l app=reach -o jsonpath='{.items[0].status.podIP}')
  seen=$(inside curl -sS -m 5 "http://$address:8080/clientip") || fail "the router does not reach a pod at $address"
  grep -q "^$FABRIC_IP4" <<<"$seen" || fail "the pod saw $seen, not the router's own address"
  k delete deployment reach >/dev/null
}

# A pod on one node talks to one on the other through it all; what is lost is counted.
upgrade_and_rollback() {
  local pods from to lost log=$results/ping.txt
  k create deployment talk --image="caracal.test/e2e/agnhost:$(cat "$IMAGES/agnhost.version")" --replicas="$nodes" -- /agnhost netexec --http-port=8080 >/dev/null
  k rollout status deployment/talk --timeout=60s >/dev/null || fail "a Deployment does not become ready"
  pods=$(k get pods -l app=talk -o json | jq -r '[.items[] | {n: .metadata.name, ip: .status.podIP, on: .spec.nodeName}] | sort_by(.on) | "\(.[0].n) \(.[-1].ip)"')
  read -r from to <<<"$pods"
  k exec "$from" -- ping -i 0.1 -c 400 "$to" >"$log" 2>&1 &
  local ping=$!
  sleep 1
  helm upgrade "$release" charts/caracal --reuse-values --set node.podAnnotations.upgraded=yes >/dev/null || fail "helm upgrade"
  rolled_out
  helm rollback "$release" 1 >/dev/null || fail "helm rollback"
  rolled_out
  wait "$ping" || true
  lost=$(grep -oE '[0-9]+% packet loss' "$log" || echo unknown)
  tail -n 2 "$log"
  [[ $lost == "0% packet loss" ]] || fail "an upgrade and its rollback lost packets: $lost (see $log)"
  k delete deployment talk >/dev/null
}

netpol() {
  local passed failed skipped
  # Netpol goes by addresses; a wider focus may want names.
  if [[ -x $BIN/coredns ]]; then $kube/dns.sh up; else echo "no cluster DNS: coredns is not built"; fi
  CARACAL_E2E_RESULTS=$results $kube/e2e.sh run "${FOCUS:-Netpol}" >"$results/e2e.out" || true
  [[ -e $results/junit_01.xml ]] || { tail -n 30 "$results/log.txt" >&2; fail "upstream's tests left no results"; }
  grep -E '^(Ran |PASS|FAIL!|SUCCESS!)' "$results/log.txt" | tail -n 4 || true
  failed=$(grep -oE '^\s+\[FAIL\].*' "$results/log.txt" | sort -u || true)
  [[ -z $failed ]] || { printf '%s\n' "$failed" >&2; fail "upstream's tests fail"; }
}

# Rights are the least that works: whoever was refused something says so in its log.
rights() {
  local pod refused=''
  for pod in $(k get pods -l app.kubernetes.io/part-of=caracal -o name); do
    refused+=$(k logs "$pod" --all-containers | grep -iE 'forbidden|give this user the right' | head -n 3 || true)
  done
  [[ -z $refused ]] || { printf '%s\n' "$refused" >&2; fail "the chart's rights do not suffice"; }
  echo "nothing was refused"
}

# What is told to stay stays: running pods, the definitions and what was written by users.
uninstall() {
  local from to
  k create deployment stay --image="caracal.test/e2e/agnhost:$(cat "$IMAGES/agnhost.version")" --replicas="$nodes" -- /agnhost netexec --http-port=8080 >/dev/null
  k rollout status deployment/stay --timeout=60s >/dev/null || fail "a Deployment does not become ready"
  read -r from to < <(k get pods -l app=stay -o json | jq -r '.items | sort_by(.spec.nodeName) | "\(.[0].metadata.name) \(.[-1].status.podIP)"')
  helm uninstall "$release" --wait >/dev/null || fail "helm uninstall"
  [[ -z $(k get daemonset,deployment,job,configmap,serviceaccount,role -l app.kubernetes.io/part-of=caracal -o name) ]] || fail "uninstall left objects of the release"
  [[ -z $(kctl get clusterrole,clusterrolebinding -l app.kubernetes.io/part-of=caracal -o name) ]] || fail "uninstall left cluster roles"
  kctl get ippools.projectcalico.org pods >/dev/null || fail "uninstall took a pool along"
  k exec "$from" -- curl -sS -m 5 "http://$to:8080/hostname" >/dev/null || fail "a pod lost its network when the release went"
  echo "pods go on, pools stay"
  k delete deployment stay --wait=false >/dev/null
  helm install "$release" charts/caracal --values "$results/values.json" >/dev/null || fail "helm install over what uninstall left"
  rolled_out
}

preconditions
trap finish EXIT
trap 'exit 130' INT TERM
mkdir -p "$results"
began=$SECONDS
step "$nodes nodes without a network"
$kube/nodes.sh up "$nodes" >/dev/null
$kube/nodes.sh load "$archives"/caracal-{node,controllers,ctl}.tar
router
step "the chart"
install
step "smoke"
$kube/smoke.sh
step "what the top-of-rack router sees"
top_of_rack
step "helm test"
helm test "$release" >"$results/helm-test.txt" || { cat "$results/helm-test.txt" >&2; fail "helm test"; }
step "upgrade and rollback under traffic"
upgrade_and_rollback
if [[ $part == all ]]; then
  step "upstream's tests: ${FOCUS:-Netpol}"
  netpol
fi
if [[ $part == churn ]]; then
  step "churn and faults"
  NODE_IMAGES=$(printf '%s ' "$archives"/caracal-{node,controllers,ctl}.tar) CARACALCTL=${CARACALCTL:-$PWD/target/release/caracalctl} \
    $kube/churn.sh "${CHURN:-1000}" 2>&1 | tee "$results/churn.txt"
fi
step "rights"
rights
step "uninstall, and install again"
uninstall
# Who kills programs must not wonder at restarts.
[[ $part == churn || -z $(k get pods -o json | jq -r '.items[].status.containerStatuses[]? | select(.restartCount > 0) | .name') ]] || { k get pods >&2; fail "a container was restarted"; }
printf '\ntest-e2e: all as it should be (%s s; nodes Ready %s s after the chart)\n' "$((SECONDS - began))" "$ready_after"
