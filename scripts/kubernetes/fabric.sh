#!/usr/bin/env bash
# The network between the nodes: one namespace that plays top-of-rack and holds the control plane.
#
#   fabric.sh up                 makes it (172.30.0.1)
#   fabric.sh attach N NAMESPACE connects node number N
#   fabric.sh detach N
#   fabric.sh node-ip N [6]      the address of node number N
#   fabric.sh exec COMMAND…      runs something in it (a route reflector, a top-of-rack's BGP speaker, kubectl)
#   fabric.sh down               deletes the namespace and all links
#
#   CARACAL_K8S_TOPOLOGY=l2   (default) all nodes on one bridge, 172.30.0.0/24
#   CARACAL_K8S_TOPOLOGY=l3   each node in a subnet of its own, 172.30.N.0/24; the fabric routes between them
#   CARACAL_K8S_MTU           of the links (1500)
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"
MTU=${CARACAL_K8S_MTU:-1500}
TOPOLOGY=${CARACAL_K8S_TOPOLOGY:-$(cat "$K8S_STATE/topology" 2>/dev/null || echo l2)}

in_fabric() { nsenter --net="/run/netns/$FABRIC_NS" "$@"; }
exists() { [[ -e /run/netns/$1 ]]; }

up() {
  need_root; need ip nsenter sysctl
  mkdir -p "$K8S_STATE"
  exists "$FABRIC_NS" && return 0
  [[ $TOPOLOGY == l2 || $TOPOLOGY == l3 ]] || die "CARACAL_K8S_TOPOLOGY is '$TOPOLOGY'; it must be l2 or l3"
  echo "$TOPOLOGY" >"$K8S_STATE/topology"
  ip netns add "$FABRIC_NS" || die "network namespaces cannot be made here"
  in_fabric ip link set lo up
  in_fabric sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
  in_fabric sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0
  if [[ $TOPOLOGY == l3 ]]; then
    in_fabric ip addr add "$FABRIC_IP4/32" dev lo
    in_fabric ip addr add "$FABRIC_IP6/128" dev lo nodad
  else
    in_fabric ip link add br0 type bridge
    in_fabric ip link set br0 mtu "$MTU" up
    # A bridge that hands frames to iptables would filter the nodes' traffic twice.
    in_fabric sysctl -qw net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0 2>/dev/null || true
    in_fabric ip addr add "$FABRIC_IP4/24" dev br0
    in_fabric ip addr add "$FABRIC_IP6/64" dev br0 nodad
  fi
  log "fabric $FABRIC_NS is up ($TOPOLOGY)"
}

attach() { # attach N NAMESPACE
  local n=$1 ns=$2
  exists "$FABRIC_NS" || die "there is no fabric; make it with: fabric.sh up"
  in_fabric ip link show "sw$n" >/dev/null 2>&1 && return 0
  in_fabric ip link add "sw$n" mtu "$MTU" type veth peer name eth0 mtu "$MTU" netns "$ns"
  in_node() { nsenter --net="/run/netns/$ns" "$@"; }
  in_node ip link set lo up
  in_node ip link set eth0 up
  if [[ $TOPOLOGY == l2 ]]; then
    in_fabric ip link set "sw$n" master br0 up
    in_node ip addr add "172.30.0.$((10 + n))/24" dev eth0
    in_node ip addr add "fd30:ca::$((10 + n))/64" dev eth0 nodad
    in_node ip route replace default via "$FABRIC_IP4"
    in_node ip -6 route replace default via "$FABRIC_IP6"
  else
    in_fabric ip link set "sw$n" up
    in_fabric ip addr add "172.30.$n.1/24" dev "sw$n"
    in_fabric ip addr add "fd30:ca:0:$n::1/64" dev "sw$n" nodad
    in_node ip addr add "172.30.$n.10/24" dev eth0
    in_node ip addr add "fd30:ca:0:$n::10/64" dev eth0 nodad
    in_node ip route replace default via "172.30.$n.1"
    in_node ip -6 route replace default via "fd30:ca:0:$n::1"
  fi
}

node_ip() { # node_ip N [6]
  case $TOPOLOGY/${2:-4} in
  l2/6) echo "fd30:ca::$((10 + $1))" ;;
  l2/*) echo "172.30.0.$((10 + $1))" ;;
  l3/6) echo "fd30:ca:0:$1::10" ;;
  *) echo "172.30.$1.10" ;;
  esac
}

case ${1:-} in
up) up ;;
attach) attach "$2" "$3" ;;
detach) if exists "$FABRIC_NS"; then in_fabric ip link del "sw$2" 2>/dev/null || true; fi ;;
node-ip) node_ip "$2" "${3:-4}" ;;
down) if exists "$FABRIC_NS"; then ip netns del "$FABRIC_NS"; fi; rm -f "$K8S_STATE/topology" ;;
exec) shift; in_fabric "$@" ;;
*) usage "$@" ;;
esac
