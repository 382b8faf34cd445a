"""What `helm install` tells: each part where it should be, and nowhere else."""

from __future__ import annotations

import re
import shlex
from functools import cache
from typing import Any

import pytest
import yaml

from taskq_exporter.cli import parser

SOURCES = {"sources": [{"name": "shop", "adapter": "celery", "url": "redis://redis"}]}
MONITOR = {**SOURCES, "serviceMonitor": {"enabled": True}}
RULES = {**SOURCES, "prometheusRule": {"enabled": True}}
SIDECAR = {**SOURCES, "kind": "Sidecar", "sidecar": {"podLabels": {"app": "shop"}}}
TLS = {**MONITOR, "web": {"tlsSecret": "tls"}}
LOGIN = {**MONITOR, "web": {"config": {"basic_auth_users": {"prometheus": f"$2y$10${'a' * 53}"}}}}
CLIENT = {**MONITOR, "web": {"tlsSecret": "tls", "config": {"tls_server_config": {"client_auth_type": "RequireAny"}}}}
TEAMS = {**SOURCES, "extraSources": [{"configMap": {"name": "growth"}}]}
KEPT = {**SOURCES, "persistence": {"enabled": True}}

#: What is told, with these values, and not with those.
TOLD: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("serves http://demo-taskq-exporter.monitoring.svc:9540/metrics\n", SOURCES, SIDECAR),
    ("serves https://demo-taskq-exporter.monitoring.svc:9540/metrics\n", TLS, SOURCES),
    ("curl http://127.0.0.1:9540/metrics\n", SOURCES, TLS),
    ("curl --insecure https://127.0.0.1:9540/metrics\n", TLS, LOGIN),
    ("curl --user NAME http://127.0.0.1:9540/metrics\n", LOGIN, TLS),
    ("curl --insecure --cert FILE --key FILE https://127.0.0.1", CLIENT, TLS),
    ("curl --user NAME --cert FILE --key FILE http", {**SOURCES, "web": {"existingSecret": "web"}}, CLIENT),
    ("port-forward service/demo-taskq-exporter 9540:80\n", {**SOURCES, "service": {"port": 80}}, SOURCES),
    ("9540/prom\n", {**SOURCES, "web": {"telemetryPath": "/prom"}}, SOURCES),
    ("exec deployment/demo-taskq-exporter -- taskq-exporter check --url=http://127.0.0.1:9540\n", SOURCES, LOGIN),
    ("-- taskq-exporter check --config.file=/etc/taskq-exporter/config.yaml\n", LOGIN, SOURCES),
    ("-- taskq-exporter check\n", {"web": {"tlsSecret": "tls"}}, TLS),
    ("exec statefulset/demo", {**SOURCES, "kind": "StatefulSet"}, SOURCES),
    ("helm --namespace monitoring test demo\n", SOURCES, {**SOURCES, "tests": {"enabled": False}}),
    ("initContainers:\n  - restartPolicy: Always", SIDECAR, SOURCES),
    ("Nothing to watch is configured", {}, SOURCES),
    ("Nothing to watch is configured", {}, {"env": [{"name": "REDIS_URL", "value": "redis://redis"}]}),
    ("Nothing to watch is configured", {}, {"envFrom": [{"secretRef": {"name": "broker"}}]}),
    ("Nothing to watch is configured", {}, TEAMS),
    ("kubectl get prometheus --all-namespaces", MONITOR, SOURCES),
    ("kubectl get prometheus --all-namespaces", RULES, SIDECAR),
    ("--namespace there get servicemonitor", {**MONITOR, "monitoring": {"namespace": "there"}}, MONITOR),
    ('count(taskq_exporter_build_info{namespace="monitoring"})', MONITOR, RULES),
    ("monitoring.labels is empty", MONITOR, {**MONITOR, "monitoring": {"labels": {"release": "kps"}}}),
    ("monitoring.labels is empty", RULES, SOURCES),
    ("monitoring.tlsConfig is empty", TLS, {**TLS, "monitoring": {"tlsConfig": {"serverName": "x"}}}),
    ("monitoring.tlsConfig is empty", TLS, LOGIN),
    ("monitoring.tlsConfig is empty", TLS, {**SOURCES, "web": {"tlsSecret": "tls"}}),
    ("monitoring.basicAuth is empty", LOGIN, {**LOGIN, "monitoring": {"basicAuth": {"username": {"name": "login"}}}}),
    ("monitoring.basicAuth is empty", LOGIN, TLS),
    ("Prometheus operator runs: serviceMonitor.enabled=true", SOURCES, MONITOR),
    ("Prometheus operator runs: serviceMonitor.enabled=true", SOURCES, RULES),
    ("Prometheus operator runs: podMonitor.enabled=true", SIDECAR, SOURCES),
    ("lets POST /-/reload do it", TEAMS, {**TEAMS, "web": {"enableLifecycle": True}}),
    ("lets POST /-/reload do it", TEAMS, SOURCES),
    ("Counters start at 0 in the next pod", SOURCES, KEPT),
    ("Counters start at 0 in the next pod", SOURCES, SIDECAR),
]


@pytest.fixture(scope="module")
def notes(helm4: Any) -> Any:
    told = cache(lambda text: helm4.notes(yaml.safe_load(text)))
    return lambda values: told(yaml.safe_dump(values))


def test_each_part_is_told_where_it_should_be(notes: Any) -> None:
    for part, these, those in TOLD:
        assert part in notes(these), notes(these)
        assert part not in notes(those), notes(those)


def test_every_command_is_one(notes: Any) -> None:
    for values in (SOURCES, TLS, LOGIN, {}):
        (line,) = re.findall(r"-- taskq-exporter (check.*)", notes(values))
        arguments = shlex.split(line)
        assert parser(arguments).parse_args(arguments).run
