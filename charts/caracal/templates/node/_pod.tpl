{{- define "caracal.nodeEnv" -}}
- name: NODENAME
  valueFrom:
    fieldRef:
      fieldPath: spec.nodeName
- name: POD_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
{{- with include "caracal.apiServerEnv" . }}
{{ . }}
{{- end }}
{{- end -}}

{{- /* Calico's names, which its installer reads as well. */ -}}
{{- define "caracal.cniEnv" -}}
# Its tokens are what the plugins' kubeconfig has.
- name: CALICO_CNI_SERVICE_ACCOUNT
  value: {{ include "caracal.serviceAccount" (list . "cni") | quote }}
- name: CNI_CONF_NAME
  value: {{ .Values.cni.confName | quote }}
# Where the container runtime sees it.
- name: CNI_NET_DIR
  value: {{ .Values.cni.confDir | quote }}
- name: CNI_NETWORK_CONFIG
  valueFrom:
    configMapKeyRef:
      name: {{ include "caracal.component" (list . "cni") }}
      key: conflist.json
{{- end -}}

{{- define "caracal.cniMounts" -}}
- name: cni-bin
  mountPath: /host/opt/cni/bin
- name: cni-conf
  mountPath: /host/etc/cni/net.d
{{- end -}}
