#!/usr/bin/env bash
# Runs a real etcd and kube-apiserver on loopback, as the same user, without root.
#
#   control-plane.sh up          starts them; the last line is the path of an administrator's kubeconfig
#   control-plane.sh restart     the API server only; it then has forgotten the versions before (410)
#   control-plane.sh status      process ids and resident memory
#   control-plane.sh down        stops them and deletes all their state
#
#   CARACAL_K8S_API_PORT (16443)  CARACAL_K8S_ETCD_PORT (12379; its peer port is one higher)
#   CARACAL_K8S_FSYNC=1           etcd waits for the disk, as in production (for measurements)
#   CARACAL_K8S_APISERVER_ARGS    further arguments
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

API_PORT=${CARACAL_K8S_API_PORT:-16443}
ETCD_PORT=${CARACAL_K8S_ETCD_PORT:-12379}
KUBECONFIG_FILE=$K8S_STATE/admin.kubeconfig

authority() { # authority NAME
  [[ -s $PKI/$1.crt ]] && return 0
  openssl ecparam -name prime256v1 -genkey -noout -out "$PKI/$1.key" 2>/dev/null
  openssl req -x509 -new -key "$PKI/$1.key" -days 3650 -subj "/CN=$1" \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,digitalSignature -out "$PKI/$1.crt"
}

certificate() { # certificate NAME SUBJECT USAGE [ALTERNATIVE-NAMES]
  [[ -s $PKI/$1.crt ]] && return 0
  openssl ecparam -name prime256v1 -genkey -noout -out "$PKI/$1.key" 2>/dev/null
  openssl req -new -key "$PKI/$1.key" -subj "$2" -out "$PKI/$1.csr"
  openssl x509 -req -in "$PKI/$1.csr" -CA "$PKI/ca.crt" -CAkey "$PKI/ca.key" -days 3650 \
    -set_serial "0x$(openssl rand -hex 15)" -out "$PKI/$1.crt" \
    -extfile <(printf 'keyUsage=critical,digitalSignature\nextendedKeyUsage=%s\n' "$3"
      [[ -z ${4:-} ]] || printf 'subjectAltName=%s\n' "$4") 2>/dev/null
  rm -f "$PKI/$1.csr"
}

credentials() {
  mkdir -p "$PKI" && chmod 700 "$PKI"
  authority ca
  certificate apiserver /CN=kube-apiserver serverAuth DNS:localhost,IP:127.0.0.1
  certificate admin /O=system:masters/CN=admin clientAuth
  [[ -s $PKI/sa.key ]] || openssl ecparam -name prime256v1 -genkey -noout -out "$PKI/sa.key" 2>/dev/null
  (umask 077 && cat >"$KUBECONFIG_FILE" <<YAML
apiVersion: v1
kind: Config
current-context: real
contexts: [{name: real, context: {cluster: real, user: admin}}]
clusters:
- name: real
  cluster:
    server: https://127.0.0.1:$API_PORT
    certificate-authority-data: $(base64 -w0 <"$PKI/ca.crt")
users:
- name: admin
  user:
    client-certificate-data: $(base64 -w0 <"$PKI/admin.crt")
    client-key-data: $(base64 -w0 <"$PKI/admin.key")
YAML
  )
}

require_port() { # require_port NAME PORT
  alive "$1" || ! (exec 3<>"/dev/tcp/127.0.0.1/$2") 2>/dev/null ||
    die "port $2 of 127.0.0.1 is in use; choose another for $1 (see --help)"
}

etcd_ready() { curl -fsS -m 2 "http://127.0.0.1:$ETCD_PORT/health"; }
api_ready() { "$BIN/kubectl" --kubeconfig "$KUBECONFIG_FILE" get --raw /readyz; }

start_etcd() {
  local sync=(--unsafe-no-fsync)
  [[ ${CARACAL_K8S_FSYNC:-0} != 1 ]] || sync=()
  require_port etcd "$ETCD_PORT"
  spawn etcd "$BIN/etcd" --name=one --data-dir="$K8S_STATE/etcd" "${sync[@]}" --log-level=warn \
    --listen-client-urls="http://127.0.0.1:$ETCD_PORT" --advertise-client-urls="http://127.0.0.1:$ETCD_PORT" \
    --listen-peer-urls="http://127.0.0.1:$((ETCD_PORT + 1))" \
    --initial-advertise-peer-urls="http://127.0.0.1:$((ETCD_PORT + 1))" \
    --initial-cluster="one=http://127.0.0.1:$((ETCD_PORT + 1))"
  wait_for 60 etcd etcd_ready
}

# Nothing runs here that would make tokens for pods or finish namespaces: the admission plug-in that insists on
# service accounts is off. A loopback address cannot be the endpoint of the "kubernetes" service: it has none.
start_apiserver() {
  require_port kube-apiserver "$API_PORT"
  # shellcheck disable=SC2086
  spawn kube-apiserver "$BIN/kube-apiserver" --etcd-servers="http://127.0.0.1:$ETCD_PORT" \
    --bind-address=127.0.0.1 --secure-port="$API_PORT" --advertise-address=127.0.0.1 --cert-dir="$K8S_STATE" \
    --tls-cert-file="$PKI/apiserver.crt" --tls-private-key-file="$PKI/apiserver.key" --client-ca-file="$PKI/ca.crt" \
    --service-account-key-file="$PKI/sa.key" --service-account-signing-key-file="$PKI/sa.key" \
    --service-account-issuer=https://kubernetes.default.svc --authorization-mode=RBAC --allow-privileged=true \
    --disable-admission-plugins=ServiceAccount --endpoint-reconciler-type=none --service-cluster-ip-range=10.96.0.0/16 \
    ${CARACAL_K8S_APISERVER_ARGS:-}
  wait_for 180 kube-apiserver api_ready
}

up() {
  need openssl curl setsid
  need_bin etcd kube-apiserver kubectl
  mkdir -p "$K8S_STATE"
  credentials
  start_etcd
  start_apiserver
  echo "$KUBECONFIG_FILE"
}

down() {
  stop kube-apiserver
  stop etcd
  # Only what these scripts made is deleted.
  rm -rf "${K8S_STATE:?}"/{etcd,pki,logs,pids,admin.kubeconfig,apiserver.crt,apiserver.key}
  rmdir "$K8S_STATE" 2>/dev/null || true
}

status() {
  local name pid
  for name in etcd kube-apiserver; do
    if alive "$name"; then
      read -r pid _ <"$PIDS/$name"
      printf '%-16s pid %-8s %6d kB\n' "$name" "$pid" "$(awk '/^VmRSS/{print $2}' "/proc/$pid/status")"
    else
      printf '%-16s stopped\n' "$name"
    fi
  done
}

case ${1:-} in
up) up ;;
down) down ;;
restart) stop kube-apiserver; start_apiserver ;;
status) status ;;
*) sed -n '2,/^here=/{/^here=/d;s/^# \{0,1\}//;p}' "$0"; [[ ${1:-} == -h || ${1:-} == --help ]] || exit 2 ;;
esac
