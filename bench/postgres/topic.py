"""The rows about PostgreSQL."""

from __future__ import annotations

from bench.postgres import cost
from bench.postgres.world import new_world
from bench.report import Topic

TOPIC = Topic(new_world, {"history": cost.history, "backlog": cost.backlog})
