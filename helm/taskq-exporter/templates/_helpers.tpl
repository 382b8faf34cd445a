{{- define "taskq-exporter.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "taskq-exporter.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else if contains (include "taskq-exporter.name" .) .Release.Name }}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "taskq-exporter.name" .) | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "taskq-exporter.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride }}
{{- end }}

{{- define "taskq-exporter.selectorLabels" -}}
app.kubernetes.io/name: {{ include "taskq-exporter.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "taskq-exporter.labels" -}}
{{- $own := dict
  "app.kubernetes.io/name" (include "taskq-exporter.name" .)
  "app.kubernetes.io/instance" .Release.Name
  "app.kubernetes.io/version" (.Values.image.tag | default .Chart.AppVersion | trunc 63 | trimSuffix "-")
  "app.kubernetes.io/managed-by" .Release.Service
  "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_") }}
{{- merge $own .Values.commonLabels | toYaml }}
{{- end }}

{{- /* metadata of an object: a dict of root, and as needed name, namespace, labels, annotations. */}}
{{- define "taskq-exporter.metadata" -}}
name: {{ .name | default (include "taskq-exporter.fullname" .root) }}
namespace: {{ .namespace | default (include "taskq-exporter.namespace" .root) }}
labels:
  {{- mergeOverwrite (include "taskq-exporter.labels" .root | fromYaml) (.labels | default dict) | toYaml | nindent 2 }}
{{- with .annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "taskq-exporter.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "taskq-exporter.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "taskq-exporter.image" -}}
{{- $name := .Values.image.repository }}
{{- with .Values.global.imageRegistry | default .Values.image.registry }}
{{- $name = printf "%s/%s" . $name }}
{{- end }}
{{- with .Values.image.digest }}
{{- printf "%s@%s" $name . }}
{{- else }}
{{- printf "%s:%s" $name (.Values.image.tag | default .Chart.AppVersion) }}
{{- end }}
{{- end }}

{{- /* Whether this chart writes the configuration itself. */}}
{{- define "taskq-exporter.writesConfig" -}}
{{- if not (or .Values.existingConfigSecret .Values.existingConfigMap) }}
{{- $config := .Values.config }}
{{- if or .Values.sources $config.modules $config.sources_dir }}true{{ end }}
{{- end }}
{{- end }}

{{- define "taskq-exporter.hasConfig" -}}
{{- if or .Values.existingConfigSecret .Values.existingConfigMap (include "taskq-exporter.writesConfig" .) }}true{{ end }}
{{- end }}

{{- define "taskq-exporter.config" -}}
{{- $config := omit .Values.config "sources" }}
{{- with .Values.sources }}
{{- $config = merge (dict "sources" .) $config }}
{{- end }}
{{- toYaml $config }}
{{- end }}

{{- /* The web configuration that this chart writes; empty where it writes none. */}}
{{- define "taskq-exporter.webConfig" -}}
{{- if not .Values.web.existingSecret }}
{{- $config := .Values.web.config }}
{{- if .Values.web.tlsSecret }}
{{- $pair := dict "cert_file" "/etc/taskq-exporter-tls/tls.crt" "key_file" "/etc/taskq-exporter-tls/tls.key" }}
{{- $config = merge (deepCopy $config) (dict "tls_server_config" $pair) }}
{{- end }}
{{- with $config }}
{{- toYaml . }}
{{- end }}
{{- end }}
{{- end }}

{{- define "taskq-exporter.hasWebConfig" -}}
{{- if or .Values.web.existingSecret (include "taskq-exporter.webConfig" .) }}true{{ end }}
{{- end }}

{{- define "taskq-exporter.scheme" -}}
{{- $written := include "taskq-exporter.webConfig" . | fromYaml }}
{{- if or .Values.web.https $written.tls_server_config }}https{{ else }}http{{ end }}
{{- end }}

{{- define "taskq-exporter.url" -}}
{{- printf "%s://%s.%s.svc:%v" (include "taskq-exporter.scheme" .) (include "taskq-exporter.fullname" .) (include "taskq-exporter.namespace" .) .Values.service.port }}
{{- end }}
