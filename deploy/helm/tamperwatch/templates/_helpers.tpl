{{- define "tamperwatch.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "tamperwatch.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "tamperwatch.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{ include "tamperwatch.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{/* The image of a target: (list root "cpu") */}}
{{- define "tamperwatch.image" -}}
{{- $root := index . 0 -}}
{{- printf "%s:%s-%s" $root.Values.image.repository ($root.Values.image.tag | default $root.Chart.AppVersion) (index . 1) -}}
{{- end -}}

{{/* How long a pod of a worker may take to stop: its own grace, the longest wait for one batch, and half a minute. */}}
{{- define "tamperwatch.workerTermination" -}}
{{- $root := index . 0 -}}
{{- $predict := index $root.Values.settings "TAMPERWATCH_WORKER__PREDICT_TIMEOUT_S" | default "60" -}}
{{- add (index . 1) (ceil $predict) 30 -}}
{{- end -}}

{{- define "tamperwatch.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: { type: RuntimeDefault }
{{- end -}}

{{- define "tamperwatch.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end -}}

{{/* What every pod of ours has beside its containers. */}}
{{- define "tamperwatch.pod" -}}
serviceAccountName: {{ .Values.serviceAccountName }}
# Nobody here talks to Kubernetes.
automountServiceAccountToken: false
enableServiceLinks: false
# Otherwise a role is process 1, to which the kernel delivers no SIGTERM before it has asked for it.
shareProcessNamespace: true
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
securityContext:
  {{- include "tamperwatch.podSecurity" . | nindent 2 }}
{{- end -}}

{{/* Where pods go: (a role's values) */}}
{{- define "tamperwatch.placement" -}}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Settings that are no secrets, in place: a ConfigMap would not be there yet when the migration runs. */}}
{{- define "tamperwatch.env" -}}
{{- $settings := deepCopy .Values.settings -}}
{{- if and .Values.bundled.minio.enabled (not (get $settings "TAMPERWATCH_BLOBS__ENDPOINT")) -}}
{{- $_ := set $settings "TAMPERWATCH_BLOBS__ENDPOINT" (printf "%s-minio:9000" (include "tamperwatch.fullname" .)) -}}
{{- $_ := set $settings "TAMPERWATCH_BLOBS__SECURE" "false" -}}
{{- end -}}
{{- if and (eq (get $settings "TAMPERWATCH_BLOBS__BACKEND") "minio") (not (get $settings "TAMPERWATCH_BLOBS__ENDPOINT")) -}}
{{- fail "set settings.TAMPERWATCH_BLOBS__ENDPOINT to host:port of the S3 server, or bundled.minio.enabled=true to try out" -}}
{{- end -}}
{{- if not (hasKey $settings "TAMPERWATCH_SCHEDULE__ENABLED") -}}
{{- $_ := set $settings "TAMPERWATCH_SCHEDULE__ENABLED" (.Values.trainer.enabled | toString) -}}
{{- end -}}
- name: TAMPERWATCH_SECRETS_DIR
  value: /run/secrets/tamperwatch
{{- range $name, $value := $settings }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end -}}

{{- define "tamperwatch.mounts" -}}
- { name: secrets, mountPath: /run/secrets/tamperwatch, readOnly: true }
- { name: tmp, mountPath: /tmp }
- { name: cache, mountPath: /var/cache/tamperwatch }
- { name: state, mountPath: /var/lib/tamperwatch }
{{- end -}}

{{/* Everything but `state`, which the trainer keeps. */}}
{{- define "tamperwatch.volumes" -}}
- name: secrets
  secret: { secretName: {{ .Values.existingSecret }}, defaultMode: 288 }
- name: tmp
  emptyDir: { sizeLimit: 1Gi }
- name: cache
  emptyDir: { sizeLimit: 2Gi }
{{- end -}}

{{/* Alive and ready on a port: (list "telemetry" seconds-to-start) */}}
{{- define "tamperwatch.probes" -}}
startupProbe:
  httpGet: { path: /healthz, port: {{ index . 0 }} }
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: {{ div (index . 1) 5 }}
livenessProbe:
  httpGet: { path: /healthz, port: {{ index . 0 }} }
  periodSeconds: 15
  timeoutSeconds: 5
  failureThreshold: 4
readinessProbe:
  httpGet: { path: /readyz, port: {{ index . 0 }} }
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
{{- end -}}

{{/* Requests and limits, with the GPUs asked for: (a role's values) */}}
{{- define "tamperwatch.resources" -}}
{{- $resources := deepCopy .resources -}}
{{- if gt (int .gpus) 0 -}}
{{- $limits := get $resources "limits" | default dict -}}
{{- $_ := set $limits .gpuResource (int .gpus) -}}
{{- $_ := set $resources "limits" $limits -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end -}}
