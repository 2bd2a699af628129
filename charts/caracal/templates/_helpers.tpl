{{- define "caracal.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "caracal.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains (include "caracal.name" .) .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "caracal.name" .) | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "caracal.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: caracal
{{- end -}}

{{- /* Labels by which one component's pods are found: include "caracal.selector" (list . "node") */ -}}
{{- define "caracal.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ include "caracal.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- /* Name of a component's objects: include "caracal.component" (list . "node") */ -}}
{{- define "caracal.component" -}}
{{- printf "%s-%s" (include "caracal.fullname" (index . 0) | trunc 51 | trimSuffix "-") (index . 1) -}}
{{- end -}}

{{- /* Metadata of a component's object: include "caracal.metadata" (list . "node") */ -}}
{{- define "caracal.metadata" -}}
{{- $root := index . 0 -}}
name: {{ include "caracal.component" . }}
namespace: {{ $root.Release.Namespace }}
labels:
  {{- include "caracal.labels" $root | nindent 2 }}
  {{- include "caracal.selector" . | nindent 2 }}
{{- end -}}

{{- define "caracal.clusterMetadata" -}}
{{- $root := index . 0 -}}
name: {{ include "caracal.component" . }}
labels:
  {{- include "caracal.labels" $root | nindent 2 }}
  {{- include "caracal.selector" . | nindent 2 }}
{{- end -}}

{{- /* Service account of a component: include "caracal.serviceAccount" (list . "node") */ -}}
{{- define "caracal.serviceAccount" -}}
{{- $root := index . 0 -}}
{{- default (include "caracal.component" .) (get $root.Values.serviceAccount (index . 1)) -}}
{{- end -}}

{{- /* Image of a component: include "caracal.image" (list . "node") */ -}}
{{- define "caracal.image" -}}
{{- $root := index . 0 -}}
{{- $image := get (get $root.Values (index . 1)) "image" -}}
{{- $repository := default (printf "%s/%s" $root.Values.image.repository (index . 1)) $image.repository -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (coalesce $image.tag $root.Values.image.tag $root.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{- /* Variables that lead to the API server where the Service does not. */ -}}
{{- define "caracal.apiServerEnv" -}}
{{- with .Values.kubernetesServiceEndpoint -}}
{{- if .host }}
- name: KUBERNETES_SERVICE_HOST
  value: {{ .host | quote }}
- name: KUBERNETES_SERVICE_PORT
  value: {{ default 443 .port | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "caracal.calicoNetwork" -}}
{{- toJson (default dict (get .Values.installation "calicoNetwork")) -}}
{{- end -}}

{{- define "caracal.bgpEnabled" -}}
{{- $network := include "caracal.calicoNetwork" . | fromJson -}}
{{- if and .Values.bgp.enabled (ne (default "Enabled" $network.bgp) "Disabled") }}true{{ end -}}
{{- end -}}

{{- define "caracal.mtu" -}}
{{- $network := include "caracal.calicoNetwork" . | fromJson -}}
{{- default (default 0 $network.mtu) .Values.cni.mtu | int -}}
{{- end -}}

{{- define "caracal.portmap" -}}
{{- $network := include "caracal.calicoNetwork" . | fromJson -}}
{{- if and .Values.cni.portmap (ne (default "Enabled" $network.hostPorts) "Disabled") }}true{{ end -}}
{{- end -}}

{{- /* A method of finding addresses in Calico's variables' form, from the Installation's. */ -}}
{{- define "caracal.autodetection" -}}
{{- if .firstFound }}first-found
{{- else if .kubernetes }}kubernetes-internal-ip
{{- else if .interface }}interface={{ .interface }}
{{- else if .skipInterface }}skip-interface={{ .skipInterface }}
{{- else if .canReach }}can-reach={{ .canReach }}
{{- else if .cidrs }}cidr={{ join "," .cidrs }}
{{- end }}
{{- end -}}

{{- define "caracal.ipMethod" -}}
{{- $network := include "caracal.calicoNetwork" . | fromJson -}}
{{- with $network.nodeAddressAutodetectionV4 }}{{ include "caracal.autodetection" . }}{{ else }}{{ .Values.node.ipAutodetectionMethod }}{{ end -}}
{{- end -}}

{{- define "caracal.ip6Method" -}}
{{- $network := include "caracal.calicoNetwork" . | fromJson -}}
{{- with $network.nodeAddressAutodetectionV6 }}{{ include "caracal.autodetection" . }}{{ else }}{{ .Values.node.ip6AutodetectionMethod }}{{ end -}}
{{- end -}}

{{- /* The pools of the values, or those of the Installation in the form of IPPool: {"pools": [...]} */ -}}
{{- define "caracal.pools" -}}
{{- $network := include "caracal.calicoNetwork" . | fromJson -}}
{{- $pools := list -}}
{{- if hasKey $network "ipPools" -}}
{{- range $index, $pool := $network.ipPools -}}
{{- $family := ternary "6" "4" (contains ":" $pool.cidr) -}}
{{- $encapsulation := default (ternary "None" "IPIP" (eq $family "6")) $pool.encapsulation -}}
{{- $made := dict "name" (default (printf "default-ipv%s-ippool%s" $family (ternary "" (toString $index) (eq $index 0))) $pool.name) "cidr" $pool.cidr "natOutgoing" (ne (default "Enabled" $pool.natOutgoing) "Disabled") -}}
{{- if hasPrefix "IPIP" $encapsulation -}}{{- $_ := set $made "ipipMode" (ternary "CrossSubnet" "Always" (hasSuffix "CrossSubnet" $encapsulation)) -}}{{- end -}}
{{- if hasPrefix "VXLAN" $encapsulation -}}{{- $_ := set $made "vxlanMode" (ternary "CrossSubnet" "Always" (hasSuffix "CrossSubnet" $encapsulation)) -}}{{- end -}}
{{- range $field := list "blockSize" "nodeSelector" "namespaceSelector" "disableBGPExport" "allowedUses" "assignmentMode" -}}
{{- if hasKey $pool $field -}}{{- $_ := set $made $field (get $pool $field) -}}{{- end -}}
{{- end -}}
{{- if $pool.disableNewAllocations -}}{{- $_ := set $made "disabled" true -}}{{- end -}}
{{- $pools = append $pools $made -}}
{{- end -}}
{{- else -}}
{{- $pools = .Values.ipPools -}}
{{- end -}}
{{- toJson (dict "pools" $pools) -}}
{{- end -}}
