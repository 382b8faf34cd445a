{{- /* A list of values in which templates are evaluated: a dict of root and value. */}}
{{- define "taskq-exporter.render" -}}
{{- tpl (toYaml .value) .root }}
{{- end }}

{{- /* The exporter's container. */}}
{{- define "taskq-exporter.container" -}}
name: taskq-exporter
{{ include "taskq-exporter.process" . }}
args:
  - --web.listen-address=:{{ .Values.containerPort }}
  - --log.level={{ .Values.log.level }}
  - --log.format={{ .Values.log.format }}
  {{- if ne .Values.web.telemetryPath "/metrics" }}
  - {{ printf "--web.telemetry-path=%s" .Values.web.telemetryPath | quote }}
  {{- end }}
  {{- if .Values.web.enableLifecycle }}
  - --web.enable-lifecycle
  {{- end }}
  {{- if eq .Values.kind "StatefulSet" }}
  - --shard=hostname/{{ .Values.shards }}
  {{- end }}
  {{- with include "taskq-exporter.files" . }}
  {{- . | trim | nindent 2 }}
  {{- end }}
  {{- with .Values.extraArgs }}
  {{- include "taskq-exporter.render" (dict "root" $ "value" .) | nindent 2 }}
  {{- end }}
ports:
  - name: metrics
    containerPort: {{ .Values.containerPort }}
livenessProbe:
  {{- include "taskq-exporter.probe" (dict "root" . "path" "/-/healthy" "given" .Values.livenessProbe) | nindent 2 }}
readinessProbe:
  {{- include "taskq-exporter.probe" (dict "root" . "path" "/-/ready" "given" .Values.readinessProbe) | nindent 2 }}
{{- if and .Values.startupProbe (ne .Values.kind "Sidecar") }}
startupProbe:
  {{- include "taskq-exporter.probe" (dict "root" . "path" "/-/healthy" "given" .Values.startupProbe) | nindent 2 }}
{{- end }}
{{- end }}

{{- /* For initContainers of a pod of yours: a sidecar that starts first and stops last. */}}
{{- define "taskq-exporter.sidecar" -}}
restartPolicy: Always
{{ include "taskq-exporter.container" . }}
{{- end }}

{{- /* What every process of the image has: with what it runs, what it sees and what it may. */}}
{{- define "taskq-exporter.process" -}}
image: {{ include "taskq-exporter.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- with .Values.env }}
env:
  {{- include "taskq-exporter.render" (dict "root" $ "value" .) | nindent 2 }}
{{- end }}
{{- with .Values.envFrom }}
envFrom:
  {{- include "taskq-exporter.render" (dict "root" $ "value" .) | nindent 2 }}
{{- end }}
securityContext:
  {{- toYaml .Values.securityContext | nindent 2 }}
{{- with .Values.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumeMounts:
  {{- with (.Values.config.state).dir }}
  - {name: taskq-state, mountPath: {{ . | quote }}}
  {{- end }}
  {{- if include "taskq-exporter.hasConfig" . }}
  - {name: taskq-config, mountPath: /etc/taskq-exporter, readOnly: true}
  {{- end }}
  {{- if .Values.extraSources }}
  - {name: taskq-sources, mountPath: {{ include "taskq-exporter.sourcesDir" . }}, readOnly: true}
  {{- end }}
  {{- if include "taskq-exporter.hasWebConfig" . }}
  - {name: taskq-web, mountPath: /etc/taskq-exporter-web, readOnly: true}
  {{- end }}
  {{- if .Values.web.tlsSecret }}
  - {name: taskq-tls, mountPath: /etc/taskq-exporter-tls, readOnly: true}
  {{- end }}
  {{- range $i, $name := .Values.existingSecrets }}
  - {name: taskq-secret-{{ $i }}, mountPath: {{ printf "/run/secrets/%s" $name | quote }}, readOnly: true}
  {{- end }}
  {{- with .Values.extraVolumeMounts }}
  {{- include "taskq-exporter.render" (dict "root" $ "value" .) | nindent 2 }}
  {{- end }}
{{- end }}

{{- define "taskq-exporter.files" -}}
{{- if include "taskq-exporter.hasConfig" . -}}
- --config.file=/etc/taskq-exporter/config.yaml
{{- end }}
{{- if include "taskq-exporter.hasWebConfig" . }}
- --web.config.file=/etc/taskq-exporter-web/web.yaml
{{- end }}
{{- end }}

{{- /* A probe: a dict of root, path and what is given. The kubelet can neither log in nor show a certificate: then the
exporter's own command asks, and for readiness, which is looked at often, an open port will do. */}}
{{- define "taskq-exporter.probe" -}}
{{- $scheme := include "taskq-exporter.scheme" .root }}
{{- $probe := dict "httpGet" (dict "path" .path "port" "metrics" "scheme" (upper $scheme)) }}
{{- if include "taskq-exporter.asks" .root }}
{{- $command := list "taskq-exporter" "healthcheck" (printf "%s://127.0.0.1:%v" $scheme .root.Values.containerPort) }}
{{- $probe = eq .path "/-/ready" | ternary (dict "tcpSocket" (dict "port" "metrics")) (dict "exec" (dict "command" $command)) }}
{{- end }}
{{- if or .given.httpGet .given.exec .given.tcpSocket }}
{{- $probe = dict }}
{{- end }}
{{- merge $probe .given | toYaml }}
{{- end }}

{{- /* The volumes of that container. */}}
{{- define "taskq-exporter.volumes" -}}
{{- if not (and (eq .Values.kind "StatefulSet") .Values.persistence.enabled) }}
- name: taskq-state
  {{- if eq .Values.kind "Sidecar" | or (not .Values.persistence.enabled) }}
  emptyDir: {}
  {{- else }}
  persistentVolumeClaim:
    claimName: {{ .Values.persistence.existingClaim | default (include "taskq-exporter.fullname" .) }}
  {{- end }}
{{- end }}
{{- if include "taskq-exporter.hasConfig" . }}
- name: taskq-config
  {{- if .Values.existingConfigMap | or (and (eq .Values.configKind "ConfigMap") (not .Values.existingConfigSecret)) }}
  configMap:
    name: {{ .Values.existingConfigMap | default (include "taskq-exporter.fullname" .) }}
  {{- else }}
  secret:
    secretName: {{ .Values.existingConfigSecret | default (include "taskq-exporter.fullname" .) }}
  {{- end }}
{{- end }}
{{- with .Values.extraSources }}
- name: taskq-sources
  projected:
    sources:
      {{- include "taskq-exporter.render" (dict "root" $ "value" .) | nindent 6 }}
{{- end }}
{{- if include "taskq-exporter.hasWebConfig" . }}
- name: taskq-web
  secret:
    secretName: {{ .Values.web.existingSecret | default (printf "%s-web" (include "taskq-exporter.fullname" .)) }}
{{- end }}
{{- with .Values.web.tlsSecret }}
- name: taskq-tls
  secret:
    secretName: {{ . }}
{{- end }}
{{- range $i, $name := .Values.existingSecrets }}
- name: taskq-secret-{{ $i }}
  secret:
    secretName: {{ $name | quote }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ include "taskq-exporter.render" (dict "root" $ "value" .) }}
{{- end }}
{{- end }}

{{- /* The pod of a Deployment or StatefulSet. */}}
{{- define "taskq-exporter.pod" -}}
metadata:
  labels:
    {{- $labels := include "taskq-exporter.selectorLabels" . | fromYaml }}
    {{- merge $labels .Values.podLabels .Values.commonLabels | toYaml | nindent 4 }}
  {{- $annotations := dict }}
  {{- if and .Values.restartOnConfigChange (include "taskq-exporter.writesConfig" .) }}
  {{- $_ := set $annotations "checksum/config" (include "taskq-exporter.config" . | sha256sum) }}
  {{- end }}
  {{- with merge $annotations .Values.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ include "taskq-exporter.serviceAccountName" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- range $key, $value := dict "imagePullSecrets" .Values.imagePullSecrets "hostAliases" .Values.hostAliases
    "nodeSelector" .Values.nodeSelector "tolerations" .Values.tolerations "affinity" .Values.affinity
    "dnsConfig" .Values.dnsConfig }}
  {{- with $value }}
  {{ $key }}:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
  {{- with .Values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- $ours := dict "labelSelector" (dict "matchLabels" (include "taskq-exporter.selectorLabels" $ | fromYaml)) }}
    {{- range . }}
    - {{ merge . $ours | toYaml | nindent 6 | trim }}
    {{- end }}
  {{- end }}
  securityContext:
    {{- toYaml .Values.podSecurityContext | nindent 4 }}
  {{- /* A mistake of one team must not keep the exporter from starting: it leaves out that team's file alone. */}}
  {{- $check := and .Values.configCheck (not (or .Values.extraSources (get .Values.config "sources_dir"))) (or (include "taskq-exporter.hasConfig" .) (include "taskq-exporter.hasWebConfig" .)) }}
  {{- if or $check .Values.initContainers }}
  initContainers:
    {{- with .Values.initContainers }}
    {{- include "taskq-exporter.render" (dict "root" $ "value" .) | nindent 4 }}
    {{- end }}
    {{- if $check }}
    - name: config-check
      {{- include "taskq-exporter.process" . | nindent 6 }}
      args:
        - --config.check
        {{- include "taskq-exporter.files" . | trim | nindent 8 }}
    {{- end }}
  {{- end }}
  containers:
    - {{ include "taskq-exporter.container" . | nindent 6 | trim }}
    {{- with .Values.extraContainers }}
    {{- include "taskq-exporter.render" (dict "root" $ "value" .) | nindent 4 }}
    {{- end }}
  {{- with include "taskq-exporter.volumes" . | trim }}
  volumes:
    {{- . | nindent 4 }}
  {{- end }}
{{- end }}
