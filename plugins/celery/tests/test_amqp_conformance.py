"""The adapter contract on RabbitMQ, with real tasks of real workers."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import amqp
import pytest

from taskq_exporter.testing import AdapterConformance, World, start_rabbitmq
from taskq_exporter.testing.rabbitmq import manage


@pytest.fixture(scope="module")
def seeded(open_project: Callable[..., AbstractContextManager[Any]]) -> Iterator[World]:
    with start_rabbitmq() as server, open_project(server.url) as project:

        def until(condition: Callable[[], object]) -> None:
            deadline = time.monotonic() + 30
            while not condition():
                assert time.monotonic() < deadline
                time.sleep(0.1)

        address = urlsplit(server.management)
        project.declare("emails")
        project.send("ok", n=6)
        with project.app.connection_for_write() as connection:
            channel = connection.default_channel
            channel.queue_declare("orders", durable=True, auto_delete=False, arguments={"x-queue-type": "quorum"})
            for _ in range(3):  # confirmed: RabbitMQ 3.10 may lose others where the sender leaves at once
                channel.basic_publish_confirm(amqp.Message("{}", delivery_mode=2), routing_key="orders")

        def work() -> None:
            worker = project.worker("-c", "2", queues="emails")
            project.send("ok", n=20, queue="emails")
            project.send("fail", n=5, queue="emails")
            until(lambda: len(re.findall("succeeded in|raised unexpected", worker.log)) == 25)
            worker.stop()  # a worker of Celery 5.7 that still works may hang there

        def listed() -> dict[str, Any]:
            found = manage(server.management, "GET", "/api/queues/%2F")
            return {queue["name"]: queue.get("messages_ready") for queue in found}

        until(lambda: listed() == {"celery": 6, "emails": 0, "orders": 3})  # its numbers come later
        yield World(
            url=server.url,
            server=server,
            options={"management_url": f"http://{address.hostname}:{address.port}"},
            tasks={"celery": {"ready": 6}, "orders": {"ready": 3}, "emails": {"ready": 0}},
            series={
                'taskq_celery_unacked{queue="celery"}': 0,
                'taskq_queue_consumers{queue="orders"}': 0,
            },
            work=work,
            finished={
                ("emails", "celery_project.ok", "succeeded"): 20,
                ("emails", "celery_project.fail", "failed"): 5,
            },
        )


@pytest.mark.xdist_group("celery_amqp_conformance")
class TestConformance(AdapterConformance):
    adapter = "celery"
    golden = Path(__file__).with_name("golden_amqp.prom")

    @pytest.fixture
    def world(self, seeded: World) -> World:
        return seeded
