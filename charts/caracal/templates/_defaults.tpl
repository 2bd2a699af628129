{{- /* One call of caracalctl: include "caracal.defaultsContainer" (list . "create" "--filename=…") */ -}}
{{- define "caracal.defaultsContainer" -}}
{{- $root := first . -}}
image: {{ include "caracal.image" (list $root "ctl") | quote }}
imagePullPolicy: {{ $root.Values.image.pullPolicy }}
args: {{ rest . | toJson }}
{{- with include "caracal.apiServerEnv" $root }}
env:
  {{- . | nindent 2 }}
{{- end }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
volumeMounts:
  - name: defaults
    mountPath: /defaults
    readOnly: true
{{- end -}}
