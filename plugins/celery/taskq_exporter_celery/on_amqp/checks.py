"""What a person needs to set a source on RabbitMQ up: the rights it takes, and what is wrong there."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from taskq_exporter.api import AdapterError, Finding, Source
from taskq_exporter_celery.on_amqp.link import parse
from taskq_exporter_celery.on_amqp.queues import of_tasks
from taskq_exporter_celery.options import CeleryOptions

if TYPE_CHECKING:
    from taskq_exporter_celery.on_amqp.broker import AmqpBroker

_USER = "taskq_exporter"


def grants(source: Source) -> str:
    """The rabbitmqctl lines: queues of our own for events and answers, and nothing on those of the application.

    RabbitMQ before 4.2.6 lets every user of a virtual host see the size of its queues.
    """
    options: CeleryOptions = source.options
    host = options.virtual_host
    if host is None:
        try:
            host = parse(source.url().split(";")[0].strip()).virtual_host or "/"
        except AdapterError:
            host = "/"  # a URL that is wrong or cannot be read yet
    events, control = re.escape(options.event_exchange), re.escape(options.control_exchange)
    own, write, read = [r"celeryev\.taskq-exporter-.*"], [], [events]
    configure = []
    if options.inspect:
        replies = rf"reply\.{control}\.pidbox"
        own.append(rf"taskq-exporter-.*\.{replies}")
        configure, write, read = [replies], [rf"{control}\.pidbox"], [events, replies]
    rights = [_any(own + more) for more in (configure, write, read)]
    lines = [["add_user", _USER, "PASSWORD"], ["set_permissions", "-p", host, _USER, *rights]]
    if options.management_url is not None:
        lines.append(["set_user_tags", _USER, "monitoring"])
    return "\n".join(shlex.join(["rabbitmqctl", *line]) for line in lines)


def _any(patterns: list[str]) -> str:
    return f"^({'|'.join(patterns)})$"


async def findings(broker: AmqpBroker) -> list[Finding]:
    """What was found on the broker, beside the problems of a collect."""
    snapshot, found = await broker.collect(), []
    names = sorted(queue.name for queue in snapshot.queues if of_tasks(queue.name))
    if names:
        found.append(Finding(level="ok", text=f"{len(names)} queues: {', '.join(names[:10])}"))
    else:
        advice = "name some as queues: {expected: […]}, or set management_url to find all"
        found.append(Finding(level="note", text="no queue is known yet: AMQP cannot list them", advice=advice))
    if broker.management is None:
        text = "what workers hold is not known from the broker"
        found.append(Finding(level="note", text=text, advice="set management_url, the address of the management API"))
    return found
