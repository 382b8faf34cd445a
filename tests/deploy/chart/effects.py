"""What each value of values.yaml changes in the manifests, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["EFFECTS", "Effect"]


@dataclass(frozen=True)
class Effect:
    """Another value, and where it shows: KIND for objects that come or go, else KIND PATH; `*` is any text.

    Found beside the values of one file of the chart's folder `ci`.
    """

    value: Any
    where: tuple[str, ...]
    beside: str = "everything"


POD, TEMPLATE = "Deployment spec.template.spec.", "Deployment spec.template.metadata."
EXPORTER, CHECK, TEST = f"{POD}containers.0.", f"{POD}initContainers.1.", "Pod spec.containers.0."
CONFIG = ("Secret stringData.config.yaml", f"{TEMPLATE}annotations.checksum/config")
MONITORS = ("ServiceMonitor ", "PodMonitor ", "Probe ")
ENDPOINTS = ("ServiceMonitor spec.endpoints.0.", "PodMonitor spec.podMetricsEndpoints.0.")
ALERTS = "PrometheusRule spec.groups.1.rules.*."
XY = {"x": "y"}


def of(wheres: tuple[str, ...], path: str) -> tuple[str, ...]:
    return tuple(f"{where}{path}" for where in wheres)


def swapped(where: str) -> tuple[str, ...]:
    """A mapping whose one key `a` becomes `x`."""
    return (f"{where}.a", f"{where}.x")


def threshold(value: float) -> Effect:
    return Effect(value, (f"{ALERTS}expr",))


def in_pod(name: str, value: Any, path: str = "", *, test: bool = False) -> dict[str, Effect]:
    return {name: Effect(value, (f"{POD}{name}{path}", *((f"Pod spec.{name}{path}",) if test else ())))}


def in_containers(name: str, value: Any, path: str = "") -> dict[str, Effect]:
    """Of the exporter, of the check before it, and of `helm test`."""
    return {name: Effect(value, of((EXPORTER, CHECK, TEST), path or name))}


EFFECTS: dict[str, Effect] = {
    "sources": Effect([{"name": "mails", "adapter": "celery", "url": "redis://mails"}], CONFIG),
    "config.state.dir": Effect("/data", (*CONFIG, *of((EXPORTER, CHECK), "volumeMounts.0.mountPath"))),
    "extraSources": Effect(
        [{"configMap": {"name": "growth-sources"}}],
        (*CONFIG, f"{EXPORTER}volumeMounts", f"{POD}volumes", f"{POD}initContainers"),
    ),
    "configKind": Effect("ConfigMap", ("Secret", "ConfigMap", f"{POD}volumes.1.secret", f"{POD}volumes.1.configMap")),
    **dict.fromkeys(
        ("existingConfigSecret", "existingConfigMap"),
        Effect(
            "other",
            (f"{EXPORTER}args", f"{EXPORTER}volumeMounts", f"{POD}volumes", f"{POD}initContainers"),
            beside="defaults",
        ),
    ),
    "configCheck": Effect(False, (f"{POD}initContainers",)),
    "restartOnConfigChange": Effect(False, (f"{TEMPLATE}annotations.checksum/config",)),
    "env": Effect([{"name": "A", "value": "b"}], of((EXPORTER, CHECK), "env.0.*")),
    "envFrom": Effect([{"configMapRef": {"name": "other"}}], of((EXPORTER, CHECK), "envFrom.0.*")),
    "existingSecrets": Effect(
        ["other"], (*of((EXPORTER, CHECK), "volumeMounts.3.mountPath"), f"{POD}volumes.3.secret.secretName")
    ),
    "kind": Effect("StatefulSet", ("Deployment", "StatefulSet", "PersistentVolumeClaim", "Service", f"{TEST}args.1")),
    "shards": Effect(
        4,
        ("StatefulSet spec.replicas", "StatefulSet spec.template.spec.containers.0.args.3", "Pod spec.containers"),
        beside="shards",
    ),
    "sidecar.podLabels": Effect({"app": "other"}, ("PodMonitor spec.selector.matchLabels.app",), beside="sidecar"),
    "persistence.enabled": Effect(False, ("PersistentVolumeClaim", f"{POD}volumes.0.*")),
    "persistence.existingClaim": Effect(
        "counters", ("PersistentVolumeClaim", f"{POD}volumes.0.persistentVolumeClaim.claimName")
    ),
    "persistence.size": Effect("3Gi", ("PersistentVolumeClaim spec.resources.requests.storage",)),
    "persistence.storageClass": Effect("slow", ("PersistentVolumeClaim spec.storageClassName",)),
    "persistence.accessModes": Effect(["ReadWriteMany"], ("PersistentVolumeClaim spec.accessModes.0",)),
    "persistence.annotations": Effect(XY, swapped("PersistentVolumeClaim metadata.annotations")),
    **in_containers("global.imageRegistry", "mirror.example", "image"),
    **in_containers("image.registry", "quay.example", "image"),
    **in_containers("image.repository", "team/exporter", "image"),
    **in_containers("image.digest", f"sha256:{'ab' * 32}", "image"),
    **in_containers("image.pullPolicy", "Always", "imagePullPolicy"),
    "image.tag": Effect(
        "9.9.9_", ("* metadata.labels.app.kubernetes.io/version", *of((EXPORTER, CHECK, TEST), "image"))
    ),
    **in_pod("imagePullSecrets", [{"name": "pull"}], ".0.name", test=True),
    "log.level": Effect("warn", (f"{EXPORTER}args.1",)),
    "log.format": Effect("logfmt", (f"{EXPORTER}args.2",)),
    "extraArgs": Effect(["--web.max-requests=9"], (f"{EXPORTER}args.7",)),
    "containerPort": Effect(8001, (f"{EXPORTER}args.0", f"{EXPORTER}ports.0.containerPort")),
    "web.config": Effect(
        {"rate_limit": {"interval": "1s", "burst": 9}},
        ("Secret stringData.web.yaml", f"{EXPORTER}readinessProbe.*", f"{EXPORTER}startupProbe.*"),
    ),
    "web.existingSecret": Effect(
        "other",
        (
            *(f"{EXPORTER}{probe}Probe.*" for probe in ("liveness", "readiness", "startup")),
            *(f"{POD}{c}s.0.{what}" for c in ("container", "initContainer") for what in ("args", "volumeMounts")),
            f"{POD}volumes",
        ),
        beside="sources",
    ),
    "web.tlsSecret": Effect(
        "other", (f"{POD}volumes.3.secret.secretName", "Pod spec.volumes.0.secret.secretName"), beside="tls"
    ),
    "web.https": Effect(
        True,
        (
            *of((f"{EXPORTER}readinessProbe.httpGet.", f"{EXPORTER}startupProbe.httpGet."), "scheme"),
            *(f"{TEST}args.1", *of(ENDPOINTS, "scheme"), "Probe spec.prober.scheme"),
        ),
    ),
    "web.telemetryPath": Effect("/other", (f"{EXPORTER}args.3", *of(ENDPOINTS, "path"))),
    "web.enableLifecycle": Effect(False, (f"{EXPORTER}args",)),
    "service.type": Effect("NodePort", ("Service spec.type",)),
    "service.port": Effect(81, ("Service spec.ports.0.port", "Probe spec.prober.url", f"{TEST}args.1")),
    "service.annotations": Effect(XY, swapped("Service metadata.annotations")),
    "service.labels": Effect(XY, swapped("Service metadata.labels")),
    "serviceAccount.create": Effect(False, ("ServiceAccount",)),
    "serviceAccount.name": Effect("somebody", ("ServiceAccount", f"{POD}serviceAccountName")),
    "serviceAccount.annotations": Effect(XY, swapped("ServiceAccount metadata.annotations")),
    "monitoring.labels": Effect(XY, of((*MONITORS, "PrometheusRule "), "metadata.labels.*")),
    "monitoring.annotations": Effect(XY, of((*MONITORS, "PrometheusRule "), "metadata.annotations.*")),
    "monitoring.namespace": Effect("elsewhere", of((*MONITORS, "PrometheusRule "), "metadata.namespace")),
    **{
        f"monitoring.{name}": Effect(value, of((*ENDPOINTS, "Probe spec."), f"{name}*"))
        for name, value in {
            "interval": "1m",
            "scrapeTimeout": "5s",
            "metricRelabelings": [{"action": "labeldrop", "regex": "node"}],
            "tlsConfig": {"insecureSkipVerify": True},
            "basicAuth": {"username": {"name": "login", "key": "username"}},
        }.items()
    },
    "monitoring.relabelings": Effect(
        [{"action": "labeldrop", "regex": "node"}],
        (*of(ENDPOINTS, "relabelings.*"), "Probe spec.targets.staticConfig.relabelingConfigs.*"),
    ),
    "monitoring.sampleLimit": Effect(50001, of(MONITORS, "spec.sampleLimit")),
    "serviceMonitor.enabled": Effect(False, ("ServiceMonitor",)),
    "podMonitor.enabled": Effect(False, ("PodMonitor",)),
    "probe.enabled": Effect(False, ("Probe",)),
    "probe.module": Effect("other", ("Probe spec.module",)),
    "probe.targets": Effect(["redis://other"], ("Probe spec.targets.staticConfig.static.0",)),
    "prometheusRule.enabled": Effect(False, ("PrometheusRule",)),
    "prometheusRule.alerts": Effect(False, ("PrometheusRule spec.groups",)),
    "prometheusRule.disabled": Effect(["TaskqSourceDown"], ("PrometheusRule spec.groups.1.rules",)),
    "prometheusRule.overrides": Effect({"TaskqQueueTooOld": {"for": "77m"}}, (f"{ALERTS}for",)),
    **{
        f"prometheusRule.thresholds.{name}": threshold(value)
        for name, value in {
            "oldest_age_seconds": 301,
            "backlog_tasks": 101,
            "backlog_growth_ratio": 2.75,
            "drain_seconds": 3601,
            "stuck_seconds": 3602,
            "overdue_seconds": 121,
            "failure_ratio": 0.0625,
            "failure_rate_floor": 0.011,
            "retry_ratio": 0.511,
            "retry_rate_floor": 0.111,
            "workers_ratio": 0.512,
            "broker_ratio": 0.911,
            "lag_seconds": 302,
        }.items()
    },
    "prometheusRule.grafanaUrl": Effect("https://grafana.example", (f"{ALERTS}annotations.dashboard_url",)),
    "prometheusRule.runbookUrl": Effect("https://runbooks.example", (f"{ALERTS}annotations.runbook_url",)),
    "prometheusRule.extraGroups": Effect(
        [{"name": "theirs", "rules": [{"record": "b", "expr": "vector(2)"}]}], ("PrometheusRule spec.groups.2.*",)
    ),
    "dashboards.configMaps.enabled": Effect(False, ("ConfigMap",)),
    "dashboards.configMaps.labels.grafana_dashboard": Effect("yes", ("ConfigMap metadata.labels.grafana_dashboard",)),
    "dashboards.configMaps.annotations": Effect(XY, ("ConfigMap metadata.annotations.*",)),
    "dashboards.configMaps.namespace": Effect("elsewhere", ("ConfigMap metadata.namespace",)),
    "dashboards.grafanaOperator.enabled": Effect(False, ("GrafanaDashboard",)),
    "dashboards.grafanaOperator.instanceSelector.matchLabels.dashboards": Effect(
        "theirs", ("GrafanaDashboard spec.instanceSelector.matchLabels.dashboards",)
    ),
    "dashboards.grafanaOperator.folder": Effect("theirs", ("GrafanaDashboard spec.folder",)),
    "dashboards.grafanaOperator.allowCrossNamespaceImport": Effect(
        False, ("GrafanaDashboard spec.allowCrossNamespaceImport",)
    ),
    "dashboards.grafanaOperator.resyncPeriod": Effect("1m", ("GrafanaDashboard spec.resyncPeriod",)),
    "keda.serverAddress": Effect("http://thanos:9090", ("ScaledObject spec.triggers.*.metadata.serverAddress",)),
    "keda.authenticationRef": Effect({"name": "other"}, ("ScaledObject spec.triggers.*.authenticationRef.name",)),
    "keda.labels": Effect(XY, swapped("ScaledObject metadata.labels")),
    "keda.scaledObjects": Effect(
        [
            {
                "name": "v",
                "namespace": "web",
                "source": "web",
                "queues": ["q"],
                "slots": 2,
                "longestTask": 5,
                "maxAge": 7,
                "maxReplicas": 3,
                "fallbackReplicas": 2,
            }
        ],
        ("ScaledObject",),
    ),
    "networkPolicy.enabled": Effect(False, ("NetworkPolicy",)),
    "networkPolicy.from": Effect(
        [{"podSelector": {"matchLabels": {"app": "other"}}}], ("NetworkPolicy spec.ingress.0.from.0.*",)
    ),
    "networkPolicy.egress": Effect([{"ports": [{"port": 5432}]}], ("NetworkPolicy spec.egress.1.ports.0.port",)),
    "podDisruptionBudget.enabled": Effect(False, ("PodDisruptionBudget",)),
    "podDisruptionBudget.maxUnavailable": Effect(0, ("PodDisruptionBudget spec.maxUnavailable",)),
    **in_containers("resources.requests.cpu", "50m"),
    **in_containers("resources.requests.memory", "64Mi"),
    **{
        f"podSecurityContext.{name}": Effect(value, of((POD, "Pod spec."), f"securityContext.{name}"))
        for name, value in {
            "runAsNonRoot": False,
            "runAsUser": 1001,
            "runAsGroup": 1002,
            "fsGroup": 1003,
            "fsGroupChangePolicy": "Always",
            "seccompProfile.type": "Unconfined",
        }.items()
    },
    **in_containers("securityContext.allowPrivilegeEscalation", True),
    **in_containers("securityContext.readOnlyRootFilesystem", False),
    **in_containers("securityContext.capabilities.drop", ["NET_RAW"], "securityContext.capabilities.drop.0"),
    **{
        f"{probe}Probe.{name}": Effect(value, (f"{EXPORTER}{probe}Probe.{name}",), beside="sources")
        for probe, names in {
            "liveness": ("periodSeconds", "timeoutSeconds", "failureThreshold"),
            "readiness": ("periodSeconds", "timeoutSeconds"),
            "startup": ("periodSeconds", "timeoutSeconds", "failureThreshold"),
        }.items()
        for value, name in enumerate(names, 41)
    },
    **in_pod("nodeSelector", XY, ".*", test=True),
    **in_pod("tolerations", [{"key": "other", "operator": "Exists"}], ".0.key", test=True),
    **in_pod(
        "affinity",
        {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "other"}]}},
        ".*",
    ),
    **in_pod(
        "topologySpreadConstraints",
        [{"maxSkew": 2, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}],
        ".0.*",
    ),
    **in_pod("priorityClassName", "low"),
    **in_pod("hostAliases", [{"ip": "10.0.0.9", "hostnames": ["other"]}], ".0.*"),
    **in_pod("dnsConfig", {"nameservers": ["10.0.0.2"]}, ".*"),
    **in_pod("terminationGracePeriodSeconds", 31),
    "podAnnotations": Effect(XY, swapped(f"{TEMPLATE}annotations")),
    "podLabels": Effect({"tier": "backend"}, (f"{TEMPLATE}labels.tier",)),
    "annotations": Effect(XY, swapped("Deployment metadata.annotations")),
    "extraVolumes": Effect(
        [{"name": "ca", "secret": {"secretName": "{{ .Release.Name }}-tls"}}], (f"{POD}volumes.4.*",)
    ),
    "extraVolumeMounts": Effect(
        [{"name": "ca", "mountPath": "/{{ .Release.Name }}"}], of((EXPORTER, CHECK), "volumeMounts.4.mountPath")
    ),
    "initContainers": Effect([{"name": "other", "image": "busybox"}], (f"{POD}initContainers.0.name",)),
    "extraContainers": Effect([{"name": "other", "image": "proxy"}], (f"{POD}containers.1.name",)),
    "extraManifests": Effect(
        [
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "data": {"ca.crt": "other"},
                "metadata": {
                    "name": "{{ .Release.Name }}-ca",
                    "namespace": "watching",
                    "labels": {"app.kubernetes.io/instance": "{{ .Release.Name }}"},
                },
            }
        ],
        ("ConfigMap data.ca.crt", "ConfigMap"),
    ),
    "nameOverride": Effect("other", ("* *app.kubernetes.io/name",)),
    "fullnameOverride": Effect(
        "other",
        (
            *("Deployment", "Service", "Secret", "PersistentVolumeClaim", "Pod", "NetworkPolicy"),
            *("PodDisruptionBudget", "ServiceMonitor", "PodMonitor", "Probe", "PrometheusRule"),
        ),
    ),
    "namespaceOverride": Effect(
        "other",
        (
            "* metadata.namespace",
            *(f"{monitor} spec.namespaceSelector.matchNames.0" for monitor in ("ServiceMonitor", "PodMonitor")),
            *("Probe spec.prober.url", f"{TEST}args.1"),
        ),
    ),
    "commonLabels": Effect(
        {"team": "growth", "owner": "other"}, ("* metadata.labels.owner", f"{TEMPLATE}labels.owner")
    ),
    "tests.enabled": Effect(False, ("Pod",)),
    "tests.env": Effect([{"name": "A", "value": "b"}], (f"{TEST}env",)),
}
