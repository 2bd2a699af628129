#!/usr/bin/env bash
# PID 1 of one test node; started by nodes.sh in namespaces of its own (network, mount, PID, UTS, IPC, cgroup). Gives
# the node a root of its own (the machine's, read-only, under a writable layer) and runs containerd, kubelet and
# kube-proxy in it. When it dies, the kernel ends every process of the node.
#
#   node-init.sh DIRECTORY NAME     settings come from DIRECTORY/env
set -Eeuo pipefail
dir=$1 name=$2
. "$dir/env" # BIN, K8S_STATE, K8S_CACHE, PROXY_MODE, NODE_IP4, NODE_IPS, SHARE (more directories to see)
hostname "$name"

# Seen before the root changes.
mapfile -t v1 < <(awk '$3 == "cgroup" {print $2, $4}' /proc/self/mounts | sort -u)
v2=$(awk '$3 == "cgroup2" {print $2; exit}' /proc/self/mounts)

# The writable layer is in memory: an overlay must not lie in its own lower layer, and little is written to it. What
# grows (images, volumes of pods) comes from the disk.
new_root() {
  mount --make-rprivate /
  mkdir -p "$dir/overlay" "$dir/root"
  mount -t tmpfs -o mode=755,size=512m tmpfs "$dir/overlay"
  mkdir "$dir/overlay/upper" "$dir/overlay/work"
  mount -t overlay -o "lowerdir=/,upperdir=$dir/overlay/upper,workdir=$dir/overlay/work" overlay "$dir/root"
  r=$dir/root
  # The machine's own network configuration and plugins are not the node's.
  rm -rf "$r/etc/cni/net.d" "$r/opt/cni/bin"
  mkdir -p "$r"/{proc,sys,dev,run,tmp,etc/cni/net.d,opt/cni/bin,lib/modules} "$r"/var/lib/{kubelet,containerd,cni} \
    "$r"/var/log/{pods,containers}
  mount -t proc proc "$r/proc"
  mount -t sysfs sysfs "$r/sys"
  mount --rbind /dev "$r/dev"
  mount -t tmpfs -o mode=755 tmpfs "$r/run"
  mount -t tmpfs -o mode=1777 tmpfs "$r/tmp"
  mkdir -p "$r"/run/{netns,lock,containerd}
  [[ -L $r/var/run ]] || { rm -rf "$r/var/run"; ln -s /run "$r/var/run"; }
  local d
  for d in kubelet containerd; do mkdir -p "$dir/$d" && mount --bind "$dir/$d" "$r/var/lib/$d"; done
  for d in "$K8S_STATE" "$K8S_CACHE" $SHARE; do mkdir -p "$r$d" && mount --bind "$d" "$r$d"; done
  mkdir -p "$r/sys/fs/bpf" && mount -t bpf bpf "$r/sys/fs/bpf" 2>/dev/null || true
}

# The machine's hierarchies, with this node's cgroup as their root.
cgroups() {
  local e at opts c
  if ((${#v1[@]})); then
    mount -t tmpfs -o mode=755 tmpfs "$r/sys/fs/cgroup"
    for e in "${v1[@]}"; do
      read -r at opts <<<"$e"
      opts=$(tr , '\n' <<<"$opts" | grep -vxE 'rw|ro|relatime|nosuid|nodev|noexec|xattr|clone_children|release_agent=.*' | paste -sd,)
      at=$r/sys/fs/cgroup/${at##*/}
      mkdir -p "$at" && mount -t cgroup -o "$opts" cgroup "$at"
    done
  elif [[ -n $v2 ]]; then
    mount -t cgroup2 cgroup2 "$r/sys/fs/cgroup"
    # Only leaves may hold processes: this one moves away before controllers are handed on.
    mkdir -p "$r/sys/fs/cgroup/node" && echo 1 >"$r/sys/fs/cgroup/node/cgroup.procs"
    for c in $(cat "$r/sys/fs/cgroup/cgroup.controllers"); do
      echo "+$c" >"$r/sys/fs/cgroup/cgroup.subtree_control" 2>/dev/null || true
    done
  fi
}

# kubelet sets these for the whole machine: it is shown files that hold what it wants, and the machine keeps its own.
fake() { # fake SYSCTL VALUE
  local file=/run/${1//\//_}
  printf '%s\n' "$2" >"$file"; mount --bind "$file" "/proc/sys/$1"
}

keep() { # keep NAME COMMAND…: started again when it ends, unless /run/stop.NAME exists
  local n=$1; shift
  (
    while :; do
      if [[ ! -e /run/stop.$n ]]; then
        "$@" >>"$dir/log/$n.log" 2>&1 </dev/null &
        echo $! >"/run/$n.pid"
        wait $! || true
        echo "--- $n ended ---" >>"$dir/log/$n.log"
      fi
      sleep 1
    done
  ) &
}

new_root
cgroups
cd "$r"
mkdir -p .old
pivot_root . .old
cd /
umount -l /.old
mount --make-rshared / # volumes and network namespaces must reach the containers
fake vm/overcommit_memory 1
fake vm/panic_on_oom 0
fake kernel/panic 10
fake kernel/panic_on_oops 1
fake kernel/keys/root_maxkeys 1000000
fake kernel/keys/root_maxbytes 25000000

rm -f /etc/resolv.conf /etc/hosts
: >/etc/resolv.conf
printf '127.0.0.1 localhost\n::1 localhost\n%s %s\n' "$NODE_IP4" "$name" >/etc/hosts
cp -a "$dir"/cni-bin/. /opt/cni/bin/ 2>/dev/null || true
export PATH=$BIN:/opt/cni/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
ulimit -n 65536 2>/dev/null || true

mkdir -p "$dir/log"
keep containerd containerd --config "$dir/containerd.toml"
for _ in $(seq 150); do [[ -S /run/containerd/containerd.sock ]] && ctr version >/dev/null 2>&1 && break; sleep 0.2; done
for image in "$dir"/images/*.tar; do
  [[ -e $image ]] || continue
  ctr -n k8s.io images import "$image" >>"$dir/log/images.log" 2>&1 || echo "import of $image failed" >>"$dir/log/images.log"
done
keep kubelet kubelet --config="$dir/kubelet.yaml" --kubeconfig="$dir/kubelet.kubeconfig" \
  --hostname-override="$name" --node-ip="$NODE_IPS" -v="${KUBELET_V:-1}"
[[ $PROXY_MODE == none ]] || keep kube-proxy kube-proxy --config="$dir/kube-proxy.yaml" --hostname-override="$name"

trap 'exit 0' TERM INT
while :; do sleep 3600 & wait $! || true; done
