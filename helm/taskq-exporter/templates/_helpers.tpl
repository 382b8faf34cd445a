{{- define "taskq-exporter.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimAll "-" }}
{{- end }}

{{- /* At most 52 characters: a StatefulSet's pods have a label with 11 more. A release may have dots, a Service may not. */}}
{{- define "taskq-exporter.fullname" -}}
{{- $name := include "taskq-exporter.name" . }}
{{- $full := .Values.fullnameOverride | default (contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name)) }}
{{- $full | replace "." "-" | trunc 52 | trimAll "-" }}
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
  "app.kubernetes.io/version" (.Values.image.tag | default .Chart.AppVersion | trunc 63 | trimAll "-_.")
  "app.kubernetes.io/managed-by" .Release.Service
  "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimAll "-_.") }}
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
{{- if or .Values.sources .Values.extraSources $config.modules $config.sources_dir }}true{{ end }}
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
{{- if .Values.extraSources }}
{{- $config = merge (dict "sources_dir" (include "taskq-exporter.sourcesDir" .)) $config }}
{{- end }}
{{- toYaml $config }}
{{- end }}

{{- define "taskq-exporter.sourcesDir" -}}
/etc/taskq-exporter-sources
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

{{- /* What it asks of everybody, the kubelet too: a certificate, a password, patience; of somebody else's file, perhaps. */}}
{{- define "taskq-exporter.asks" -}}
{{- $written := include "taskq-exporter.webConfig" . | fromYaml }}
{{- $tls := default dict $written.tls_server_config }}
{{- if .Values.web.existingSecret }}unknown
{{- else if hasPrefix "Require" ($tls.client_auth_type | default "") }}certificate
{{- else if $written.basic_auth_users }}password
{{- else if $written.rate_limit }}patience
{{- end }}
{{- end }}

{{- define "taskq-exporter.url" -}}
{{- printf "%s://%s.%s.svc:%v" (include "taskq-exporter.scheme" .) (include "taskq-exporter.fullname" .) (include "taskq-exporter.namespace" .) .Values.service.port }}
{{- end }}
