{{/* Names, labels and images that several templates share. */}}

{{- define "modelyard.name" -}}
{{- if contains "modelyard" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-modelyard" (.Release.Name | trunc 30 | trimSuffix "-") }}{{ end }}
{{- end }}

{{- define "modelyard.selector" -}}
app.kubernetes.io/name: modelyard
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "modelyard.labels" -}}
{{ include "modelyard.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: modelyard
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* An image of ours: "modelyard.image" (dict "root" $ "image" "modelyard/operator"). A digest or tag that is given stays. */}}
{{- define "modelyard.image" -}}
{{- $images := .root.Values.images -}}
{{- $name := ternary .image (printf "%s/%s" (trimSuffix "/" $images.registry) .image) (empty $images.registry) -}}
{{- if or (contains "@" $name) (contains ":" (base $name)) }}{{ $name }}{{ else }}{{ $name }}:{{ $images.tag | default .root.Chart.AppVersion }}{{ end }}
{{- end }}

{{/* What Pod Security's level restricted asks of a container. */}}
{{- define "modelyard.restricted" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "modelyard.pod" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end }}
