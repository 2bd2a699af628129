#!/usr/bin/env bash
# Real Kubernetes nodes (kubelet, containerd, runc, kube-proxy) on one machine, each in network, mount, PID, UTS, IPC
# and cgroup namespaces of its own, joined by a fabric that also holds the control plane. No systemd, no registry.
#
#   nodes.sh up N            control plane, when it does not run, and nodes 1..N; prints the kubeconfig's path
#   nodes.sh down            stops nodes, control plane and fabric and deletes their state
#   nodes.sh stop N          stops one node; its pods die with it
#   nodes.sh status
#   nodes.sh exec N CMD…     runs a command inside node N (its files, its network)
#   nodes.sh pid N           its PID 1, as this machine sees it
#   nodes.sh kubectl ARG…    as administrator of the cluster
#   nodes.sh load FILE.tar…  imports image archives into all nodes
#
#   CARACAL_K8S_CNI=none|ptp   none (default): nodes stay NotReady until a network is installed.
#                              ptp: the reference plugins and static routes; then `up` waits for Ready
#   CARACAL_K8S_PROXY=nftables|iptables|none   mode of kube-proxy (default nftables)
#   CARACAL_K8S_TOPOLOGY, CARACAL_K8S_MTU      see fabric.sh
#   CARACAL_K8S_SHARE="DIR…"   more directories of this machine that the nodes see and may write
#
# Inside a node, `touch /run/stop.kubelet` and the end of the process in /run/kubelet.pid keep it down until the file
# goes; the same holds for containerd and kube-proxy.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export CARACAL_K8S_FABRIC=1
. "$here/lib.sh"
CNI_MODE=${CARACAL_K8S_CNI:-$(cat "$K8S_STATE/cni-mode" 2>/dev/null || echo none)}
PROXY_MODE=${CARACAL_K8S_PROXY:-$(cat "$K8S_STATE/proxy-mode" 2>/dev/null || echo nftables)}

node_dir() { echo "$K8S_STATE/nodes/node$1"; }
node_ns() { echo "$K8S_NAME-node$1"; }
node_ids() { local d; for d in "$K8S_STATE"/nodes/node*; do if [[ -d $d ]]; then echo "${d##*/node}"; fi; done | sort -n; }

# --- cgroups: each node is a child of the cgroup that this script is in ---

node_cgroups() { # node_cgroups N: one directory a line
  local hierarchy controllers path mounted
  if [[ $(stat -fc %T /sys/fs/cgroup) == cgroup2fs ]]; then
    # An inner cgroup of a v2 hierarchy must not hold processes, and ours does.
    echo "/sys/fs/cgroup/$K8S_NAME/node$1"
    return
  fi
  while IFS=: read -r hierarchy controllers path; do
    [[ $hierarchy == 0 ]] && continue
    mounted=$(awk -v c="${controllers#name=}" -v n="$controllers" '$3 == "cgroup" && ("," $4 "," ~ "," c "," || "," $4 "," ~ "," n ",") {print $2; exit}' /proc/self/mounts)
    [[ -z $mounted ]] || echo "${mounted}${path%/}/$K8S_NAME/node$1"
  done </proc/self/cgroup
}

make_cgroups() { # make_cgroups N
  local directory p f controller
  while read -r directory; do
    for p in "$(dirname "$directory")" "$directory"; do
      mkdir -p "$p" || die "cannot make the cgroup $p"
      for f in cpuset.cpus cpuset.mems; do # empty in a new v1 cpuset, and then nothing can run in it
        if [[ -e $p/$f && -z $(cat "$p/$f") && ! -e $p/cgroup.controllers ]]; then cat "$(dirname "$p")/$f" >"$p/$f"; fi
      done
      if [[ -e $p/cgroup.clone_children ]]; then echo 1 >"$p/cgroup.clone_children"; fi
      if [[ -e $p/cgroup.controllers && $p != "$directory" ]]; then
        for f in "$(dirname "$p")" "$p"; do
          for controller in cpu cpuset memory pids io hugetlb; do echo "+$controller" >"$f/cgroup.subtree_control" 2>/dev/null || true; done
        done
      fi
    done
  done < <(node_cgroups "$1")
}

remove_cgroups() { # remove_cgroups N: by the list that was written when the node started
  local c d list
  list=$(node_dir "$1")/cgroups
  [[ -s $list ]] || return 0
  while read -r c; do
    [[ -d $c ]] || continue
    find "$c" -depth -type d -print0 | while IFS= read -r -d '' d; do rmdir "$d" 2>/dev/null || true; done
    rmdir "$(dirname "$c")" 2>/dev/null || true
  done <"$list"
}

# --- one node ---

write_containerd() {
  cat <<TOML
version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "caracal.test/pause:1"
[plugins.'io.containerd.cri.v1.runtime']
  # Where this machine gives us no CAP_SYS_RESOURCE, scores cannot be lowered.
  restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = ["/opt/cni/bin"]
  conf_dir = "/etc/cni/net.d"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
    BinaryName = "$BIN/runc"
    SystemdCgroup = false
TOML
}

write_kubelet() { # fast reactions, and no eviction because this machine's disk is fuller than a server's
  cat <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
failCgroupV1: false
cgroupDriver: cgroupfs
failSwapOn: false
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: "$PKI/ca.crt"}}
authorization: {mode: Webhook}
clusterDNS: ["$DNS_IP4"]
clusterDomain: cluster.local
resolvConf: /etc/resolv.conf
nodeStatusUpdateFrequency: 5s
syncFrequency: 20s
evictionHard: {memory.available: "64Mi", nodefs.available: "1%", imagefs.available: "1%", nodefs.inodesFree: "1%"}
imageGCHighThresholdPercent: 100
maxPods: 250
serializeImagePulls: false
registryPullQPS: 0
oomScoreAdj: 0
YAML
}

write_proxy() { # the limits of connection tracking are the machine's, not a namespace's
  cat <<YAML
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: $PROXY_MODE
clientConnection: {kubeconfig: "$K8S_STATE/kube-proxy.kubeconfig"}
oomScoreAdj: 0
clusterCIDR: $POD_CIDR4$([[ $DUAL_STACK != 1 ]] || echo ",$POD_CIDR6")
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
YAML
}

write_files() { # write_files N
  local d ip4 image
  d=$(node_dir "$1") ip4=$("$here/fabric.sh" node-ip "$1")
  mkdir -p "$d"/{log,images,cni-bin}
  cp "$CNI_BIN"/* "$d/cni-bin/"
  for image in "$IMAGES"/*.tar; do if [[ -e $image ]]; then ln -sf "$image" "$d/images/"; fi; done
  "$here/control-plane.sh" node-kubeconfig "node$1" "$d/kubelet.kubeconfig"
  {
    declare -p BIN K8S_STATE K8S_CACHE PROXY_MODE
    echo "NODE_IP4=$ip4"
    echo "NODE_IPS=$ip4$([[ $DUAL_STACK != 1 ]] || echo ",$("$here/fabric.sh" node-ip "$1" 6)")"
    printf 'SHARE=%q\n' "${CARACAL_K8S_SHARE:-}"
  } >"$d/env"
  write_containerd >"$d/containerd.toml"
  write_kubelet >"$d/kubelet.yaml"
  write_proxy >"$d/kube-proxy.yaml"
}

node_start() { # node_start N
  local n=$1 d ns
  d=$(node_dir "$n") ns=$(node_ns "$n")
  if alive "node$n"; then log "node$n runs already"; return 0; fi
  [[ -e /run/netns/$ns ]] || ip netns add "$ns"
  "$here/fabric.sh" attach "$n" "$ns"
  write_files "$n"
  make_cgroups "$n"
  node_cgroups "$n" >"$d/cgroups"
  (
    while read -r c; do echo "$BASHPID" >"$c/cgroup.procs" || die "cannot enter the cgroup $c"; done <"$d/cgroups"
    exec setsid nsenter --net="/run/netns/$ns" unshare --mount --uts --ipc --cgroup --pid --fork --kill-child \
      "$here/node-init.sh" "$d" "node$n"
  ) >"$LOGS/node$n.log" 2>&1 </dev/null &
  record "node$n" $!
  disown $!
  wait_for 10 "node$n" node_pid "$n"
}

node_pid() { # unshare forks: its child is the node's PID 1
  local p
  alive "node$1" || return 1
  read -r p _ <"$PIDS/node$1"
  p=$(cat "/proc/$p/task/$p/children") && [[ -n $p ]] && echo "${p%% *}"
}

node_exec() { # node_exec N COMMAND…
  local p
  p=$(node_pid "$1") || die "node$1 does not run"
  shift
  nsenter -t "$p" -m -u -i -n -p -C -r -w -- env PATH="$BIN:/opt/cni/bin:$PATH" "$@"
}

node_stop() { # node_stop N
  local p
  p=$(node_pid "$1" || true)
  [[ -z $p ]] || kill -KILL "$p" 2>/dev/null || true # takes all processes of the node along
  stop "node$1"
  "$here/fabric.sh" detach "$1"
  ip netns del "$(node_ns "$1")" 2>/dev/null || true
  remove_cgroups "$1"
  rm -rf "$(node_dir "$1")"
}

# --- a network of the reference plugins, to see whether something is wrong with the cluster or with ours ---

install_ptp() {
  local n m cidr gateway
  for n in $(node_ids); do
    poll 30 has_cidr "$n" || die "node$n got no pod network"
    cidr=$(kctl get node "node$n" -o jsonpath='{.spec.podCIDR}') gateway=$("$here/fabric.sh" node-ip "$n")
    for m in $(node_ids); do
      [[ $m == "$n" ]] || node_exec "$m" ip route replace "$cidr" via "$gateway" 2>/dev/null ||
        node_exec "$m" ip route replace "$cidr" via "$(node_exec "$m" ip -4 route show default | cut -d' ' -f3)"
    done
    "$here/fabric.sh" exec ip route replace "$cidr" via "$gateway"
    node_exec "$n" sysctl -qw net.ipv4.ip_forward=1
    node_exec "$n" sh -c 'cat >/etc/cni/net.d/.new && mv /etc/cni/net.d/.new /etc/cni/net.d/90-reference.conflist' <<JSON
{"cniVersion":"1.0.0","name":"reference","plugins":[
 {"type":"ptp","ipMasq":false,"ipam":{"type":"host-local","dataDir":"/run/cni-ipam","ranges":[[{"subnet":"$cidr"}]],
  "routes":[{"dst":"0.0.0.0/0"}]}},{"type":"portmap","capabilities":{"portMappings":true}}]}
JSON
  done
  for n in $(node_ids); do poll 120 ready "$n" || die "node$n did not become Ready (its log: $(node_dir "$n")/log/kubelet.log)"; done
}

# --- all of them ---

has_cidr() { [[ -n $(kctl get node "node$1" -o jsonpath='{.spec.podCIDR}') ]]; }
registered() { kctl get node "node$1"; }
ready() { kctl get node "node$1" -o jsonpath='{.status.conditions[?(@.type=="Ready")].status}' | grep -qx True; }

up() { # up COUNT
  local count=$1 n
  [[ $count =~ ^[0-9]+$ && $count -gt 0 ]] || die "how many nodes? nodes.sh up 2"
  need_root; need ip nsenter unshare awk
  need_bin kubelet containerd containerd-shim-runc-v2 ctr runc
  [[ $PROXY_MODE =~ ^(nftables|iptables|none)$ ]] || die "CARACAL_K8S_PROXY is '$PROXY_MODE'; it must be nftables, iptables or none"
  [[ $CNI_MODE =~ ^(ptp|none)$ ]] || die "CARACAL_K8S_CNI is '$CNI_MODE'; it must be none or ptp"
  [[ $PROXY_MODE == none ]] || need_bin kube-proxy
  [[ -e $CNI_BIN/host-local && -e $IMAGES/pause.tar ]] || die "reference plugins or the pause image are missing; build them with: build.sh cni pause"
  mkdir -p "$PIDS" "$LOGS" "$K8S_STATE/nodes"
  [[ $(stat -fc %T "$K8S_STATE") != overlayfs ]] || die "$K8S_STATE is on an overlay, where containerd cannot keep images; name another directory in CARACAL_K8S_STATE"
  echo "$CNI_MODE" >"$K8S_STATE/cni-mode"
  echo "$PROXY_MODE" >"$K8S_STATE/proxy-mode"
  "$here/control-plane.sh" up all >/dev/null
  # kube-proxy is a process with a certificate here, not a pod with an account.
  kctl create clusterrolebinding kube-proxy-user --clusterrole=system:node-proxier --user=system:kube-proxy \
    --dry-run=client -o yaml | kctl apply -f - >/dev/null
  for ((n = 1; n <= count; n++)); do node_start "$n"; done
  for ((n = 1; n <= count; n++)); do
    poll 120 registered "$n" || { tail -n 20 "$(node_dir "$n")"/log/kubelet.log >&2; die "node$n did not register (its log: $(node_dir "$n")/log/kubelet.log)"; }
  done
  [[ $CNI_MODE != ptp ]] || install_ptp
  log "$count nodes are registered"
  echo "$K8S_STATE/admin.kubeconfig"
}

down() {
  local n
  need_root
  for n in $(node_ids); do node_stop "$n"; done
  # What else was started in the fabric, such as a router.
  for n in "$PIDS"/*; do if [[ -e $n && ! $n =~ /(etcd|kube-) ]]; then stop "$(basename "$n")"; fi; done
  "$here/control-plane.sh" down
  "$here/fabric.sh" down
  rm -rf "${K8S_STATE:?}"/{nodes,cni-mode,proxy-mode}
  rmdir "$K8S_STATE" 2>/dev/null || true
}

status() {
  local n
  "$here/control-plane.sh" status
  for n in $(node_ids); do
    if alive "node$n"; then printf '%-24s pid %s\n' "node$n" "$(node_pid "$n")"; else printf '%-24s stopped\n' "node$n"; fi
  done
  kctl get nodes -o wide 2>/dev/null || true
}

load() { # load ARCHIVE…
  local n archive
  for archive in "$@"; do
    for n in $(node_ids); do node_exec "$n" ctr -n k8s.io images import - <"$archive" >/dev/null || die "node$n cannot import $archive"; done
  done
}

case ${1:-} in
up) up "${2:-}" ;;
down) down ;;
stop) need_root; node_stop "${2:?which node?}" ;;
exec) shift; node_exec "$@" ;;
pid) node_pid "${2:?which node?}" ;;
kubectl) shift; kctl "$@" ;;
load) shift; load "$@" ;;
status) status ;;
*) usage "$@" ;;
esac
