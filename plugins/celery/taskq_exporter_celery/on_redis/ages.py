"""Whether the age of the oldest ready task can be told, and how old it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from taskq_exporter.api import AdapterError, Capability, Finding, Problem, Reason
from taskq_exporter.api import State as S
from taskq_exporter_celery.families import OLDEST_IS_BOUND

if TYPE_CHECKING:
    from taskq_exporter_celery.on_redis.broker import RedisBroker

_ADVICE = {"option": "set peek: true", "permission": "see `taskq-exporter grants`, or set peek: false"}


class Ages:
    """What is known of the oldest ready tasks at one collect."""

    def __init__(self, broker: RedisBroker) -> None:
        self._broker = broker
        self._error: AdapterError | None = broker.tail_reads.problem if broker.source.options.peek else None
        self._reason: Literal["none", "option", "permission"] = "none"
        if not broker.source.options.peek:
            self._reason = "option"
        elif self._error is not None and self._error.reason is Reason.PERMISSION:
            self._reason = "permission"

    def oldest(self, queue: str, lengths: Sequence[int], now: float) -> tuple[float, bool] | None:
        """As Tails.oldest()."""
        if self._error is not None or self._reason != "none":
            return None
        follower = self._broker.shared.follower
        return self._broker.tails.oldest(queue, lengths, now, follower.tasks.runnable if follower else lambda _: None)

    @property
    def capabilities(self) -> list[Capability]:
        """What can be told with these options and rights."""
        return [
            Capability(family=family, state=state, reason=self._reason, advice=_ADVICE.get(self._reason, ""))
            for family, state in (("taskq_oldest_task_age_seconds", S.READY), (OLDEST_IS_BOUND, ""))
        ]

    @property
    def problems(self) -> list[Problem]:
        """Why it is not known now, though it could be."""
        if self._error is None or self._reason != "none":
            return []
        return [Problem(reason=self._error.reason, part="oldest ready", message=str(self._error))]

    @property
    def findings(self) -> list[Finding]:
        """What a person could change."""
        if self._reason != "permission":
            return []
        text = "the age of the oldest ready task is not known: the user lacks the right +lindex"
        return [Finding(level="note", text=text, advice=_ADVICE["permission"])]
