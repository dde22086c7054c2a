{{- define "skycache.labels" -}}
app.kubernetes.io/name: skycache
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}
{{- define "skycache.selector" -}}
app.kubernetes.io/name: skycache
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
{{- /* Seconds from SIGTERM to SIGKILL. A spot node has two minutes from its notice on. */}}
{{- define "skycache.grace" -}}
{{- if .Values.spot.enabled }}{{ min (int .Values.drainSeconds) (int .Values.spot.noticeSeconds) }}{{ else }}{{ .Values.drainSeconds }}{{ end }}
{{- end }}
{{- define "skycache.adminScheme" -}}
{{ ternary "HTTPS" "HTTP" (ne .Values.admin.tlsSecretName "") }}
{{- end }}
{{- /* Every Secret that is mounted, by the name of its volume. */}}
{{- define "skycache.secrets" -}}
{{- if .Values.tls.secretName }}
tls: { path: /etc/skycache/tls, secretName: {{ .Values.tls.secretName | quote }} }
{{- end }}
{{- if .Values.admin.tokenSecret.name }}
admin-token:
  path: /etc/skycache/admin
  secretName: {{ .Values.admin.tokenSecret.name | quote }}
  items: [{ key: {{ .Values.admin.tokenSecret.key | quote }}, path: token }]
{{- end }}
{{- if .Values.admin.tlsSecretName }}
admin-tls: { path: /etc/skycache/admin-tls, secretName: {{ .Values.admin.tlsSecretName | quote }} }
{{- end }}
{{- with .Values.kafka }}
{{- if .sasl.mechanism }}
kafka-password:
  path: /etc/skycache/kafka
  secretName: {{ required "kafka.sasl.passwordSecret.name: the Secret with the password" .sasl.passwordSecret.name | quote }}
  items: [{ key: {{ .sasl.passwordSecret.key | quote }}, path: password }]
{{- end }}
{{- if .tls.secretName }}
kafka-tls: { path: /etc/skycache/kafka-tls, secretName: {{ .tls.secretName | quote }} }
{{- end }}
{{- end }}
{{- range .Values.secrets }}
secret-{{ .secretName }}: { path: {{ .mountPath | quote }}, secretName: {{ .secretName | quote }}, items: {{ .items | default list | toJson }} }
{{- end }}
{{- end }}
{{- /* URLs of a group's members: those of the values, and the pods of shields. */}}
{{- define "skycache.members" -}}
{{- range .members }}
- {{ toJson . }}
{{- end }}
{{- with .shields }}
{{- $shields := . }}
{{- range until (int .replicas) }}
- { url: "http://{{ $shields.release }}-{{ . }}.{{ $shields.release }}-peers.{{ $shields.namespace }}.svc:{{ $shields.port | default 8080 }}" }
{{- end }}
{{- end }}
{{- end }}
{{- /* TCP ports that are asked: names, the web, and those of parents, brokers and the values. */}}
{{- define "skycache.egress" -}}
{{- $ports := list 53 80 443 }}
{{- if .Values.monitoring.proxy.enabled }}{{ $ports = append $ports 6443 }}{{ end }}
{{- range .Values.kafka.brokers }}{{ $ports = append $ports (regexFind "[0-9]+$" . | int) }}{{ end }}
{{- range .Values.parents }}
{{- range include "skycache.members" . | fromYamlArray }}
{{- with regexFind ":[0-9]+/?$" .url }}{{ $ports = append $ports (trimAll ":/" . | int) }}{{ end }}
{{- end }}
{{- end }}
{{- range .Values.networkPolicy.egressPorts }}{{ $ports = append $ports (int .) }}{{ end }}
{{- $ports | uniq | toJson }}
{{- end }}
