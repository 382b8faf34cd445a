"""Statements as they fit the tables that are there: their columns known, their plans looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from psycopg import sql
from taskq_exporter_sql import TableName, Transaction, plan_of

from taskq_exporter.api import AdapterError, Capability, Outcome, Problem, Reason, State
from taskq_exporter_postgres.placeholders import Blanks
from taskq_exporter_postgres.preset import Statements

__all__ = ["Binding", "BoundStatement", "advised", "guarded"]

Query = Callable[[Blanks], sql.Composable]
#: A spread form may cost so many times what the usual one does, or what is little in the planner's unit.
SPREAD_COST, LITTLE_COST = 10, 1000.0
#: Groups up to which each may be looked for by itself: each costs as much as reading some hundred jobs.
MOST_STEPS = 500
#: Failures of one statement that do not concern the others.
OF_ONE = frozenset({Reason.SCHEMA, Reason.PERMISSION, Reason.COST, Reason.UNSUPPORTED})


@dataclass(frozen=True, kw_only=True)
class BoundStatement:
    """One statement, ready to be sent."""

    kind: str
    name: str
    query: Query  # gives columns.COLUMNS[kind], in their order
    columns: frozenset[str]  # those of them that may hold something
    states: tuple[State, ...] = ()  # kind jobs: which it tells
    outcomes: tuple[Outcome, ...] = ()  # kind finished: which it tells
    partial: bool = False  # kind finished: it does not see all of them
    kept: Query | None = None  # kind finished: gives the outcomes whose rows are seen to stay
    kept_otherwise: str = ""  # what to change where there are none
    limited: bool = False  # it stops at {limit} rows
    forms: Sequence[Query] = ()  # the same, cheaper where an index has their order
    stepped: Query | None = None  # the same for few groups, where indexes hold no other jobs
    unordered: bool = False  # no index has that order
    spread: Query | None = None  # the same for when it stopped at its limit: some rows of each queue
    spread_index: str = ""  # the CREATE INDEX for that
    above: frozenset[str] = frozenset()  # TABLE.COLUMN of the ids that bound it
    index: str = ""  # the CREATE INDEX that makes it cheap
    optional: bool = False
    generated: bool = False  # from a described table
    each: bool = False  # asked of a table for each queue

    @property
    def doing(self) -> str:
        """For error messages."""
        return f"statement {self.kind}.{self.name}"


@dataclass(kw_only=True)
class Binding:
    """What a source asks of its database."""

    schema: str
    statements: Sequence[BoundStatement]
    problems: list[Problem] = field(default_factory=list)  # of statements that are left out
    lacking: dict[str, Reason] = field(default_factory=dict)  # the same by KIND.NAME
    default_queue: str = ""  # of rows without a queue
    there: tuple[str, ...] = ()  # marks of the described tables, or names of those found for patterns
    unreadable: frozenset[str] = frozenset()  # what patterns stand for whose tables may not be read
    mode: str | None = None  # how the follower counts
    followed: Statements = field(default_factory=Statements)  # what the follower counts, where it is given as text
    guarded: bool = False  # whether the plans were looked at
    kept: dict[str, frozenset[str]] = field(default_factory=dict)  # outcomes whose rows stay, by statement
    bound_at: float = 0.0  # the loop's time
    dropped: Sequence[BoundStatement] = ()  # what is left out
    capabilities: Sequence[Capability] = ()  # of what a collect sends

    def of(self, kind: str) -> list[BoundStatement]:
        """The statements of a kind."""
        return [one for one in self.statements if one.kind == kind]

    async def look_for_kept(self, transaction: Transaction, blanks: Blanks) -> None:
        """See whether rows stay after their end, until that was seen. Raises AdapterError."""
        for one in self.of("finished"):
            if one.kept and self.kept.get(one.name) != frozenset(one.outcomes):
                rows = await transaction.fetch(f"{one.name}.kept", one.kept(blanks), doing=one.doing)
                self.kept[one.name] = frozenset(row[0] for row in rows)

    @property
    def begun(self) -> set[Outcome]:
        """The outcomes of which all would be counted: what was not seen has not happened."""
        finished = [one for one in self.of("finished") if not one.partial]
        return {o for one in finished for o in one.outcomes if one.kept is None or o in self.kept.get(one.name, ())}

    def leave_out(self, one: BoundStatement, error: AdapterError) -> None:
        """Go on without a statement."""
        part = f"{one.kind}.{one.name}"
        self.problems.append(Problem(reason=error.reason, part=part, message=str(error)))
        self.lacking[part] = error.reason
        self.statements = [other for other in self.statements if other is not one]
        self.dropped = [*self.dropped, one]


async def guarded(
    transaction: Transaction, binding: Binding, blanks: Blanks, kinds: Iterable[str], *, allow_seq_scan: bool
) -> None:
    """Look at the plans, unless that was done before: each statement takes its cheapest form.

    Those that read a large table from end to end are left out. Raises AdapterError of the server.
    """
    if binding.guarded:
        return
    binding.guarded = True
    await transaction.forget_plans()  # those that were looked at an hour ago
    for one in [one for one in binding.statements if one.kind in kinds]:
        try:
            async with transaction.savepoint():
                best, refused = await _planned(transaction, one, blanks)
        except AdapterError as error:
            if error.reason not in OF_ONE:
                raise
            binding.leave_out(one, advised(one, error))
            continue
        if refused and not allow_seq_scan:
            binding.leave_out(one, AdapterError(Reason.COST, _too_costly(one, refused)))
        else:
            binding.statements = [best if other is one else other for other in binding.statements]


async def _planned(transaction: Transaction, one: BoundStatement, blanks: Blanks) -> tuple[BoundStatement, str]:
    """The statement in its cheapest form, and the large tables that its usual one reads from end to end."""
    plan = await plan_of(transaction, one.query(blanks), doing=one.doing)
    refused = ", ".join(map(str, await plan.full_reads(transaction)))
    query, cost, unordered = one.query, plan.cost, bool(one.forms)
    for form in one.forms:
        other = await plan_of(transaction, form(blanks), doing=one.doing)
        unordered = unordered and other.sorts
        if other.cost <= cost and not other.sorts:
            query, cost = form, other.cost
    if one.stepped and plan.rows <= MOST_STEPS:  # of a recursion the planner knows no cost
        other = await plan_of(transaction, one.stepped(blanks), doing=one.doing)
        if not (other.sorts or other.filters):
            query = partial(_through, one.stepped, other.indexes)
    spread = one.spread
    if spread is not None:
        plan = await plan_of(transaction, spread(blanks), doing=one.doing)
        # without an index by queue, finding a queue costs as much as finding all
        if plan.sorts or plan.cost > SPREAD_COST * max(cost, LITTLE_COST) or await plan.full_reads(transaction):
            spread = None
    return replace(one, query=query, forms=(), stepped=None, unordered=unordered, spread=spread), refused


def _through(form: Query, indexes: Sequence[TableName], blanks: Blanks) -> sql.Composable:
    return form(replace(blanks, indexes=indexes))


def _too_costly(one: BoundStatement, tables: str) -> str:
    index = f"create the index: {one.index}" if one.index else "create an index that serves it"
    return f"{one.doing} would read all of {tables}: {index} (or set allow_seq_scan: true)"


def advised(one: BoundStatement, error: AdapterError) -> AdapterError:
    """The error, with the index that is missing where a statement took too long."""
    if error.reason is Reason.TIMEOUT and one.index:
        return AdapterError(error.reason, f"{error}; create the index: {one.index}")
    return error
