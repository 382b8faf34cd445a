"""What the chart renders, run by podman as a cluster would: hardened, on real servers, scraped and stopped."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from celery import Celery
from containers import Engine, free_port, need_networks
from kube import Cluster, pods, wait_for_page
from redis import Redis

from taskq_exporter.testing.page import Page

pytestmark = [pytest.mark.full, pytest.mark.timeout(900)]


@pytest.fixture
def cluster(engine: Engine, image: str, tmp_path: Path) -> Iterator[Cluster]:
    """podman, and what the test starts in it."""
    cluster = Cluster(engine, image, tmp_path)
    yield cluster
    cluster.close()


@pytest.fixture
def network(engine: Engine, stand_in: str, cluster: Cluster) -> Iterator[str]:
    """A network of containers with a Redis server, which is called redis there."""
    need_networks()
    name = cluster.name
    engine.run("podman", "network", "create", name)
    redis = ["redis-server", "--protected-mode", "no", "--save", ""]
    engine.run(
        "podman", "run", "--detach", "--name", f"{name}-redis", "--network", f"{name}:alias=redis", stand_in, *redis
    )
    yield name
    engine.run("podman", "rm", "--force", "--ignore", "--time", "1", f"{name}-redis", f"{name}-worker", check=False)
    engine.run("podman", "network", "rm", "--force", name, check=False)


def address_in(cluster: Cluster, container: str, network: str) -> str:
    form = f'{{{{(index .NetworkSettings.Networks "{network}").IPAddress}}}}'
    return cluster.run("inspect", "--format", form, container).strip()


def send(broker: str, queue: str, count: int) -> None:
    with Celery(broker=broker) as app:
        for _ in range(count):
            app.send_task("work", queue=queue)


def test_a_deployment_is_hardened_and_tells_the_numbers(
    helm4: Any, cluster: Cluster, redis_url: str, postgres_dsn: str
) -> None:
    port = free_port()
    broker, database = cluster.secret("broker", url=redis_url), cluster.secret("database", url=postgres_dsn)
    count = {"ready": "SELECT 'invoices' AS queue, count(*) AS n FROM public.invoices GROUP BY 1"}
    values = {
        **cluster.values,
        "configKind": "ConfigMap",
        "containerPort": port,
        "sources": [
            {"name": "shop", "adapter": "celery", "url": "${CELERY_BROKER_URL}"},
            {
                "name": "billing",
                "adapter": "postgres",
                "url_file": f"/run/secrets/{database}/url",
                "sql": {"jobs": count},
            },
        ],
        "env": [{"name": "CELERY_BROKER_URL", "valueFrom": {"secretKeyRef": {"name": broker, "key": "url"}}}],
        "existingSecrets": [database],
    }
    send(redis_url, "emails", 3)
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE invoices AS SELECT generate_series(1, 5) AS id")
    documents = helm4.render(values)
    cluster.apply(documents)
    ((pod,),) = pods(documents)
    cluster.start(pod)
    page = wait_for_page(f"http://127.0.0.1:{port}/metrics", lambda page: page.total("taskq_source_up") == 2)
    assert page.value("taskq_tasks", source="shop", queue="emails", state="ready") == 3
    assert page.value("taskq_tasks", source="billing", queue="invoices", state="ready") == 5
    (container,) = pod["spec"]["containers"]
    for probe in (container["livenessProbe"], container["readinessProbe"]):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{probe['httpGet']['path']}", timeout=10) as response:
            assert response.status == 200
    script = """
id -u; id -g
for path in / /etc /opt/taskq-exporter /etc/taskq-exporter; do touch $path/x 2>/dev/null && echo $path is written; done
ls /var/lib/taskq-exporter
grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/1/status
"""
    assert cluster.inside(pod, script).split("\n")[:-1] == [
        *("65532", "65532", "billing.json", "shop.json"),
        *("CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"),
    ]
    cluster.stop(pod)


def test_the_sources_are_divided_and_counters_go_on(helm4: Any, cluster: Cluster, network: str, shop: str) -> None:
    names = ["shop", "mails", "billing", "reports"]
    sources = [{"name": n, "adapter": "celery", "url": f"redis://redis:6379/{i}"} for i, n in enumerate(names)]
    persistent = {"persistence": {"enabled": True}, "configKind": "Secret"}
    redis = address_in(cluster, f"{network}-redis", network)
    for number in range(len(names)):
        send(f"redis://{redis}:6379/{number}", "emails", number + 1)
    documents = helm4.render({**cluster.values, **persistent, "kind": "StatefulSet", "shards": 2, "sources": sources})
    cluster.apply(documents)

    def start(pod: dict[str, Any], *claims: dict[str, Any]) -> str:
        name = pod["metadata"]["name"]
        service = f"{name}.{cluster.name}-shards.monitoring.svc"
        cluster.start(pod, *claims, network=f"{network}:alias={service}")
        infra = cluster.run("pod", "inspect", "--format", "{{.InfraContainerID}}", name).strip()
        return f"http://{address_in(cluster, infra, network)}:9540/metrics"

    def all_up(page: Page) -> bool:
        return {*page.by("taskq_source_up", "source").values()} == {1}

    urls = [start(pod, *claims) for *claims, pod in pods(documents)]
    pages = [wait_for_page(url, all_up) for url in urls]
    shares = [{name for (name,) in page.by("taskq_source_up", "source")} for page in pages]
    assert shares[0] | shares[1] == {*names}
    assert not shares[0] & shares[1]
    assert all(shares)
    ready = {queue: n for page in pages for queue, n in page.by("taskq_tasks", "source", state="ready").items()}
    assert ready == {(name,): number + 1 for number, name in enumerate(names)}

    for number in range(len(names)):  # `helm test` would call tasks that nobody works off a problem
        with Redis(host=redis, db=number) as client:
            assert client.delete("emails") == 1
    (test,) = [d for d in documents if d["kind"] == "Pod"]
    cluster.start(test, network=network)
    containers = [f"{test['metadata']['name']}-{container['name']}" for container in test["spec"]["containers"]]
    assert cluster.run("wait", *containers).split() == ["0", "0"], [cluster.run("logs", name) for name in containers]

    (number,) = [i for i, share in enumerate(shares) if "shop" in share]
    worker = ["--name", f"{network}-worker", "--network", network, "--env", "CELERY_BROKER_URL=redis://redis:6379/0"]
    cluster.run("run", "--detach", *worker, shop)
    wait_for_page(urls[number], lambda page: page.total("taskq_tasks_finished_total", source="shop"))
    cluster.run("stop", f"{network}-worker")
    ends = wait_for_page(urls[number], all_up).by("taskq_tasks_finished_total", "queue", "outcome", source="shop")
    pod = pods(documents)[number][-1]
    cluster.stop(pod)
    again = wait_for_page(start(pod), all_up)
    assert again.by("taskq_tasks_finished_total", "queue", "outcome", source="shop") == ends


def test_a_sidecar_watches_the_worker_beside_it(helm4: Any, cluster: Cluster, shop: str, redis_url: str) -> None:
    port = free_port()
    source = {"name": "shop", "adapter": "celery", "url": redis_url}
    values = {**cluster.values, "kind": "Sidecar", "containerPort": port, "sources": [source]}
    cluster.apply(helm4.render(values))
    # What the notes say is to be pasted.
    notes = helm4.notes(values)
    pasted = yaml.safe_load(notes[notes.index("initContainers:") :].partition("\n\n")[0])
    worker = {"name": "worker", "image": shop, "env": [{"name": "CELERY_BROKER_URL", "value": redis_url}]}
    spec = {"terminationGracePeriodSeconds": 15, "containers": [worker], **pasted}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"{cluster.name}-worker"}, "spec": spec}
    cluster.start(pod)

    def works(page: Page) -> bool:
        return page.total("taskq_tasks_finished_total", source="shop", queue="orders", outcome="succeeded") > 0

    page = wait_for_page(f"http://127.0.0.1:{port}/metrics", works)
    assert page.total("taskq_workers", source="shop") == 1
    cluster.stop(pod, within=15)  # the worker goes on to the end of its tasks


def test_a_bad_configuration_does_not_start(helm4: Any, cluster: Cluster) -> None:
    source = {"name": "shop", "adapter": "celery", "url": "${NOT_THERE}"}
    documents = helm4.render({**cluster.values, "sources": [source]})
    cluster.apply(documents)
    ((pod,),) = pods(documents)
    assert "init container" in cluster.start(pod, check=False)
    name = pod["metadata"]["name"]
    said = cluster.engine.run("podman", "logs", f"{name}-config-check").stderr
    assert "/etc/taskq-exporter/config.yaml:4:8: " in said
    assert "NOT_THERE" in said
    (container,) = pod["spec"]["containers"]
    state = cluster.run("inspect", "--format", "{{.State.Status}}", f"{name}-{container['name']}")
    assert state == "created\n"
