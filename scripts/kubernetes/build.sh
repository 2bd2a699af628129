#!/usr/bin/env bash
# Builds a real Kubernetes from Go modules: what our own API server is compared with, and the nodes that the chart is
# tried on.
#
#   build.sh             etcd, kube-apiserver, kubectl: an API server
#   build.sh cluster     what nodes.sh needs: kube-controller-manager, kube-scheduler, kubelet, kube-proxy, containerd,
#                        runc, reference plugins, images of pause and agnhost, helm, coredns too
#   build.sh e2e.test    upstream's end-to-end tests
#   build.sh NAME…       single programs
#   build.sh list [NAME…]  what is built, and where
#   build.sh key         the key under which CI keeps the cache: version and hash of what builds it
#
# What is built already is skipped; CARACAL_K8S_FORCE=1 builds it again. Nothing but Go modules is fetched, and the
# go command checks them against its checksum database. An API server: about 20 minutes of two busy cores and 6 GiB of
# Go's caches; all: about an hour and 11 GiB.
#
# Needs go, gcc and for nodes: pkg-config and libseccomp's headers (runc), a static busybox. On Debian:
#   apt-get install gcc libc6-dev pkg-config libseccomp-dev busybox-static curl openssl iproute2 nftables iptables \
#     conntrack util-linux procps
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

MIN_GO=1.26.0
CONTAINERD_VERSION=v2.4.2
RUNC_VERSION=v1.5.2
CNI_PLUGINS_VERSION=v1.9.1
CNI_VERSION=v1.3.1
HELM_VERSION=v4.3.1
COREDNS_VERSION=v1.14.7
DEFAULT=(etcd kube-apiserver kubectl)
CLUSTER=("${DEFAULT[@]}" kube-controller-manager kube-scheduler kubelet kube-proxy containerd containerd-shim-runc-v2 ctr runc
  cni cnitool pause agnhost helm coredns)
KNOWN=("${CLUSTER[@]}" e2e.test)
MODULE=$K8S_CACHE/$K8S_VERSION/mod

check_go() {
  need go
  local have
  have=$(go env GOVERSION) && have=${have#go}
  [[ $(printf '%s\n%s\n' "$MIN_GO" "${have%%-*}" | sort -V | head -1) == "$MIN_GO" ]] ||
    die "Kubernetes $K8S_VERSION needs Go $MIN_GO or newer, this is $have"
}

# Kubernetes cannot be installed as it is: its go.mod names folders for its staging modules (k8s.io/api, …) that the
# module does not contain. A module of our own requires it and names their published releases: v1.X.Y goes with v0.X.Y.
module() {
  [[ -s $MODULE/go.mod ]] && return 0
  local staging=v0.${K8S_VERSION#v1.} gomod name
  log "resolving k8s.io/kubernetes@$K8S_VERSION"
  rm -rf "$MODULE.tmp" && mkdir -p "$MODULE.tmp"
  (cd "$MODULE.tmp" && go mod init caracal.invalid/k8s >/dev/null 2>&1)
  gomod=$(cd "$MODULE.tmp" && go mod download -json "k8s.io/kubernetes@$K8S_VERSION" |
    sed -n 's/^\t"GoMod": "\(.*\)",\{0,1\}$/\1/p')
  [[ -s $gomod ]] || die "k8s.io/kubernetes@$K8S_VERSION cannot be fetched"
  {
    printf 'module caracal.invalid/k8s\n\n%s\n\n' "$(grep -m1 '^go ' "$gomod")"
    printf 'require k8s.io/kubernetes %s\n\n' "$K8S_VERSION"
    grep -oE 'k8s\.io/[a-z-]+ => \./staging' "$gomod" | cut -d' ' -f1 | while read -r name; do
      printf 'replace %s => %s %s\n' "$name" "$name" "$staging"
    done
  } >"$MODULE.tmp/go.mod"
  rm -rf "$MODULE" && mv "$MODULE.tmp" "$MODULE"
}

flags() {
  local package text='-s -w'
  for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    text+=" -X $package.gitVersion=$K8S_VERSION -X $package.gitMajor=1 -X $package.gitMinor=$(cut -d. -f2 <<<"$K8S_VERSION")"
    text+=" -X $package.gitTreeState=clean -X $package.gitCommit=$K8S_VERSION -X $package.buildDate=1970-01-01T00:00:00Z"
  done
  echo "$text"
}

of_kubernetes() { # of_kubernetes NAME PACKAGE
  module
  (cd "$MODULE" && CGO_ENABLED=0 nice -n "${CARACAL_K8S_NICE:-0}" go build -mod=mod -trimpath -buildvcs=false \
    -ldflags "$(flags)" -o "$BIN/$1" "$2")
}

installed() { # installed DIRECTORY PACKAGE@VERSION [FLAG…]: of modules that can be installed as they are
  local directory=$1 package=$2; shift 2
  (cd / && GOBIN=$directory nice -n "${CARACAL_K8S_NICE:-0}" go install -trimpath -buildvcs=false "$@" "$package")
}

reference_plugins() {
  local name
  rm -rf "$CNI_BIN.new" && mkdir -p "$CNI_BIN.new"
  for name in main/{bridge,ptp,loopback,host-device,macvlan,ipvlan,vlan,tap,dummy} ipam/{host-local,static,dhcp} \
    meta/{portmap,bandwidth,tuning,firewall,sbr,vrf}; do
    CGO_ENABLED=0 installed "$CNI_BIN.new" "github.com/containernetworking/plugins/plugins/$name@$CNI_PLUGINS_VERSION" \
      -ldflags "-s -w -X github.com/containernetworking/plugins/pkg/utils/buildversion.BuildVersion=$CNI_PLUGINS_VERSION"
  done
  rm -rf "$CNI_BIN" && mv "$CNI_BIN.new" "$CNI_BIN"
}

build() { # build NAME
  local lean='no_btrfs no_zfs no_devmapper no_aufs urfave_cli_no_docs osusergo netgo static_build'
  case $1 in
  # In the version that Kubernetes names, so that the compiled packages are shared.
  etcd) of_kubernetes etcd go.etcd.io/etcd/server/v3 ;;
  kube* ) of_kubernetes "$1" "k8s.io/kubernetes/cmd/$1" ;;
  agnhost) of_kubernetes agnhost k8s.io/kubernetes/test/images/agnhost && "$here/images.sh" agnhost ;;
  e2e.test)
    module
    (cd "$MODULE" && CGO_ENABLED=0 nice -n "${CARACAL_K8S_NICE:-0}" go test -mod=mod -trimpath -buildvcs=false -vet=off -c \
      -ldflags "$(flags)" -o "$BIN/e2e.test" k8s.io/kubernetes/test/e2e) ;;
  containerd | ctr | containerd-shim-runc-v2)
    CGO_ENABLED=0 installed "$BIN" "github.com/containerd/containerd/v2/cmd/$1@$CONTAINERD_VERSION" \
      -tags "$lean" -ldflags "-s -w -X github.com/containerd/containerd/v2/version.Version=$CONTAINERD_VERSION" ;;
  runc) # without seccomp no pod starts: kubelet asks for the default profile for every sandbox
    need gcc pkg-config
    pkg-config --exists libseccomp || die "runc needs libseccomp's headers (Debian: libseccomp-dev)"
    CGO_ENABLED=1 installed "$BIN" "github.com/opencontainers/runc@$RUNC_VERSION" -tags seccomp \
      -ldflags "-s -w -X main.version=${RUNC_VERSION#v}" ;;
  cni) reference_plugins ;;
  cnitool) CGO_ENABLED=0 installed "$BIN" "github.com/containernetworking/cni/cnitool@$CNI_VERSION" -ldflags '-s -w' ;;
  helm) CGO_ENABLED=0 installed "$BIN" "helm.sh/helm/${HELM_VERSION%%.*}/cmd/helm@$HELM_VERSION" \
    -ldflags "-s -w -X helm.sh/helm/${HELM_VERSION%%.*}/internal/version.version=$HELM_VERSION" ;;
  coredns) CGO_ENABLED=0 installed "$BIN" "github.com/coredns/coredns@$COREDNS_VERSION" -ldflags '-s -w' ;;
  pause) "$here/images.sh" pause ;;
  esac
}

file_of() { # the file whose presence says "built"
  case $1 in
  cni) echo "$CNI_BIN/host-local" ;;
  pause | agnhost) echo "$IMAGES/$1.tar" ;;
  *) echo "$BIN/$1" ;;
  esac
}

expand() { # names of groups and programs, one a line
  local name
  for name in "$@"; do
    case $name in
    cluster) printf '%s\n' "${CLUSTER[@]}" ;;
    *) [[ " ${KNOWN[*]} " == *" $name "* ]] || die "unknown program '$name'; known: cluster ${KNOWN[*]}"; echo "$name" ;;
    esac
  done
}

list() {
  local name file names
  names=$(expand "$@")
  for name in $names; do
    file=$(file_of "$name")
    printf '%-26s %s\n' "$name" "$([[ -e $file ]] && du -sh "$file" || echo 'not built')"
  done
}

main() {
  local name names begin file
  case ${1:-} in
  -h | --help) usage "$@"; exit 0 ;;
  key) echo "$K8S_VERSION-$(sha256sum "$here"/{build,lib,images}.sh "$here/pause.c" | sha256sum | cut -c1-16)"; exit 0 ;;
  list) shift; [[ $# -gt 0 ]] || set -- "${KNOWN[@]}"; list "$@"; exit 0 ;;
  esac
  [[ $# -gt 0 ]] || set -- "${DEFAULT[@]}"
  names=$(expand "$@")
  check_go
  mkdir -p "$BIN" "$IMAGES"
  for name in $names; do
    file=$(file_of "$name")
    if [[ -e $file && ${CARACAL_K8S_FORCE:-0} != 1 ]]; then log "$name: built already"; continue; fi
    begin=$SECONDS
    log "$name: building"
    build "$name" || die "building $name failed"
    log "$name: $((SECONDS - begin)) s, $(du -sh "$file" | cut -f1)"
  done
  log "programs are in $BIN"
}
main "$@"
