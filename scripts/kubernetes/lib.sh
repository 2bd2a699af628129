# shellcheck shell=bash disable=SC2034
# Settings and helpers of the scripts beside this one. Sourced, not run.
#
#   CARACAL_K8S_CACHE    what was built (default ~/.cache/caracal-k8s); outside the checkout, kept between CI's runs
#   CARACAL_K8S_VERSION  version of Kubernetes (default v1.37.1)
#   CARACAL_K8S_STATE    one control plane's certificates, data, logs and process ids
#                        (default ${TMPDIR:-/tmp}/caracal-k8s); give each control plane its own

set -Eeuo pipefail

K8S_VERSION=${CARACAL_K8S_VERSION:-v1.37.1}
K8S_CACHE=${CARACAL_K8S_CACHE:-${HOME:-/root}/.cache/caracal-k8s}
K8S_STATE=${CARACAL_K8S_STATE:-${TMPDIR:-/tmp}/caracal-k8s}
BIN=$K8S_CACHE/$K8S_VERSION/bin
PIDS=$K8S_STATE/pids
LOGS=$K8S_STATE/logs
PKI=$K8S_STATE/pki

log() { printf '[%s] %s\n' "$(date +%H:%M:%S)" "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

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

# A process is known by its number and the time it started, so that a number used again is never taken for ours.
started() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }

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
  echo "$! $(started $!)" >"$PIDS/$name"
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
