#!/usr/bin/env bash
# The chart without a cluster: lint, rendering for two versions of Kubernetes, what must be in it and what must not,
# contradictions refused with their reason, alerts.
#   UPDATE=1   writes what the default values give anew; read the difference before you commit it
# Helm: from the path, or built by scripts/kubernetes/build.sh helm. promtool: from the path.
set -euo pipefail
cd "$(dirname "$0")/.."
cache=${CARACAL_K8S_CACHE:-${HOME:-/root}/.cache/caracal-k8s}/${CARACAL_K8S_VERSION:-v1.37.1}/bin
PATH=$PATH:$cache
chart=charts/caracal ci=charts/caracal/ci
failed=0 checks=0
if ! command -v helm >/dev/null; then
  echo "test-chart: NOT RUN: helm is missing; build it with: scripts/kubernetes/build.sh helm"
  exit "${HELM_MISSING_CODE:-1}"
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

bad() { echo "test-chart: $*" >&2; failed=$((failed + 1)); }
render() { # render OUT ARGUMENT…
  local out=$1; shift
  checks=$((checks + 1))
  helm template caracal "$chart" --namespace caracal-system "$@" >"$out" 2>"$work/err" || { bad "does not render with: $*"; cat "$work/err" >&2; }
}
has() { # has FILE TEXT…: a line with each text
  local file=$1 text; shift
  for text in "$@"; do
    checks=$((checks + 1))
    grep -qF -- "$text" "$file" || bad "$(basename "$file") lacks: $text"
  done
}
lacks() {
  local file=$1 text; shift
  for text in "$@"; do
    checks=$((checks + 1))
    if grep -qF -- "$text" "$file"; then bad "$(basename "$file") has: $text"; fi
  done
}
refuses() { # refuses REASON ARGUMENT…
  local reason=$1; shift
  checks=$((checks + 1))
  if helm template caracal "$chart" "$@" >/dev/null 2>"$work/err"; then bad "not refused: $*"; return; fi
  grep -qF -- "$reason" "$work/err" || { bad "refused, but not with '$reason': $*"; tail -n 3 "$work/err" >&2; }
}

echo "lint"
for values in "" "$ci"/*-values.yaml; do
  checks=$((checks + 1))
  helm lint --quiet --strict "$chart" ${values:+--values "$values"} >"$work/lint" 2>&1 || { bad "lint${values:+ with $values}"; cat "$work/lint" >&2; }
done
helm lint --quiet --strict charts/caracal-crds >"$work/lint" 2>&1 || { bad "lint of the definitions"; cat "$work/lint" >&2; }

echo "Kubernetes 1.31 and 1.37"
render "$work/old" --kube-version 1.31.0
render "$work/new" --kube-version 1.37.0
lacks "$work/old" "kind: MutatingAdmissionPolicy"
has "$work/new" "kind: MutatingAdmissionPolicy"
for file in "$work/old" "$work/new"; do
  has "$file" "kind: ValidatingAdmissionPolicy" "name: networkpolicies.projectcalico.org" "helm.sh/resource-policy: keep"
done
refuses "chart requires kubeVersion" --kube-version 1.30.0

echo "the default values"
render "$work/default" --kube-version 1.37.0 --set crds.enabled=false
if [ "${UPDATE:-0}" = 1 ]; then cp "$work/default" "$ci/default.golden.yaml"; fi
checks=$((checks + 1))
diff -u "$ci/default.golden.yaml" "$work/default" || bad "the default values give something else than $ci/default.golden.yaml (UPDATE=1 writes it anew)"
lacks "$work/default" "privileged: true" "allowPrivilegeEscalation: true" "readOnlyRootFilesystem: false" '- "*"' "'*'" "kind: CustomResourceDefinition"
containers=$(grep -c "imagePullPolicy:" "$work/default")
for must in "readOnlyRootFilesystem: true" "allowPrivilegeEscalation: false" "drop: [ALL]"; do
  checks=$((checks + 1))
  [ "$(grep -cF -- "$must" "$work/default" | tr -d ' ')" -eq "$(grep -cF "image: " "$work/default")" ] || bad "not each of the $containers containers has: $must"
done
has "$work/default" "- NET_ADMIN" "- NET_RAW" "- NET_BIND_SERVICE" "maxUnavailable: 1" "type: RuntimeDefault" "cidr: 10.244.0.0/16"

echo "Calico's Installation"
render "$work/calico" --set crds.enabled=false --values "$ci/calico-values.yaml"
has "$work/calico" "cidr: 192.168.0.0/16" "vxlanMode: CrossSubnet" "blockSize: 25" "cidr: fd00:10::/48" "name: default-ipv6-ippool1" '"mtu": 8950' \
  'value: "cidr=10.0.0.0/8,172.16.0.0/12"' 'value: "interface=eth.*"' '"allow_ip_forwarding": true' '"assign_ipv6": "true"'
lacks "$work/calico" "10.244.0.0/16" '"type": "portmap"'

echo "two routers, no daemon for plugins"
render "$work/routers" --set crds.enabled=false --values "$ci/routers-values.yaml"
has "$work/routers" "kind: BGPPeer" "peerIP: 10.1.1.2" "nodeToNodeMeshEnabled: false" "resources: [secrets]" 'value: "10.1.1.100"' '"daemon_socket": "none"'
lacks "$work/routers" "- SYS_ADMIN"
checks=$((checks + 1))
grep -A2 "resources: \[secrets\]" "$work/routers" | grep -qF -- "- bgp" || bad "the speaker may read other Secrets than the named one"

echo "VXLAN without BGP, monitoring"
render "$work/vxlan" --set crds.enabled=false --values "$ci/vxlan-values.yaml"
has "$work/vxlan" "value: vxlan" "vxlanMode: Always"
lacks "$work/vxlan" "name: caracal-bgpd"
render "$work/monitored" --set crds.enabled=false --values "$ci/monitored-values.yaml"
has "$work/monitored" "kind: PodMonitor" "kind: ServiceMonitor" "kind: PrometheusRule" "caracal-bgp.json" "grafana_dashboard" "alert: CaracalBGPNoPeer"
for board in "$chart"/files/dashboards/*.json; do
  checks=$((checks + 1))
  ! command -v jq >/dev/null || jq -e '.panels | length > 3' "$board" >/dev/null || bad "$board is no dashboard"
done

render "$work/configured" --set crds.enabled=false --set felix.configuration.logSeverityScreen=Warning
has "$work/configured" "logSeverityScreen: Warning" "defaultEndpointToHostAction: Return" '"apply","--filename=/defaults/applied.yaml"'

echo "contradictions"
refuses "a pool is encapsulated in one way" --set-json 'ipPools=[{"name":"a","cidr":"10.0.0.0/16","ipipMode":"Always","vxlanMode":"Always"}]'
refuses "which IP-in-IP does not carry" --set-json 'ipPools=[{"name":"a","cidr":"fd00::/48","ipipMode":"Always"}]' --set node.ip6AutodetectionMethod=first-found
refuses "must be from 20 to 32" --set-json 'ipPools=[{"name":"a","cidr":"10.0.0.0/16","blockSize":64}]'
refuses "must be from 116 to 128" --set-json 'ipPools=[{"name":"a","cidr":"fd00::/48","blockSize":64}]' --set node.ip6AutodetectionMethod=first-found
refuses "is larger than the pool" --set-json 'ipPools=[{"name":"a","cidr":"10.0.0.0/28"}]'
refuses "names are unique" --set-json 'ipPools=[{"name":"a","cidr":"10.0.0.0/16"},{"name":"a","cidr":"10.1.0.0/16"}]'
refuses "pools must not overlap" --set-json 'ipPools=[{"name":"a","cidr":"10.0.0.0/16"},{"name":"b","cidr":"10.0.0.0/16"}]'
refuses "without BGP nothing routes" --set bgp.enabled=false
refuses "without BGP nothing routes" --set installation.calicoNetwork.bgp=Disabled
refuses "and BGP is off" --set bgp.enabled=false --set-json 'ipPools=[]' --set-json 'bgp.peers=[{"name":"a","peerIP":"10.0.0.1","asNumber":1}]'
refuses "nodes get no IPv6 address" --set-json 'ipPools=[{"name":"a","cidr":"fd00::/48"}]'
refuses "felix.configuration.ipv6Support is false" --set felix.configuration.ipv6Support=false --set-json 'ipPools=[{"name":"a","cidr":"fd00::/48"}]' --set node.ip6AutodetectionMethod=first-found
refuses "keep one of them" --set-json 'ipPools=[{"name":"a","cidr":"10.0.0.0/16"}]' --set-json 'installation.calicoNetwork.ipPools=[{"cidr":"10.1.0.0/16"}]'
refuses "which Caracal does not have" --set installation.calicoNetwork.linuxDataplane=BPF
refuses "nftablesMode is Disabled" --set installation.calicoNetwork.linuxDataplane=Nftables --set felix.configuration.nftablesMode=Disabled
refuses "which keeps none" --set controllers.podDisruptionBudget.maxUnavailable=2
refuses "each needs its own" --set controllers.healthPort=9094
refuses "each needs its own" --set node.bgpMetricsPort=9091
refuses "set 0.0.0.0" --set node.podMonitor.enabled=true
refuses "needs metrics" --set controllers.serviceMonitor.enabled=true --set controllers.metricsAddress=none
refuses "name the accounts that exist" --set serviceAccount.create=false
refuses "IPv4 needs 576" --set cni.mtu=100
# What one value may be: the schema says it.
refuses "node" --set node.privileged=true
refuses "ipipMode" --set-json 'ipPools=[{"name":"a","cidr":"10.0.0.0/16","ipipMode":"Sometimes"}]'
refuses "encapsulation" --set-json 'installation.calicoNetwork.ipPools=[{"cidr":"10.0.0.0/16","encapsulation":"GRE"}]'
refuses "nodeAddressAutodetectionV4" --set installation.calicoNetwork.nodeAddressAutodetectionV4.firstFound=true --set installation.calicoNetwork.nodeAddressAutodetectionV4.interface=eth0
refuses "replicas" --set controllers.replicas=-1
refuses "confName" --set cni.confName=10-calico.conf

if command -v promtool >/dev/null; then
  echo "alerts"
  checks=$((checks + 1))
  cp "$chart/files/alerts.yaml" "$ci/alerts-test.yaml" "$work"
  (cd "$work" && promtool check rules alerts.yaml && promtool test rules alerts-test.yaml) >"$work/alerts" 2>&1 || { bad "alerts"; cat "$work/alerts" >&2; }
else
  echo "alerts: NOT RUN: promtool is missing (Debian: prometheus)"
fi
[ "$failed" = 0 ] || { echo "test-chart: $failed of $checks checks failed" >&2; exit 1; }
echo "test-chart: $checks checks, all as they should be"
