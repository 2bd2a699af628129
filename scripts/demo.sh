#!/usr/bin/env bash
# A data centre on this machine, shown step by step: each command stands before its output.
#   KEEP=1     leaves it standing and says how to explore it
#   --plain    no colour (as CI runs it)
#   BACKEND=nftables  policy by nftables in place of iptables
#   KUBE=real  on kube-apiserver and etcd (scripts/kubernetes/build.sh) in place of the embedded API server
# Ends with an error when anything is not as it should be.
set -uo pipefail
cd "$(dirname "$0")/.."

bin=${CARACAL_BIN_DIR:-$PWD/target/release}
dir=${CARACAL_DEMO_DIR:-/run/caracal-demo}
started=$SECONDS
bold='' ; red='' ; off=''
if [ "${1:-}" != --plain ] && [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then bold=$'\e[1m'; red=$'\e[31m'; off=$'\e[0m'; fi

[ "$(id -u)" = 0 ] || exec sudo --preserve-env=KEEP,KUBE,BACKEND,HOME,CARACAL_K8S_CACHE,CARACAL_K8S_VERSION,NO_COLOR,CARACAL_DEMO_DIR,CARACAL_BIN_DIR "$0" "$@"
export PATH="$bin:$PATH"

lab() { caracal-lab --dir "$dir" "$@"; }
say() { printf '\n%s# %s%s\n' "$bold" "$*" "$off"; }
shown() { printf '%s$ %s%s\n' "$bold" "$(printf '%s ' "$@" | sed 's|^lab |caracal-lab |; s| $||')" "$off"; }
show() { shown "$@"; "$@"; }
fail() { printf '\n%sdemo: %s%s\n' "$red" "$*" "$off" >&2; exit 1; }
must() { show "$@" || fail "this should have worked: $*"; }
wants() { # wants PATTERN COMMAND…: shows the command; its output must have a line that matches
  local pattern=$1 output; shift
  shown "$@"
  output=$("$@" 2>&1); local code=$?
  printf '%s\n' "$output"
  [ $code = 0 ] || fail "exit $code from: $*"
  grep -qE -- "$pattern" <<<"$output" || fail "no line matches '$pattern' in the output of: $*"
}
probe() { # probe VERDICT FROM TO PORT…
  local verdict=$1 output; shift
  printf '%s$ caracal-lab probe %s%s\n' "$bold" "$*" "$off"
  output=$(lab probe "$@" 2>&1); printf '%s\n' "$output"
  grep -qw -- "$verdict" <<<"$output" || fail "expected '$verdict' from: caracal-lab probe $*"
}
eventually() { # eventually SECONDS VERDICT FROM TO PORT…: what an operator would wait for
  local deadline=$((SECONDS + $1)) verdict=$2; shift 2
  # The exit code is the verdict's; only the word counts here.
  until grep -qw -- "$verdict" <<<"$(lab probe "$@" 2>/dev/null)"; do
    [ $SECONDS -lt $deadline ] || fail "never '$verdict': caracal-lab probe $*"
    sleep 0.2
  done
}
address() { caracalctl get workloadendpoints -n "$1" -o json | tr -d ' \n' | grep -oE "\"ipNetworks\":\[\"[0-9.]+/32\"[^}]*\"pod\":\"$2\"" | grep -oE '[0-9.]+/32' | head -1 | cut -d/ -f1; }

finish() {
  local code=$?
  trap - EXIT
  if [ "${KEEP:-0}" = 1 ] && [ $code = 0 ]; then
    printf '\nThe data centre is left standing. To explore it:\n'
    printf '  export PATH=%s:$PATH\n' "$bin"
    printf '  export KUBECONFIG=$(caracal-lab --dir %s kubeconfig)      # for kubectl and caracalctl\n' "$dir"
    printf '  caracal-lab --dir %s status\n' "$dir"
    printf '  caracal-lab --dir %s exec visitors/client -- ping 172.31.0.10\n' "$dir"
    printf '  caracal-lab --dir %s node node-1 -- ip route\n' "$dir"
    printf '  caracal-lab --dir %s down                                 # take it away\n' "$dir"
  else
    [ $code = 0 ] || { printf '\nlast lines of the logs in %s/logs:\n' "$dir" >&2; tail -n 5 "$dir"/logs/*.log >&2 2>/dev/null; }
    lab down >/dev/null 2>&1 || { echo "demo: could not take the lab down: caracal-lab --dir $dir down" >&2; code=1; }
  fi
  exit $code
}

[ -x "$bin/caracal-lab" ] || { echo "demo: not built yet: run 'make demo'" >&2; exit 1; }
lab down >/dev/null 2>&1
trap finish EXIT
trap 'exit 130' INT TERM

say "Three nodes, a top-of-rack router (BIRD), a host behind it, and a Kubernetes API"
must lab up --nodes 3 --tor bird ${KUBE:+--kube "$KUBE"} ${BACKEND:+--backend "$BACKEND"} ${TIMEOUT:+--timeout "$TIMEOUT"}
export KUBECONFIG=$(lab kubeconfig)

say "A small application: two namespaces, a client, a web tier, a store"
must lab apply -f demo/app.yaml
for pod in visitors/client shop/web-1 shop/web-2 shop/store; do
  for _ in $(seq 300); do lab exec "$pod" -- true 2>/dev/null && break; sleep 0.1; done
done
eventually 30 allowed visitors/client shop/web-1 8080
eventually 30 allowed visitors/client shop/web-2 8080
eventually 30 allowed shop/web-1 shop/store 5432
wants 'store' caracalctl get workloadendpoints -A
web1=$(address shop web-1); web2=$(address shop web-2); client=$(address visitors client)
[ -n "$web1" ] && [ -n "$web2" ] && [ -n "$client" ] || fail "pods without addresses: web-1='$web1' web-2='$web2' client='$client'"

say "Pod to pod: on the same node, then across nodes; each pod is routed, no bridge, no tunnel"
must lab exec visitors/client -- ping -c 2 -i 0.2 -W 2 "$web1"
wants 'web-1' lab exec visitors/client -- curl -s -m 5 "http://$web1:8080/"
must lab exec visitors/client -- ping -c 2 -i 0.2 -W 2 "$web2"
wants 'web-2' lab exec visitors/client -- curl -s -m 5 "http://$web2:8080/"

say "A host behind the top-of-rack router reaches a pod by its own address, and a pod reaches the host"
probe allowed outside shop/web-2 8080
probe allowed visitors/client outside 80

say "What a node knows: its own pods as /32, the other nodes' blocks from BGP"
wants 'proto bird' lab node node-1 -- ip route

say "What the top-of-rack router learned: one block for each node"
wants '10\.244\.' lab tor -- birdc show route

say "The sessions of a node"
wants 'global.*Established|Established' lab node node-1 -- caracalctl node status
wants 'cidr: 10.244.0.0/16' caracalctl get ippool -o yaml

say "Policy: only the web tier may talk to the store"
probe allowed visitors/client shop/store 5432
must lab apply -f demo/policy.yaml
eventually 10 dropped visitors/client shop/store 5432
probe dropped visitors/client shop/store 5432
probe allowed shop/web-1 shop/store 5432
probe dropped shop/web-1 shop/store 8125 --udp

say "The other way of filtering packets, at any time: what passes and what does not stays as it is, nothing of the former is left"
node=node-1
filters() { # filters iptables|nftables: what the node has of each
  local want=$1 saved tables deadline=$((SECONDS + 15))
  while :; do
    saved=$(lab node "$node" -- sh -c '(iptables-nft-save; iptables-legacy-save) 2>/dev/null | grep -c cali-')
    tables=$(lab node "$node" -- sh -c 'nft list tables | grep -c "table ip calico"')
    case $want in
      nftables) [ "$saved" = 0 ] && [ "$tables" = 1 ] && return ;;
      iptables) [ "$saved" != 0 ] && [ "$tables" = 0 ] && return ;;
    esac
    [ $SECONDS -lt $deadline ] || fail "$node has $saved lines of iptables and $tables tables of nftables"
    sleep 0.2
  done
}
modes='Enabled nftables Disabled iptables'
[ "${BACKEND:-iptables}" = iptables ] || modes='Disabled iptables Enabled nftables'
set -- $modes
while [ $# -gt 0 ]; do
  must caracalctl patch felixconfiguration default -p "{\"spec\":{\"nftablesMode\":\"$1\"}}"
  filters "$2"; shift 2
  probe allowed shop/web-1 shop/store 5432
  probe dropped visitors/client shop/store 5432
  probe dropped shop/web-1 shop/store 8125 --udp
done

say "A node's bgpd is killed while its pod is being pinged: kernel routes stay, peers keep forwarding, it comes back"
ping_log=$(mktemp)
lab exec visitors/client -- ping -i 0.05 -c 160 -W 1 "$web2" >"$ping_log" 2>&1 &
ping_pid=$!
sleep 1
pid=$(lab status --json | tr -d ' \n' | grep -oE '"name":"node-2/bgpd"[^}]*"pid":[0-9]+' | grep -oE '[0-9]+$')
[ -n "$pid" ] || fail "no process id for node-2/bgpd in caracal-lab status --json"
must kill -9 "$pid"
wait $ping_pid
tail -n 3 "$ping_log"
grep -q ' 0% packet loss' "$ping_log" || fail "pings were lost while bgpd was away"
rm -f "$ping_log"
for _ in $(seq 100); do
  if lab node node-2 -- caracalctl node status 2>/dev/null | grep -q Established; then break; fi
  sleep 0.2
done
wants 'Established' lab node node-2 -- caracalctl node status

printf '\ndemo: every step as it should be (%s s)\n' "$((SECONDS - started))"
