#!/usr/bin/env bash
# Cluster DNS for a cluster of nodes.sh: CoreDNS as a Deployment behind 10.96.0.10.
#
#   dns.sh up        needs a working network of pods and services
#   dns.sh down
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

image() {
  need_bin coredns
  local r
  if [[ ! -e $IMAGES/coredns.archive ]]; then # another ending: nodes import *.tar by themselves
    r=$(mktemp -d)
    cp "$BIN/coredns" "$r/coredns"
    "$here/images.sh" pack caracal.test/coredns:1 "$r" "$IMAGES/coredns.archive" /coredns
    rm -rf "$r"
  fi
  "$here/nodes.sh" load "$IMAGES/coredns.archive"
}

manifest() {
  cat <<YAML
apiVersion: v1
kind: ServiceAccount
metadata: {name: coredns, namespace: kube-system}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: coredns}
rules:
- {apiGroups: [""], resources: [endpoints, services, pods, namespaces], verbs: [list, watch]}
- {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: coredns}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: coredns}
subjects: [{kind: ServiceAccount, name: coredns, namespace: kube-system}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: coredns, namespace: kube-system}
data:
  Corefile: |
    .:53 {
      errors
      health
      ready
      kubernetes cluster.local in-addr.arpa ip6.arpa {
        pods insecure
        ttl 5
      }
      cache 5
      reload
    }
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: coredns, namespace: kube-system, labels: {k8s-app: kube-dns}}
spec:
  replicas: 1
  selector: {matchLabels: {k8s-app: kube-dns}}
  template:
    metadata: {labels: {k8s-app: kube-dns}}
    spec:
      serviceAccountName: coredns
      priorityClassName: system-cluster-critical
      tolerations: [{operator: Exists}]
      dnsPolicy: Default
      containers:
      - name: coredns
        image: caracal.test/coredns:1
        imagePullPolicy: Never
        args: [-conf, /etc/coredns/Corefile]
        ports: [{name: dns, containerPort: 53, protocol: UDP}, {name: dns-tcp, containerPort: 53, protocol: TCP}]
        readinessProbe: {httpGet: {path: /ready, port: 8181}, periodSeconds: 1}
        volumeMounts: [{name: config, mountPath: /etc/coredns}]
      volumes: [{name: config, configMap: {name: coredns}}]
---
apiVersion: v1
kind: Service
metadata: {name: kube-dns, namespace: kube-system, labels: {k8s-app: kube-dns}}
spec:
  clusterIP: $DNS_IP4
  selector: {k8s-app: kube-dns}
  ports: [{name: dns, port: 53, protocol: UDP}, {name: dns-tcp, port: 53, protocol: TCP}]
YAML
}

case ${1:-} in
up)
  image
  manifest | kctl apply -f - >/dev/null
  kctl -n kube-system rollout status deployment/coredns --timeout=90s >/dev/null || die "CoreDNS did not become ready"
  log "cluster DNS answers at $DNS_IP4" ;;
down) manifest | kctl delete --ignore-not-found -f - >/dev/null ;;
*) usage "$@" ;;
esac
