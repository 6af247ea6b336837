{{- define "quartet.name" -}}
{{- $name := .Release.Name -}}
{{- if not (contains "quartet" $name) }}{{ $name = printf "%s-quartet" $name }}{{ end -}}
{{- $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "quartet.selector" -}}
app.kubernetes.io/name: quartet
app.kubernetes.io/instance: {{ .Release.Name | trunc 63 | trimSuffix "-" | toJson }}
{{- end -}}

{{- define "quartet.labels" -}}
{{ include "quartet.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | toJson }}
app.kubernetes.io/managed-by: {{ .Release.Service | toJson }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | toJson }}
{{- end -}}

{{- define "quartet.metadata" -}}
name: {{ include "quartet.name" . | toJson }}
namespace: {{ .Release.Namespace | toJson }}
labels:
  {{- include "quartet.labels" . | nindent 2 }}
{{- end -}}

{{- /* A setting's name as the variable of the environment. */ -}}
{{- define "quartet.variable" -}}
QUARTET_{{ . | replace "." "__" | upper }}
{{- end -}}

{{- /* Variables of the environment of every container of the service. */ -}}
{{- define "quartet.environment" -}}
- {name: HOME, value: /tmp}
{{- range $name, $value := .Values.settings }}
- name: {{ include "quartet.variable" $name }}
  value: {{ ternary $value (toJson $value) (kindIs "string" $value) | toJson }}
{{- end }}
{{- range $name, $secret := .Values.secretSettings }}
- name: {{ include "quartet.variable" $name }}
  valueFrom: {secretKeyRef: {name: {{ $secret.name | toJson }}, key: {{ $secret.key | toJson }}}}
{{- end }}
{{- end -}}

{{- define "quartet.container" -}}
image: {{ printf "%s:%s" .Values.image.repository .Values.image.tag | toJson }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end -}}
