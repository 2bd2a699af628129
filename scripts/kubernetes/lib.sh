# shellcheck shell=bash disable=SC2034
# Settings and helpers of the scripts beside this one. Sourced, not run.
#
#   CARACAL_K8S_CACHE    what was built (default ~/.cache/caracal-k8s); outside the checkout, kept between CI's runs
#   CARACAL_K8S_VERSION  version of Kubernetes (default v1.37.1)
#   CARACAL_K8S_STATE    one cluster's certificates, data, logs and process ids
#                        (default ${TMPDIR:-/tmp}/caracal-k8s); give each cluster its own, on a real file system
#   CARACAL_K8S_NAME     short name for its namespaces and cgroups (default ck8s); give each cluster its own
#   CARACAL_K8S_DUAL_STACK=1   pods and services have IPv6 too
#   CARACAL_K8S_POD_CIDR4 and _CIDR6, CARACAL_K8S_SERVICE_CIDR4 and _CIDR6

set -Eeuo pipefail

K8S_VERSION=${CARACAL_K8S_VERSION:-v1.37.1}
K8S_CACHE=${CARACAL_K8S_CACHE:-${HOME:-/root}/.cache/caracal-k8s}
K8S_STATE=${CARACAL_K8S_STATE:-${TMPDIR:-/tmp}/caracal-k8s}
K8S_NAME=${CARACAL_K8S_NAME:-ck8s}
BIN=$K8S_CACHE/$K8S_VERSION/bin
CNI_BIN=$K8S_CACHE/$K8S_VERSION/cni      # reference plugins
IMAGES=$K8S_CACHE/$K8S_VERSION/images    # archives that every node imports when it starts
PIDS=$K8S_STATE/pids
LOGS=$K8S_STATE/logs
PKI=$K8S_STATE/pki

# The fabric is a network namespace that plays top-of-rack and holds the control plane.
FABRIC_NS=$K8S_NAME-fabric
FABRIC_IP4=172.30.0.1
FABRIC_IP6=fd30:ca::1
SERVICE_CIDR4=${CARACAL_K8S_SERVICE_CIDR4:-10.96.0.0/16}
SERVICE_CIDR6=${CARACAL_K8S_SERVICE_CIDR6:-fd96:ca::/112}
POD_CIDR4=${CARACAL_K8S_POD_CIDR4:-10.244.0.0/16}
POD_CIDR6=${CARACAL_K8S_POD_CIDR6:-fd24:ca::/48}
DUAL_STACK=${CARACAL_K8S_DUAL_STACK:-0}
SERVICE_IP4=10.96.0.1
DNS_IP4=10.96.0.10

log() { printf '[%s] %s\n' "$(date +%H:%M:%S)" "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }
usage() { sed -n '2,/^here=/{/^here=/d;s/^# \{0,1\}//;p}' "$0"; [[ ${1:-} == -h || ${1:-} == --help ]] || exit 2; }

need() { # need COMMAND…: stops when a command is missing
  local command
  for command in "$@"; do
    command -v "$command" >/dev/null 2>&1 || die "'$command' is needed and was not found in PATH"
  done
}

need_bin() { # need_bin NAME…: stops when a program has not been built
  local name
  for name in "$@"; do
    [[ -x $BIN/$name ]] || die "$BIN/$name is missing; build it with: scripts/kubernetes/build.sh $name"
  done
}

need_root() { [[ $(id -u) == 0 ]] || die "this makes namespaces, mounts and cgroups and needs root"; }

# A process is known by its number and the time it started, so that a number used again is never taken for ours.
started() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }
record() { echo "$2 $(started "$2")" >"$PIDS/$1"; } # record NAME PID

alive() { # alive NAME: the process of that name runs
  local pid start
  [[ -s $PIDS/$1 ]] || return 1
  read -r pid start <"$PIDS/$1" || return 1
  [[ -r /proc/$pid/stat && $(started "$pid") == "$start" ]] || return 1
  [[ $(sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null | cut -c1) != Z ]]
}

spawn() { # spawn NAME COMMAND…: in the background, with a log
  local name=$1; shift
  mkdir -p "$PIDS" "$LOGS"
  if alive "$name"; then log "$name runs already"; return 0; fi
  setsid "$@" >"$LOGS/$name.log" 2>&1 </dev/null &
  record "$name" $!
  disown $!
}

stop() { # stop NAME: asks it to end, and ends it when it does not
  local pid tries
  if alive "$1"; then
    read -r pid _ <"$PIDS/$1"
    kill -TERM "$pid" 2>/dev/null || true
    for ((tries = 0; tries < 100; tries++)); do alive "$1" || break; sleep 0.1; done
    if alive "$1"; then kill -KILL "$pid" 2>/dev/null || true; sleep 0.2; fi
    log "stopped $1"
  fi
  rm -f "$PIDS/$1"
}

poll() { # poll SECONDS COMMAND…: until the command succeeds; fails when it does not within the time
  local limit=$1 begin=$SECONDS; shift
  until "$@" >/dev/null 2>&1; do
    ((SECONDS - begin < limit)) || return 1
    sleep 0.3
  done
}

wait_for() { # wait_for SECONDS NAME COMMAND…: until the command succeeds, while the process NAME runs
  local limit=$1 name=$2 begin=$SECONDS; shift 2
  until "$@" >/dev/null 2>&1; do
    if ((SECONDS - begin >= limit)) || ! alive "$name"; then
      tail -n 25 "$LOGS/$name.log" >&2 2>/dev/null || true
      die "$name did not become ready (its log: $LOGS/$name.log)"
    fi
    sleep 0.2
  done
  log "$name is ready after $((SECONDS - begin)) s"
}

# Whether the control plane is in the fabric is remembered, so that later commands need no settings.
FABRIC=${CARACAL_K8S_FABRIC:-$(cat "$K8S_STATE/fabric" 2>/dev/null || echo 0)}
inside() { # inside COMMAND…: where the control plane runs
  if [[ $FABRIC == 1 ]]; then nsenter --net="/run/netns/$FABRIC_NS" "$@"; else "$@"; fi
}
kctl() { inside "$BIN/kubectl" --kubeconfig "$K8S_STATE/admin.kubeconfig" "$@"; }
