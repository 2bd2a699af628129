#!/usr/bin/env bash
# Runs a real etcd and kube-apiserver on loopback, as the same user, without root; or a whole control plane.
#
#   control-plane.sh up          starts the two; the last line is the path of an administrator's kubeconfig
#   control-plane.sh up all      kube-controller-manager and kube-scheduler too (service accounts, namespaces that go)
#   control-plane.sh restart [etcd|kube-apiserver|kube-controller-manager|kube-scheduler]
#                                the API server when none is named; it then has forgotten the versions before (410)
#   control-plane.sh stop NAME   one of the four, until `up` is called again
#   control-plane.sh status      process ids and resident memory
#   control-plane.sh down        stops them and deletes all their state
#
#   CARACAL_K8S_API_PORT (16443)  CARACAL_K8S_ETCD_PORT (12379; its peer port is one higher)
#   CARACAL_K8S_FSYNC=1           etcd waits for the disk, as in production (for measurements)
#   CARACAL_K8S_APISERVER_ARGS, CARACAL_K8S_KCM_ARGS, CARACAL_K8S_SCHEDULER_ARGS    further arguments
#   CARACAL_K8S_FABRIC=1          in the fabric's namespace, where nodes reach it (set by nodes.sh; needs root)
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

API_PORT=${CARACAL_K8S_API_PORT:-16443}
ETCD_PORT=${CARACAL_K8S_ETCD_PORT:-12379}
KCM_PORT=${CARACAL_K8S_KCM_PORT:-20257}
SCHEDULER_PORT=${CARACAL_K8S_SCHEDULER_PORT:-20259}
PROGRAMS=(etcd kube-apiserver kube-controller-manager kube-scheduler)
API_IP=127.0.0.1 ENTER=()
if [[ $FABRIC == 1 ]]; then API_IP=$FABRIC_IP4 ENTER=(nsenter "--net=/run/netns/$FABRIC_NS"); fi
# What is only there with all four is remembered as well: a restart must give the API server the same arguments.
SCOPE=$(cat "$K8S_STATE/scope" 2>/dev/null || echo api)

authority() { # authority NAME
  [[ -s $PKI/$1.crt ]] && return 0
  openssl ecparam -name prime256v1 -genkey -noout -out "$PKI/$1.key" 2>/dev/null
  openssl req -x509 -new -key "$PKI/$1.key" -days 3650 -subj "/CN=$1" \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,digitalSignature -out "$PKI/$1.crt"
}

certificate() { # certificate AUTHORITY NAME SUBJECT USAGE [ALTERNATIVE-NAMES]
  [[ -s $PKI/$2.crt ]] && return 0
  openssl ecparam -name prime256v1 -genkey -noout -out "$PKI/$2.key" 2>/dev/null
  openssl req -new -key "$PKI/$2.key" -subj "$3" -out "$PKI/$2.csr"
  openssl x509 -req -in "$PKI/$2.csr" -CA "$PKI/$1.crt" -CAkey "$PKI/$1.key" -days 3650 \
    -set_serial "0x$(openssl rand -hex 15)" -out "$PKI/$2.crt" \
    -extfile <(printf 'keyUsage=critical,digitalSignature\nextendedKeyUsage=%s\n' "$4"
      [[ -z ${5:-} ]] || printf 'subjectAltName=%s\n' "$5") 2>/dev/null
  rm -f "$PKI/$2.csr"
}

kubeconfig() { # kubeconfig FILE CERTIFICATE
  (umask 077 && cat >"$1.new" <<YAML
apiVersion: v1
kind: Config
current-context: real
contexts: [{name: real, context: {cluster: real, user: $2}}]
clusters:
- name: real
  cluster:
    server: https://$API_IP:$API_PORT
    certificate-authority-data: $(base64 -w0 <"$PKI/ca.crt")
users:
- name: $2
  user:
    client-certificate-data: $(base64 -w0 <"$PKI/$2.crt")
    client-key-data: $(base64 -w0 <"$PKI/$2.key")
YAML
  )
  mv "$1.new" "$1"
}

credentials() {
  mkdir -p "$PKI" && chmod 700 "$PKI"
  authority ca
  authority front-proxy-ca
  certificate ca apiserver /CN=kube-apiserver serverAuth \
    "DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,IP:127.0.0.1,IP:$FABRIC_IP4,IP:$FABRIC_IP6,IP:$SERVICE_IP4"
  certificate ca apiserver-kubelet-client /O=system:masters/CN=kube-apiserver-kubelet-client clientAuth
  certificate front-proxy-ca front-proxy-client /CN=front-proxy-client clientAuth
  certificate ca admin /O=system:masters/CN=admin clientAuth
  [[ -s $PKI/sa.key ]] || openssl ecparam -name prime256v1 -genkey -noout -out "$PKI/sa.key" 2>/dev/null
  kubeconfig "$K8S_STATE/admin.kubeconfig" admin
  [[ $SCOPE == all ]] || return 0
  local user
  for user in kube-controller-manager kube-scheduler kube-proxy; do
    certificate ca "$user" "/CN=system:$user" clientAuth
    kubeconfig "$K8S_STATE/$user.kubeconfig" "$user"
  done
}

require_port() { # require_port NAME PORT; in the fabric all ports are ours
  [[ $FABRIC == 1 ]] || alive "$1" || ! (exec 3<>"/dev/tcp/127.0.0.1/$2") 2>/dev/null ||
    die "port $2 of 127.0.0.1 is in use; choose another for $1 (see --help)"
}

etcd_ready() { inside curl -fsS -m 2 "http://127.0.0.1:$ETCD_PORT/health"; }
api_ready() { kctl get --raw /readyz; }

start_etcd() {
  local sync=(--unsafe-no-fsync)
  [[ ${CARACAL_K8S_FSYNC:-0} != 1 ]] || sync=()
  require_port etcd "$ETCD_PORT"
  spawn etcd "${ENTER[@]}" "$BIN/etcd" --name=one --data-dir="$K8S_STATE/etcd" "${sync[@]}" --log-level=warn \
    --listen-client-urls="http://127.0.0.1:$ETCD_PORT" --advertise-client-urls="http://127.0.0.1:$ETCD_PORT" \
    --listen-peer-urls="http://127.0.0.1:$((ETCD_PORT + 1))" \
    --initial-advertise-peer-urls="http://127.0.0.1:$((ETCD_PORT + 1))" \
    --initial-cluster="one=http://127.0.0.1:$((ETCD_PORT + 1))"
  wait_for 60 etcd etcd_ready
}

# Alone, nothing makes tokens for pods or finishes namespaces: the admission plug-in that insists on service accounts
# is off. A loopback address cannot be the endpoint of the "kubernetes" service: it has none.
start_apiserver() {
  local services=$SERVICE_CIDR4 scope=(--authorization-mode=RBAC --endpoint-reconciler-type=none)
  [[ $DUAL_STACK != 1 ]] || services+=,$SERVICE_CIDR6
  if [[ $SCOPE == all ]]; then
    # Webhooks and aggregated APIs are reached at their pods' addresses: no kube-proxy runs where this server runs.
    scope=(--authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --enable-aggregator-routing=true
      --kubelet-client-certificate="$PKI/apiserver-kubelet-client.crt" --kubelet-client-key="$PKI/apiserver-kubelet-client.key"
      --kubelet-preferred-address-types=InternalIP --requestheader-client-ca-file="$PKI/front-proxy-ca.crt"
      --requestheader-allowed-names=front-proxy-client --requestheader-username-headers=X-Remote-User
      --requestheader-group-headers=X-Remote-Group --requestheader-extra-headers-prefix=X-Remote-Extra-
      --proxy-client-cert-file="$PKI/front-proxy-client.crt" --proxy-client-key-file="$PKI/front-proxy-client.key"
      --endpoint-reconciler-type="$([[ $FABRIC == 1 ]] && echo lease || echo none)")
  else
    scope+=(--disable-admission-plugins=ServiceAccount)
  fi
  require_port kube-apiserver "$API_PORT"
  # shellcheck disable=SC2086
  spawn kube-apiserver "${ENTER[@]}" "$BIN/kube-apiserver" --etcd-servers="http://127.0.0.1:$ETCD_PORT" \
    --bind-address="$([[ $FABRIC == 1 ]] && echo 0.0.0.0 || echo 127.0.0.1)" --secure-port="$API_PORT" \
    --advertise-address="$API_IP" --cert-dir="$K8S_STATE" \
    --tls-cert-file="$PKI/apiserver.crt" --tls-private-key-file="$PKI/apiserver.key" --client-ca-file="$PKI/ca.crt" \
    --service-account-key-file="$PKI/sa.key" --service-account-signing-key-file="$PKI/sa.key" \
    --service-account-issuer=https://kubernetes.default.svc --allow-privileged=true "${scope[@]}" \
    --service-cluster-ip-range="$services" ${CARACAL_K8S_APISERVER_ARGS:-}
  wait_for 180 kube-apiserver api_ready
}

start_kcm() {
  local pods=$POD_CIDR4 extra=(--node-cidr-mask-size-ipv4=24)
  if [[ $DUAL_STACK == 1 ]]; then pods+=,$POD_CIDR6; extra+=(--node-cidr-mask-size-ipv6=64); fi
  require_port kube-controller-manager "$KCM_PORT"
  # shellcheck disable=SC2086
  spawn kube-controller-manager "${ENTER[@]}" "$BIN/kube-controller-manager" \
    --kubeconfig="$K8S_STATE/kube-controller-manager.kubeconfig" --bind-address=127.0.0.1 --secure-port="$KCM_PORT" \
    --cert-dir="$K8S_STATE" --leader-elect=false --use-service-account-credentials=true \
    --service-account-private-key-file="$PKI/sa.key" --root-ca-file="$PKI/ca.crt" \
    --cluster-signing-cert-file="$PKI/ca.crt" --cluster-signing-key-file="$PKI/ca.key" \
    --allocate-node-cidrs=true --cluster-cidr="$pods" "${extra[@]}" --service-cluster-ip-range="$SERVICE_CIDR4" \
    --kube-api-qps=200 --kube-api-burst=400 ${CARACAL_K8S_KCM_ARGS:-}
  # The first sign of its work.
  wait_for 60 kube-controller-manager kctl -n default get serviceaccount default
}

start_scheduler() {
  require_port kube-scheduler "$SCHEDULER_PORT"
  # shellcheck disable=SC2086
  spawn kube-scheduler "${ENTER[@]}" "$BIN/kube-scheduler" --kubeconfig="$K8S_STATE/kube-scheduler.kubeconfig" \
    --bind-address=127.0.0.1 --secure-port="$SCHEDULER_PORT" --cert-dir="$K8S_STATE" --leader-elect=false \
    --kube-api-qps=200 --kube-api-burst=400 ${CARACAL_K8S_SCHEDULER_ARGS:-}
}

up() {
  need openssl curl setsid
  need_bin etcd kube-apiserver kubectl
  case ${1:-$SCOPE} in
  api) ;;
  all) SCOPE=all; need_bin kube-controller-manager kube-scheduler ;;
  *) die "up what? nothing or all" ;;
  esac
  mkdir -p "$K8S_STATE"
  echo "$FABRIC" >"$K8S_STATE/fabric"
  echo "$SCOPE" >"$K8S_STATE/scope"
  if [[ $FABRIC == 1 ]]; then need_root; need nsenter; "$here/fabric.sh" up; fi
  credentials
  start_etcd
  start_apiserver
  if [[ $SCOPE == all ]]; then start_kcm; start_scheduler; fi
  echo "$K8S_STATE/admin.kubeconfig"
}

down() {
  local i
  for ((i = ${#PROGRAMS[@]} - 1; i >= 0; i--)); do stop "${PROGRAMS[i]}"; done
  # Only what these scripts made is deleted.
  rm -rf "${K8S_STATE:?}"/{etcd,pki,logs,pids,fabric,scope,apiserver.crt,apiserver.key} "$K8S_STATE"/{admin,kube-}*.kubeconfig \
    "$K8S_STATE"/kube-*.{crt,key}
  rmdir "$K8S_STATE" 2>/dev/null || true
}

status() {
  local name pid
  for name in "${PROGRAMS[@]}"; do
    [[ $SCOPE == all || $name == etcd || $name == kube-apiserver ]] || continue
    if alive "$name"; then
      read -r pid _ <"$PIDS/$name"
      printf '%-24s pid %-8s %6d kB\n' "$name" "$pid" "$(awk '/^VmRSS/{print $2}' "/proc/$pid/status")"
    else
      printf '%-24s stopped\n' "$name"
    fi
  done
}

restart() {
  stop "$1"
  case $1 in
  etcd) start_etcd ;;
  kube-apiserver) start_apiserver ;;
  kube-controller-manager) start_kcm ;;
  kube-scheduler) start_scheduler ;;
  *) die "restart what? one of: ${PROGRAMS[*]}" ;;
  esac
}

case ${1:-} in
up) up "${2:-}" ;;
down) down ;;
restart) restart "${2:-kube-apiserver}" ;;
stop) stop "${2:?which program?}" ;;
status) status ;;
node-kubeconfig) # node-kubeconfig NODE FILE: the credentials of its kubelet
  certificate ca "node-$2" "/O=system:nodes/CN=system:node:$2" clientAuth
  kubeconfig "$3" "node-$2" ;;
*) usage "$@" ;;
esac
