#!/usr/bin/env bash
# Measures caracal-bgpd beside BIRD, FRR and GoBGP, in one run, and prints figures and ratios.
#   bench-bgpd.sh [SCENARIO...]     default: all but the long ones
# RUNS=5 runs of each (median is printed), PEERS="bird frr gobgp" beside which, LONG=1 for a million prefixes,
# SCALE=100 for a hundredth of all sizes, to see that everything works. Three runs of the default take about fifty
# minutes on two cores, most of it GoBGP with ten peers; LONG=1 adds about as much.
# Programs that are not installed are left out, and the table says so. Everything runs in two network namespaces.
set -euo pipefail
cd "$(dirname "$0")/.."

RUNS=${RUNS:-3}
SCALE=${SCALE:-1}
PEERS=${PEERS:-bird frr gobgp}
BGPD=${BGPD:-target/release/caracal-bgpd}
work=$(mktemp -d)
bench=$work/bgpbench
target_ns=caracal-bench-t-$$
peer_ns=caracal-bench-p-$$
daemon_pids=()

cleanup() {
  stop_daemon
  ip netns del "$target_ns" 2>/dev/null || true
  ip netns del "$peer_ns" 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT

need() { command -v "$1" >/dev/null || { echo "bench-bgpd: '$1' is needed: $2" >&2; exit 2; }; }
need go "install Go 1.22 or newer"
need jq "install jq"
[ "$(id -u)" = 0 ] || { echo "bench-bgpd: needs root for network namespaces" >&2; exit 2; }
[ -x "$BGPD" ] || { echo "bench-bgpd: $BGPD is not there: make build" >&2; exit 2; }

stop_daemon() {
  local pid
  for pid in "${daemon_pids[@]:-}"; do [ -z "$pid" ] || kill "$pid" 2>/dev/null || true; done
  for pid in "${daemon_pids[@]:-}"; do
    [ -z "$pid" ] || timeout 10 tail --pid="$pid" -f /dev/null || kill -9 "$pid" 2>/dev/null || true
  done
  daemon_pids=()
}

namespaces() {
  ip netns del "$target_ns" 2>/dev/null || true
  ip netns del "$peer_ns" 2>/dev/null || true
  ip netns add "$target_ns"
  ip netns add "$peer_ns"
  ip link add t0 netns "$target_ns" type veth peer name p0 netns "$peer_ns"
  ip -n "$target_ns" link set lo up
  ip -n "$peer_ns" link set lo up
  ip -n "$target_ns" addr add 10.99.0.1/16 dev t0
  ip -n "$peer_ns" addr add 10.99.255.1/16 dev p0
  ip -n "$target_ns" link set t0 up
  ip -n "$peer_ns" link set p0 up
  local net
  for net in 10.99.1.0/24 10.99.2.0/24 10.99.4.0/22; do ip -n "$peer_ns" route add local "$net" dev lo; done
}

# Takes the place of the shell that runs it in the background, so that `$!` is the daemon.
inside() { exec ip netns exec "$target_ns" "$@"; }

has() {
  case $1 in
    caracal) true ;;
    bird) command -v bird >/dev/null ;;
    frr) [ -x /usr/lib/frr/bgpd ] ;;
    gobgp) command -v gobgpd >/dev/null ;;
  esac
}

# can KIND GENCONF-FLAGS: whether it does what is measured. GoBGP leaves the kernel alone.
can() { case "$1 $2 " in "gobgp "*"-fib "*) return 1 ;; esac; }

# start KIND GENCONF-FLAGS...: leaves the daemon's processes in daemon_pids.
start() {
  local kind=$1
  shift
  "$bench" genconf -kind "$kind" "$@" >"$work/$kind.conf"
  case $kind in
    caracal)
      inside "$BGPD" --config "$work/caracal.conf" --control "$work/bgpd.sock" --metrics none --health none \
        >"$work/caracal.log" 2>&1 &
      ;;
    bird) inside bird -f -c "$work/bird.conf" -s "$work/bird.ctl" >"$work/bird.log" 2>&1 & ;;
    frr)
      # Its daemons give up root for an account of their own, which has to be in the group of its sockets.
      rm -rf "$work/frr"
      mkdir -p "$work/frr"
      chmod 755 "$work"
      chmod 777 "$work/frr"
      inside /usr/lib/frr/zebra -u frr -g frr -P 0 -z "$work/frr/zserv.api" -i "$work/frr/zebra.pid" --vty_socket "$work/frr" \
        >"$work/zebra.log" 2>&1 &
      daemon_pids+=($!)
      sleep 1
      inside /usr/lib/frr/bgpd -u frr -g frr -P 0 -z "$work/frr/zserv.api" -f "$work/frr.conf" -i "$work/frr/bgpd.pid" \
        --vty_socket "$work/frr" >"$work/frr.log" 2>&1 &
      ;;
    gobgp) inside gobgpd -f "$work/gobgp.conf" --api-hosts unix://"$work/gobgp.sock" >"$work/gobgp.log" 2>&1 & ;;
  esac
  daemon_pids+=($!)
  sleep 1.5
}

pids() { local IFS=,; echo "${daemon_pids[*]}"; }

# run KIND "GENCONF-FLAGS" BENCH-ARGS...: one JSON line.
run() {
  local kind=$1 flags=$2
  shift 2
  namespaces
  # shellcheck disable=SC2086
  start "$kind" $flags
  local extra=()
  case " $flags " in *" -fib "*) extra=(-fib-pid "${daemon_pids[0]}") ;; esac
  timeout 600 ip netns exec "$peer_ns" "$bench" "$@" -watch-pid "$(pids)" "${extra[@]}" 2>"$work/bench.log" \
    || { tail -3 "$work/bench.log" >&2; echo '{}'; }
  stop_daemon
}

# scenario NAME "GENCONF-FLAGS" "COLUMN..." BENCH-ARGS...
scenario() {
  local name=$1 flags=$2 columns=$3
  shift 3
  local kind n
  rm -f "$work"/result.*
  for ((n = 0; n < RUNS; n++)); do
    for kind in caracal $PEERS; do
      has "$kind" && can "$kind" "$flags" || continue
      run "$kind" "$flags" "$@" >>"$work/result.$kind"
    done
  done
  echo
  echo "### $name (median of $RUNS)"
  print_row peer $columns
  for kind in caracal $PEERS; do
    if ! has "$kind"; then
      echo "$kind: not installed, left out"
      continue
    fi
    if ! can "$kind" "$flags"; then
      echo "$kind: does not do this, left out"
      continue
    fi
    print_values "$kind" $columns
  done
}

median() { # median FILE FIELD
  jq -s "[.[].$2 // empty] | sort | if length == 0 then null else .[length / 2 | floor] end" "$1"
}

print_row() { printf '| %-8s' "$1"; shift; printf '| %-26s' "$@"; echo '|'; }

print_values() {
  local kind=$1 column value own cells=()
  shift
  for column in "$@"; do
    value=$(median "$work/result.$kind" "$column")
    own=$(median "$work/result.caracal" "$column")
    cells+=("$(jq -rn --argjson v "$value" --argjson o "$own" --arg k "$kind" '
      def short: if . == null then "-" else (. * 1000 | round / 1000 | tostring) end;
      ($v | short) + (if $k == "caracal" or $v == null or $o == null or $v == 0 then ""
        else " (ours " + ($o / $v | short) + "x)" end)')")
  done
  print_row "$kind" "${cells[@]}"
}

conv="converge_cpu_s converge_s rss_mib updates_received withdraw_cpu_s"
dump="learn_cpu_s dump_complete_s dump_cpu_s rss_mib updates_received"
nodes="establish_all_s converge_s start_cpu_s kib_per_peer churn_withdraw_ms_p50 churn_announce_ms_p50 idle_cpu_pct"

# A size, or its part by SCALE.
size() { local n=$(($1 / SCALE)); echo $((n > 0 ? n : 1)); }

do_scenario() {
  local nodes_count
  nodes_count=$(size 500)
  [ "$nodes_count" -ge 4 ] || nodes_count=4
  case $1 in
    pass-10k) scenario "one peer to one, 10 k prefixes" "-senders 1 -receivers 1" "$conv" conv -prefixes "$(size 10000)" ;;
    pass-100k) scenario "one peer to one, 100 k prefixes" "-senders 1 -receivers 1" "$conv" conv -prefixes "$(size 100000)" ;;
    pass-1m) scenario "one peer to one, 1 M prefixes" "-senders 1 -receivers 1" "$conv" conv -prefixes "$(size 1000000)" ;;
    packed-1m) scenario "the same in 1000 attribute sets" "-senders 1 -receivers 1" "$conv" \
      conv -prefixes "$(size 1000000)" -group 1000 ;;
    ten-10k) scenario "ten peers, 1 k distinct each, all to all" "-senders 10 -receivers 1" "$conv" \
      conv -senders 10 -prefixes "$(size 1000)" ;;
    ten-100k) scenario "ten peers, 10 k distinct each, all to all" "-senders 10 -receivers 1" "$conv" \
      conv -senders 10 -prefixes "$(size 10000)" ;;
    ten) scenario "ten peers, 100 k distinct each, all to all" "-senders 10 -receivers 1" "$conv" \
      conv -senders 10 -prefixes "$(size 100000)" ;;
    ten-same) scenario "ten peers, the same 100 k" "-senders 10 -receivers 1" "$conv" \
      conv -senders 10 -prefixes "$(size 100000)" -overlap ;;
    late-1m) scenario "a new peer on a table of 1 M" "-senders 1 -receivers 1" "$dump" \
      conv -prefixes "$(size 1000000)" -late-receivers ;;
    reflector) scenario "reflector with $nodes_count clients, a block each" "-nodes $nodes_count -rr" "$nodes" \
      nodes -nodes "$nodes_count" -ibgp -idle 10s ;;
    mesh) scenario "one of $nodes_count mesh members" "-nodes $nodes_count -ibgp" "$nodes" \
      nodes -nodes "$nodes_count" -ibgp -reflect=false -idle 10s ;;
    kernel-100k) scenario "100 k prefixes into the kernel" "-senders 1 -fib" \
      "fib_complete_s fib_cpu_s rss_mib" conv -prefixes "$(size 100000)" -receivers 0 ;;
    *) echo "bench-bgpd: unknown scenario '$1'" >&2; exit 2 ;;
  esac
}

(cd bench/bgpbench && go build -o "$bench" .)
echo "machine: $(nproc) cores, $(uname -r), load $(cut -d' ' -f1 /proc/loadavg) at the start"
for kind in $PEERS; do
  case $kind in
    bird) has bird && bird --version 2>&1 | head -1 ;;
    frr) has frr && /usr/lib/frr/bgpd --version | head -1 ;;
    gobgp) has gobgp && gobgpd --version ;;
  esac || true
done
if [ $# = 0 ]; then
  set -- pass-10k pass-100k ten-10k ten-100k ten ten-same reflector mesh kernel-100k
  [ -z "${LONG:-}" ] || set -- "$@" pass-1m packed-1m late-1m
fi
for name in "$@"; do do_scenario "$name"; done
