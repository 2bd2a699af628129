#!/usr/bin/env bash
# Builds a real Kubernetes API from Go modules: what our own API server is compared with.
#
#   build.sh             etcd, kube-apiserver, kubectl
#   build.sh NAME…       some of: etcd kube-apiserver kubectl kube-controller-manager
#   build.sh list        what is built, and where
#   build.sh key         the key under which CI keeps the cache: version and hash of this script
#
# What is built already is skipped; CARACAL_K8S_FORCE=1 builds it again. Nothing but Go modules is fetched, and the
# go command checks them against its checksum database. About 20 minutes of two busy cores and 6 GiB of Go's caches.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

MIN_GO=1.26.0
DEFAULT=(etcd kube-apiserver kubectl)
KNOWN=(etcd kube-apiserver kubectl kube-controller-manager)
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

build() { # build NAME
  local package=k8s.io/kubernetes/cmd/$1
  # etcd in the version that Kubernetes names, so that the compiled packages are shared.
  [[ $1 != etcd ]] || package=go.etcd.io/etcd/server/v3
  module
  (cd "$MODULE" && CGO_ENABLED=0 nice -n "${CARACAL_K8S_NICE:-0}" go build -mod=mod -trimpath -buildvcs=false \
    -ldflags "$(flags)" -o "$BIN/$1" "$package")
}

main() {
  local name begin
  case ${1:-} in
  -h | --help) sed -n '2,/^here=/{/^here=/d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;;
  key) echo "$K8S_VERSION-$(sha256sum "$here/build.sh" "$here/lib.sh" | sha256sum | cut -c1-16)"; exit 0 ;;
  list)
    for name in "${KNOWN[@]}"; do
      printf '%-26s %s\n' "$name" "$([[ -x $BIN/$name ]] && du -sh "$BIN/$name" || echo 'not built')"
    done
    exit 0 ;;
  esac
  [[ $# -gt 0 ]] || set -- "${DEFAULT[@]}"
  for name in "$@"; do
    [[ " ${KNOWN[*]} " == *" $name "* ]] || die "unknown program '$name'; known: ${KNOWN[*]}"
  done
  check_go
  mkdir -p "$BIN"
  for name in "$@"; do
    if [[ -x $BIN/$name && ${CARACAL_K8S_FORCE:-0} != 1 ]]; then log "$name: built already"; continue; fi
    begin=$SECONDS
    log "$name: building"
    build "$name" || die "building $name failed"
    log "$name: $((SECONDS - begin)) s, $(du -sh "$BIN/$name" | cut -f1)"
  done
  log "programs are in $BIN"
}
main "$@"
