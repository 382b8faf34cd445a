"""What an author tells the conformance kit of a server with known tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from taskq_exporter.testing.processes import Server
from taskq_exporter.testing.stores import Store, store_of

__all__ = ["World"]


@dataclass(frozen=True, kw_only=True)
class World:
    """A server with known tasks, at rest, and what the adapter must say of it."""

    url: str
    #: Every queue, with its tasks by state; a state that is left out must be absent or 0.
    tasks: Mapping[str, Mapping[str, int]]
    #: The adapter's own options, and the core's, as in the configuration file.
    options: Mapping[str, Any] = field(default_factory=dict)
    #: Any other series as it stands on the page, without the label source: {'taskq_tasks_overdue{queue="emails"}': 1}.
    series: Mapping[str, float] = field(default_factory=dict)
    #: The server of this world alone, which the kit may freeze and stop.
    server: Server | None = None
    #: Does known work, for adapters with a follower; called once it follows. It returns when the work is done.
    work: Callable[[], object] | None = None
    #: (queue, task, outcome) of that work, and how many.
    finished: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    #: Everything stored, for comparison; Redis and PostgreSQL URLs need none, RabbitMQ only without its management API.
    dump: Callable[[], Any] | None = None
    #: Creates the user that the adapter's grants() describes and returns the URL with its credentials; as above.
    grant: Callable[[str], str] | None = None

    @property
    def store(self) -> Store | None:
        """How the kit itself looks at the server, where it can."""
        return store_of(self.url, self.server.management if self.server else "")
