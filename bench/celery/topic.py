"""The rows about Celery."""

from __future__ import annotations

from bench.celery import cpu, drop, loss, memory, scrapes, start
from bench.celery.world import new_world
from bench.report import Topic

TOPIC = Topic(
    new_world,
    {
        "cpu": cpu.rows,
        "loss": loss.rows,
        "memory": memory.rows,
        "scrape": scrapes.rows,
        "start": start.rows,
        "drop": drop.rows,
    },
)
