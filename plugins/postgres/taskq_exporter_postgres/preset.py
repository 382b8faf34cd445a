"""What a preset is: one YAML file that says what a queue's library keeps in its tables, and how to ask for it.

docs/presets.md shows how to write one. Files are data of this package: presets/NAME.yaml.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib import resources
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, model_validator

from taskq_exporter.api import Outcome, State
from taskq_exporter_postgres.placeholders import check_text

__all__ = [
    "COLLECTED",
    "FOLLOWED",
    "Counted",
    "Ended",
    "Jobs",
    "Kept",
    "Preset",
    "Spread",
    "Statement",
    "Statements",
    "Variant",
    "load_preset",
    "preset_names",
]

Mode = Literal["xid", "ids", "totals"]
#: Kinds of statements that a collect sends, and those of the follower.
COLLECTED = ("jobs", "queues", "workers", "schedules")
FOLLOWED = ("finished", "started", "enqueued")
_Text = Annotated[str, Field(min_length=1), AfterValidator(check_text)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Spread(_Model):
    """Where the names of the queues are found one by one, through an index that begins with them.

    A statement that stopped at {limit} is sent again for each: {queue:COLUMN} is then the condition on its rows.
    """

    #: The table whose queues are gone through.
    table: str
    #: Its column with their names.
    column: str
    where: _Text = "true"  # on rows that name a queue
    index: _Text | None = None  # the CREATE INDEX that serves the names and the statement, where the library has none


class Statement(_Model):
    """A SELECT whose output columns are fixed by its kind (`columns.COLUMNS`); what it leaves out is not known."""

    #: One SELECT; its output columns are fixed: docs/presets.md.
    sql: _Text
    index: _Text | None = None  # the CREATE INDEX that makes it cheap, where the library brings none
    optional: bool = False  # where it fails, the rest goes on
    each: str | None = None  # a pattern of tables such as q_*: the statement is asked of each of them
    spread: Spread | None = None  # so that the backlog of one queue hides no other

    @model_validator(mode="before")
    @classmethod
    def _text_alone(cls, value: Any) -> Any:
        return {"sql": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _spread_fits(self) -> Self:
        if bool(self.spread) != ("{queue:" in self.sql) or (self.spread and "{limit}" not in self.sql):
            raise ValueError("spread, {limit} and {queue:COLUMN} go together")
        if self.spread and self.each:
            raise ValueError("each and spread exclude each other: tables of their own hide no other queue")
        return self


class Jobs(Statement):
    """Live jobs, counted: the states that it tells, each known to be 0 where it has no row."""

    #: The states that it tells.
    states: Annotated[tuple[State, ...], Field(min_length=1)]


class Counted(Statement):
    """What happened since the last look, a row for each.

    xid: rows by the transaction that wrote them, {window:ALIAS}, in a range bounded by {since} or {above:TABLE.COLUMN}.
    ids: rows after {since} with a key, remembered. totals: no rows, but totals that only grow.
    """

    #: How rows are counted once: by their transaction, by remembered ids, or as totals.
    mode: Mode = "xid"

    @model_validator(mode="after")
    def _bounded(self) -> Counted:
        bounds = [part for part in ("{since", "{above:") if part in self.sql]
        if self.mode == "xid" and not ("{window:" in self.sql and bounds):
            raise ValueError(
                "counts by the transaction that wrote a row: it needs {window:ALIAS}, and {since} or"
                " {above:TABLE.COLUMN} so that an index serves it; else set mode to ids or totals"
            )
        if self.mode == "ids" and "{since" not in self.sql:
            raise ValueError("mode ids needs {since}: rows that ended after it")
        if self.mode == "totals" and (bounds or "{window:" in self.sql):
            raise ValueError("mode totals knows no {window:…}, {since} and {above:…}")
        return self


class Kept(_Model):
    """How it is told that rows stay after their end, where an option of the library's decides."""

    sql: _Text  # gives the outcomes whose rows are seen to stay; no count of others begins at 0
    otherwise: str  # what to change where there are none, for `check`


class Ended(Counted):
    """Attempts that ended: the outcomes that it tells; `retried` ends an attempt, and not its job."""

    #: The outcomes that it tells.
    outcomes: Annotated[tuple[Outcome, ...], Field(min_length=1)]
    #: Some rows are deleted as they end: what was not seen may have happened, so no count begins at 0.
    partial: bool = False
    #: How it is told that rows stay after their end.
    kept: Kept | None = None


def _named(value: Any, info: ValidationInfo) -> Any:
    """Statements by name. One alone may stand without; a state or an outcome as name says what it tells."""
    kind = info.field_name or ""
    what, words = {"jobs": ("states", State), "finished": ("outcomes", Outcome)}.get(kind, ("", ()))
    if isinstance(value, str) or (isinstance(value, Mapping) and "sql" in value):
        if what:
            raise ValueError(
                f"name the statement by what it tells: {kind}: {{{'running' if words is State else 'failed'}: …}}"
            )
        return {kind: value}
    if not isinstance(value, Mapping) or not what:
        return value
    named = {}
    for name, one in value.items():
        spec = {"sql": one} if isinstance(one, str) else one
        if isinstance(spec, Mapping) and what not in spec:
            if name not in list(words):
                raise ValueError(f"{name!r} is none of {', '.join(words)}: name those that it tells in {what}")
            spec = {**spec, what: [name]}
        named[name] = spec
    return named


_N = BeforeValidator(_named)


class Statements(_Model):
    """Statements by kind and name; None takes one of the preset's away."""

    #: Live jobs, by queue and state.
    jobs: Annotated[Mapping[str, Jobs | None], _N] = {}
    #: Queues, with consumers, slots, paused.
    queues: Annotated[Mapping[str, Statement | None], _N] = {}
    #: Workers, with heartbeats.
    workers: Annotated[Mapping[str, Statement | None], _N] = {}
    #: Entries of schedules, with last and next run.
    schedules: Annotated[Mapping[str, Statement | None], _N] = {}
    #: Attempts that ended.
    finished: Annotated[Mapping[str, Ended | None], _N] = {}
    #: Attempts that began.
    started: Annotated[Mapping[str, Counted | None], _N] = {}
    #: Jobs that were put in.
    enqueued: Annotated[Mapping[str, Counted | None], _N] = {}

    def of(self, kind: str) -> dict[str, Any]:
        """The statements of a kind, by name."""
        return {name: one for name, one in getattr(self, kind).items() if one is not None}

    def over(self, base: Statements) -> Statements:
        """These, and those of `base` whose kind and name is not among these."""
        merged: dict[str, Any] = {
            kind: {**getattr(base, kind), **getattr(self, kind)} for kind in Statements.model_fields
        }
        return Statements.model_construct(None, **merged)

    @property
    def mode(self) -> Mode | None:
        """How what happened is counted; None where nothing is."""
        modes = [one.mode for kind in FOLLOWED for one in self.of(kind).values()]
        return modes[0] if modes else None

    def check_mode(self) -> None:
        """Raises ValueError where what happened cannot be counted with one cursor."""
        modes = {one.mode for kind in FOLLOWED for one in self.of(kind).values()}
        if len(modes) > 1:
            raise ValueError(f"one cursor has one mode, not {' and '.join(sorted(modes))}")
        if "ids" in modes and sum(len(self.of(kind)) for kind in FOLLOWED) > 1:
            raise ValueError("mode ids takes one statement of kind finished alone")

    @model_validator(mode="after")
    def _one_mode(self) -> Statements:
        self.check_mode()
        return self


class Variant(_Model):
    """The tables of one range of versions, and what to ask of them."""

    versions: str = ""  # for messages, e.g. "10 and 11"
    #: The columns that are read, by table; a table named q_* stands for each whose name begins so. `xmin` where rows
    #: are counted by the transaction that wrote them.
    reads: Mapping[str, tuple[str, ...]] = {}
    statements: Statements = Statements()


class Preset(_Model):
    """One queue system."""

    name: str
    about: str  # what it is, in one line, with its address
    verified: Annotated[tuple[str, ...], Field(min_length=1)]  # versions of the library that it was verified with
    db_schema: str = Field(default="public", alias="schema")  # where the library's tables are by default
    notes: str = ""  # what a user should know
    reads: Mapping[str, tuple[str, ...]] = {}  # of every variant
    statements: Statements = Statements()  # of every variant
    variants: tuple[Variant, ...] = (Variant(),)  # tried in order: the newest first

    @property
    def resolved(self) -> tuple[Variant, ...]:
        """The variants with what they have in common."""
        return tuple(
            Variant.model_construct(
                versions=variant.versions,
                reads={
                    table: tuple(dict.fromkeys((*self.reads.get(table, ()), *variant.reads.get(table, ()))))
                    for table in (*self.reads, *(t for t in variant.reads if t not in self.reads))
                },
                statements=variant.statements.over(self.statements),
            )
            for variant in self.variants
        )

    @model_validator(mode="after")
    def _whole(self) -> Preset:
        for variant in self.resolved:
            if not variant.reads or not variant.statements.of("jobs"):
                raise ValueError("each variant reads tables and counts jobs")
            variant.statements.check_mode()
            patterns = {one.each for kind in Statements.model_fields for one in variant.statements.of(kind).values()}
            if missing := sorted(filter(None, patterns - variant.reads.keys())):
                raise ValueError(f"each: {missing[0]} is not among reads")
            for one in variant.statements.of("jobs").values():
                if one.spread and one.spread.column not in variant.reads.get(one.spread.table, ()):
                    raise ValueError(f"spread: {one.spread.table}.{one.spread.column} is not among reads")
            if variant.statements.mode == "xid" and not any("xmin" in columns for columns in variant.reads.values()):
                raise ValueError("{window:…} reads xmin: name it among the columns of its table")
        return self


def preset_names() -> list[str]:
    """The presets that there are."""
    folder = resources.files(__package__) / "presets"
    return sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml"))


@functools.cache
def load_preset(name: str) -> Preset:
    """The preset of that name. Raises KeyError where there is none; a test loads them all."""
    if name not in preset_names():
        raise KeyError(name)
    text = (resources.files(__package__) / "presets" / f"{name}.yaml").read_text("utf-8")
    return Preset.model_validate({"name": name, **yaml.safe_load(text)})
