"""The adapter's options: a preset, or a jobs table described in the user's own names, and SQL of the user's own."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator
from taskq_exporter_sql import DEFAULT_SCHEMA, TableName, parse_table_name

from taskq_exporter.api import Options, Outcome, Period, State
from taskq_exporter_postgres.preset import FOLLOWED, Preset, Statements, Variant, load_preset, preset_names

__all__ = ["LIVE", "OUTCOMES", "WAITING", "Finished", "PostgresOptions", "Table", "Workers"]

#: States whose rows wait to become ready or to be taken; which of these a row is in depends on its time.
WAITING: Final = (State.READY, State.SCHEDULED, State.RETRY)
#: States of jobs that are not over. Only these are counted: what is over is history, which only grows.
LIVE: Final = (*WAITING, State.RESERVED, State.RUNNING, State.BLOCKED)
#: How a job ends for good.
OUTCOMES: Final = tuple(outcome for outcome in Outcome if outcome is not Outcome.RETRIED)
_ROLES: Final = tuple(dict.fromkeys((*(s.value for s in LIVE), *(o.value for o in OUTCOMES))))


def _words(value: Any) -> Any:
    """One word or several; numbers as the text that a literal of any type is written in."""
    words = []
    for word in value if isinstance(value, list | tuple) else [value]:
        if isinstance(word, bool) or not isinstance(word, str | int):
            raise ValueError(f"state word {word!r} is neither text nor a whole number: put it in quotes")
        words.append(str(word))
    if not words:
        raise ValueError("no state word: leave the line out, or name one")
    return tuple(words)


def _table_name(text: str) -> str:
    parse_table_name(text)
    return text


def _sentinel(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date) else value  # YAML reads 9999-01-01 as a date


Name = Annotated[str, AfterValidator(_table_name)]
ColumnName = Annotated[str, Field(min_length=1)]
Words = Annotated[tuple[str, ...], BeforeValidator(_words)]
EpochUnit = Literal["s", "ms"]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Columns(_Model):
    @model_validator(mode="before")
    @classmethod
    def _known_roles(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and (unknown := sorted(set(map(str, value)) - set(cls.model_fields))):
            raise ValueError(f"unknown column role {unknown[0]!r}; the roles are {', '.join(cls.model_fields)}")
        return value

    def given(self) -> dict[str, str]:
        """Column names by role, of the roles that are given."""
        return {role: name for role, name in self if name is not None}


class JobColumns(_Columns):
    """Which column says what. Only `state` is required; what is left out is not known, and so not on the page."""

    #: The state word: text, enum or whole number.
    state: ColumnName
    id: ColumnName | None = None  # only for finished.mode: ids
    #: The queue; without it all jobs are of one.
    queue: ColumnName | None = None
    #: What kind of job it is.
    task: ColumnName | None = None
    #: A level, not a raw number without bound.
    priority: ColumnName | None = None
    #: It runs no earlier.
    scheduled_at: ColumnName | None = None
    #: When its last run began.
    started_at: ColumnName | None = None
    #: When it ended: by it those that are over are found.
    finished_at: ColumnName | None = None
    #: When it was made: ages count from the later of this and scheduled_at.
    created_at: ColumnName | None = None
    #: Who holds it.
    worker: ColumnName | None = None
    #: Tries so far: one that runs later and was tried is `retry`.
    attempts: ColumnName | None = None


class Table(_Model):
    """A jobs table."""

    #: The table, with its schema.
    name: Name
    #: Its columns by what they say.
    columns: JobColumns
    #: State words by what they mean: `ready: [queued]`.
    states: Mapping[str, Words]
    queue: str = ""  # where there is no queue column or it is NULL; else the table's name
    naive_timezone: str = "UTC"  # of timestamp columns without time zone
    epoch_unit: EpochUnit | None = None  # of number columns with times
    immediate_sentinel: Annotated[str | int | None, BeforeValidator(_sentinel)] = None  # a scheduled_at that means: now

    @property
    def table_name(self) -> TableName:
        """The name, parsed."""
        return parse_table_name(self.name)

    @property
    def default_queue(self) -> str:
        """What jobs without a queue are counted under."""
        return self.queue or self.table_name.name

    def words(self, role: State | Outcome) -> tuple[str, ...]:
        """The state words of a state or an outcome."""
        return self.states.get(role.value, ())

    @model_validator(mode="after")
    def _states_make_sense(self) -> Table:
        seen: dict[str, str] = {}
        for role, words in self.states.items():
            if role not in _ROLES:
                raise ValueError(f"unknown state {role!r}; the states are {', '.join(_ROLES)}")
            for word in words:
                if word in seen:
                    raise ValueError(
                        f"state word {word!r} is in both {seen[word]!r} and {role!r}: a job is in one state"
                    )
                seen[word] = role
        if not seen:
            raise ValueError("no states: name at least the words of ready and running")
        return self


class WorkerColumns(_Columns):
    """Which column of the worker table says what."""

    #: The worker's name.
    id: ColumnName
    #: When it was last alive.
    heartbeat: ColumnName
    #: When it started.
    started_at: ColumnName | None = None
    #: How many jobs it runs at once.
    slots: ColumnName | None = None


class Workers(_Model):
    """A table with a row for each worker, whose heartbeat the worker renews."""

    #: The table, with its schema.
    name: Name
    #: Its columns by what they say.
    columns: WorkerColumns
    stale_after: Period = 60.0  # a worker is down when its heartbeat is older
    naive_timezone: str | None = None  # as the jobs table's
    epoch_unit: EpochUnit | None = None  # as the jobs table's

    @property
    def table_name(self) -> TableName:
        """The name, parsed."""
        return parse_table_name(self.name)


class Finished(_Model):
    """How jobs that are over are counted.

    xid: by the transaction that wrote the row: exact, for tables. ids: by remembering ids, for views and foreign
    tables; exact while no transaction is open for longer than `overlap`. none: not at all.
    """

    #: By the transaction that wrote the row, by remembered ids, or not at all.
    mode: Literal["xid", "ids", "none"] = "xid"
    #: How much older than its transaction's first write a finished_at may be (the clocks of writers, work before it).
    overlap: Period = 600.0


class PostgresOptions(Options):
    """Options of adapter `postgres`."""

    core_defaults: ClassVar[Mapping[str, Any]] = {"duty_cycle": 0.05}
    schemes: ClassVar[tuple[str, ...]] = ("postgresql", "postgres")

    preset: str | None = None  # what keeps its jobs there
    db_schema: str | None = Field(default=None, alias="schema", min_length=1)  # where the preset's tables are
    #: A jobs table of your own.
    table: Table | None = None
    workers: Workers | None = None  # of a table
    finished: Finished = Finished()  # of a table
    sql: Statements | None = None  # in place of single statements, beside them, or alone
    poll_interval: Period = 15.0  # how often finished jobs are looked for
    max_count: int = Field(default=100_000, ge=1)  # at how many waiting jobs a count stops
    allow_seq_scan: bool = False  # send statements that read large tables from end to end, too

    @property
    def preset_model(self) -> Preset | None:
        """The preset, loaded."""
        return load_preset(self.preset) if self.preset else None

    @property
    def schema_name(self) -> str:
        """What {schema} is in statements."""
        if self.db_schema:
            return self.db_schema
        return self.preset_model.db_schema if self.preset_model else DEFAULT_SCHEMA

    @property
    def patterns(self) -> list[str]:
        """The names with a * among the tables that the preset reads."""
        variants = self.preset_model.resolved if self.preset_model else ()
        return sorted({table for variant in variants for table in variant.reads if "*" in table})

    @property
    def follows(self) -> bool:
        """Whether there is anything that a follower counts."""
        variants = self.preset_model.resolved if self.preset_model else (Variant(),)
        own = self.sql or Statements()
        return bool(self.outcomes) or any(own.over(variant.statements).mode for variant in variants)

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """The outcomes that are counted in the table."""
        table = self.table
        return () if table is None or self.finished.mode == "none" else tuple(o for o in OUTCOMES if table.words(o))

    @model_validator(mode="after")
    def _one_base(self) -> PostgresOptions:
        if self.preset and self.table:
            raise ValueError("a source has either preset or table")
        if not (self.preset or self.table or (self.sql and any(map(self.sql.of, Statements.model_fields)))):
            raise ValueError(f"set preset (there are {', '.join(preset_names())}), or table, or sql")
        if self.table is None:
            for option in ("workers", "finished"):
                if option in self.model_fields_set:
                    raise ValueError(f"{option} is for a table; with a preset or alone write sql: {{{option}: …}}")
        elif self.db_schema:
            raise ValueError("schema is for a preset or sql: write table.name as schema.jobs")
        elif self.sql and any(map(self.sql.of, FOLLOWED)):
            raise ValueError("sql: of a table's finished jobs the columns and states of table tell all: leave it out")
        self._sql_fits()
        return self

    def _sql_fits(self) -> None:
        """The preset's statements and the user's own, together. Raises ValueError."""
        if self.sql and self.preset_model:
            for variant in self.preset_model.resolved:
                self.sql.over(variant.statements).check_mode()
        if self.sql and any(one.each for kind in Statements.model_fields for one in self.sql.of(kind).values()):
            raise ValueError("sql: each is for presets")

    @model_validator(mode="after")
    def _finished_can_be_counted(self) -> PostgresOptions:
        if self.table is None:
            return self
        columns = self.table.columns
        if self.outcomes and not columns.finished_at:
            raise ValueError(
                f"states.{self.outcomes[0].value} needs table.columns.finished_at, by which jobs that are over are"
                " counted; without such a column set finished: {mode: none}"
            )
        if self.outcomes and self.finished.mode == "ids" and not columns.id:
            raise ValueError("finished: {mode: ids} needs table.columns.id")
        if self.workers and self.workers.table_name == self.table.table_name:
            raise ValueError("workers.name is the jobs table: leave workers out; busy workers come from columns.worker")
        return self

    @field_validator("preset")
    @classmethod
    def _known_preset(cls, name: str | None) -> str | None:
        if name is not None and name not in preset_names():
            close = difflib.get_close_matches(name, preset_names(), n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(preset_names())}"
            raise ValueError(f"unknown preset {name!r}; {hint}")
        return name
