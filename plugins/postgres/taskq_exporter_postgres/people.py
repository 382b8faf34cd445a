"""Rows about workers and schedules as records. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from taskq_exporter.api import (
    AdapterError,
    Reason,
    ScheduleEntry,
    SchedulerStats,
    WorkerState,
    WorkerStats,
)
from taskq_exporter_postgres.bound import BoundStatement

__all__ = ["Schedules", "Workers"]

#: What a scheduler is called where the statement names none.
UNNAMED = "schedule"


class Workers:
    """Workers by name, the freshest row of each; or how many there are in which state."""

    def __init__(self) -> None:
        self.known: dict[str, WorkerStats] = {}
        self.states: dict[WorkerState, int] = {}

    def add(self, one: BoundStatement, rows: Iterable[tuple[Any, ...]]) -> None:
        """Rows of kind workers. Raises AdapterError(schema) where a state is none."""
        named = "worker" in one.columns
        found: list[WorkerStats] = []
        for name, up, word, beat, started, slots, running, reserved, pool, software, version, n in rows:
            state = _state(one, word)
            if not named:
                if state is not None:
                    self.states[state] = self.states.get(state, 0) + (n or 0)
                continue
            found.append(
                WorkerStats(
                    name=name or "",
                    up=up,
                    state=state,
                    pool=pool or "",
                    software=software or "",
                    software_version=version or "",
                    slots=slots,
                    tasks=_held(running, reserved),
                    last_heartbeat=beat,
                    started=started,
                )
            )
        for worker in found:
            beat, before = worker.last_heartbeat, self.known.get(worker.name)
            if before is None or (before.last_heartbeat or 0.0) < (beat or 0.0):
                self.known[worker.name] = worker


class Schedules:
    """Schedulers with their entries."""

    def __init__(self) -> None:
        self._entries: dict[str, dict[str, ScheduleEntry]] = {}
        self._own: dict[str, tuple[bool | None, float | None]] = {}

    def add(self, rows: Iterable[tuple[Any, ...]]) -> None:
        """Rows of kind schedules."""
        for scheduler, entry, last_run, next_run, up, beat in rows:
            name = scheduler or UNNAMED
            entries = self._entries.setdefault(name, {})
            if entry is not None:
                entries[entry] = ScheduleEntry(name=entry, last_run=last_run, next_run=next_run)
            if up is not None or beat is not None:
                self._own[name] = up, beat

    def records(self) -> list[SchedulerStats]:
        """One record a scheduler."""
        records = []
        for name, entries in sorted(self._entries.items()):
            up, beat = self._own.get(name, (None, None))
            listed = tuple(entries[entry] for entry in sorted(entries))
            records.append(SchedulerStats(name=name, up=up, last_beat=beat, entry_count=len(listed), entries=listed))
        return records


def _held(running: int | None, reserved: int | None) -> dict[Literal["running", "reserved", "scheduled"], int]:
    held: dict[Literal["running", "reserved", "scheduled"], int] = {}
    if running is not None:
        held["running"] = running
    if reserved is not None:
        held["reserved"] = reserved
    return held


def _state(one: BoundStatement, word: str | None) -> WorkerState | None:
    if word is None:
        return None
    if word not in list(WorkerState):
        known = ", ".join(WorkerState)
        raise AdapterError(Reason.SCHEMA, f"{one.doing} gives the state {word!r}; a worker is {known}")
    return WorkerState(word)
