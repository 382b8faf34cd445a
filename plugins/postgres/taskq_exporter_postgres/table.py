"""The configured tables as the server has them: checked, and their columns as SQL expressions of fixed types."""

from __future__ import annotations

from collections.abc import Mapping

from psycopg import sql
from taskq_exporter_sql import Relation, TableName, grant_select, hidden_rows

from taskq_exporter.api import AdapterError, Reason

__all__ = ["MAX_LABEL", "BoundTable", "seconds_between"]

#: Characters of a name: a column of documents must not fill the exporter's memory.
MAX_LABEL = 256
_WITH_ZONE = "timestamp with time zone"
_NAIVE = "timestamp without time zone"
_NUMBERS = ("smallint", "integer", "bigint", "numeric", "real", "double precision")
_CLOCK_CHANGE = 3600.0  # seconds: naive times repeat an hour when summer ends
#: Years 1 and 10000 in Unix seconds; numbers outside are infinitely early or late. Far outside, the server would fail.
_FIRST, _LAST = -62_135_596_800, 253_402_300_800
_PER_SECOND = {"s": 1, "ms": 1000}


class BoundTable:
    """A table whose columns exist and may be read. Expressions name no alias: one table to a SELECT."""

    def __init__(
        self,
        name: TableName,
        relation: Relation | None,
        columns: Mapping[str, str],
        *,
        times: tuple[str, ...],
        naive_timezone: str,
        epoch_unit: str | None,
        needs_xmin: bool = False,
    ) -> None:
        """Raises AdapterError: schema (table, column or its type), permission (names the GRANT), unsupported."""
        if relation is None:
            raise AdapterError(Reason.SCHEMA, f"there is no table {name}; names are compared exactly, case included")
        missing = sorted({column for column in columns.values() if column not in relation.columns})
        if missing:
            there = ", ".join(sorted(set(relation.columns) - {"xmin"}))
            raise AdapterError(Reason.SCHEMA, f"table {name} has no column {', '.join(missing)}; it has {there}")
        if needs_xmin and not relation.has_xmin:
            raise AdapterError(
                Reason.UNSUPPORTED,
                f"{name} is a view or a foreign table, whose rows do not tell the transaction that wrote them:"
                " name the table under it, or set finished: {mode: ids}",
            )
        read = [*dict.fromkeys(columns.values()), *(["xmin"] if needs_xmin else [])]
        if not relation.schema_usable:
            schema = sql.Identifier(name.schema).as_string(None)
            raise AdapterError(Reason.PERMISSION, f"run: GRANT USAGE ON SCHEMA {schema} TO taskq_exporter;")
        unreadable = [column for column in read if not relation.columns[column].readable]
        if unreadable:
            raise AdapterError(Reason.PERMISSION, f"run: {grant_select(name, unreadable)}")
        self.name = name
        self.columns = columns
        #: Whether it is one table, and none of partitions.
        self.is_whole = relation.kind == "r"
        self._hides_rows = relation.hides_rows
        self._not_null = {role for role, column in columns.items() if relation.columns[column].not_null}
        self._types = {role: relation.columns[column].type for role, column in columns.items()}
        self._zone = sql.Literal(naive_timezone)
        self._per_second = _PER_SECOND.get(epoch_unit or "")
        for role in times:
            self._check_time(role)

    def _check_time(self, role: str) -> None:
        type_ = self._types.get(role, _WITH_ZONE)
        if type_ in _NUMBERS and self._per_second is None:
            message = f"column {self.columns[role]} of {self.name} is a number ({type_}): set epoch_unit to s or ms"
            raise AdapterError(Reason.SCHEMA, message)
        if type_ not in (_WITH_ZONE, _NAIVE, *_NUMBERS):
            message = f"column {self.columns[role]} of {self.name} is of type {type_}, which is none of a time"
            raise AdapterError(Reason.SCHEMA, message)

    def need_all_rows(self) -> None:
        """Raises AdapterError(permission) where row-level security may hide rows."""
        if self._hides_rows:
            raise hidden_rows(self.name)

    def has(self, role: str) -> bool:
        """Whether a column has this role."""
        return role in self.columns

    def is_naive(self, role: str) -> bool:
        """Whether the role's column holds times without time zone."""
        return self._types[role] == _NAIVE

    def has_zone(self, role: str) -> bool:
        """Whether the role's column is given and holds times with time zone."""
        return self._types.get(role) == _WITH_ZONE

    def is_exact(self, role: str) -> bool:
        """Whether a row is found again by what key() says of it, through an index on the role's column."""
        return role in self._not_null and self._types[role] in (*_NUMBERS, "text", "character varying")

    def is_given(self, role: str) -> bool:
        """Whether the role's column is never NULL."""
        return role in self._not_null

    def column(self, role: str) -> sql.Composable:
        """The column itself; only for a role that is given."""
        return sql.Identifier(self.columns[role])

    def text(self, role: str, default: str | None = None) -> sql.Composable:
        """The column as text; `default` where it is NULL or not given."""
        otherwise = sql.SQL("NULL::text") if default is None else sql.SQL("{}::text").format(sql.Literal(default))
        if role not in self.columns:
            return otherwise
        return sql.SQL("coalesce({}::text, {})").format(self.column(role), otherwise)

    def label(self, role: str, default: str | None = None) -> sql.Composable:
        """The column as text() gives it, of no more than MAX_LABEL characters."""
        if role not in self.columns:
            return self.text(role, default)
        return sql.SQL("left({}, {})").format(self.text(role, default), sql.Literal(MAX_LABEL))

    def key(self, role: str) -> sql.Composable:
        """The column to group by, before it is made a label; NULL where it is not given."""
        if role not in self.columns:
            return sql.SQL("NULL::text")
        return self.column(role) if self._types[role] in _NUMBERS else sql.SQL("{}::text").format(self.column(role))

    def time(self, role: str, *, null_where: str | int | None = None) -> sql.Composable:
        """The column as timestamptz, which may be infinite; NULL where it is not given, or equals `null_where`."""
        if role not in self.columns:
            return sql.SQL("NULL::timestamptz")
        column = self.column(role)
        if null_where is not None:
            column = sql.SQL("nullif({}, {})").format(column, sql.Literal(str(null_where)))
        if self._types[role] == _NAIVE:
            return sql.SQL("({} AT TIME ZONE {})").format(column, self._zone)
        if self._types[role] == _WITH_ZONE:
            return column
        unit = self._per_second or 1
        return sql.SQL(
            "CASE WHEN {column} >= {last} THEN 'infinity' WHEN {column} < {first} THEN '-infinity'"
            " ELSE to_timestamp({column}::float8 / {unit}) END"
        ).format(
            column=column, first=sql.Literal(_FIRST * unit), last=sql.Literal(_LAST * unit), unit=sql.Literal(unit)
        )

    def after(self, role: str, seconds: float) -> sql.Composable:
        """The condition that a time is after a Unix time, in the column's own type, so that an index serves it."""
        column = self.column(role)
        if self._types[role] == _NAIVE:
            moment = sql.SQL("to_timestamp({})").format(sql.Literal(seconds - _CLOCK_CHANGE))
            return sql.SQL("{} > {} AT TIME ZONE {}").format(column, moment, self._zone)
        if self._types[role] == _WITH_ZONE:
            return sql.SQL("{} > to_timestamp({})").format(column, sql.Literal(seconds))
        return sql.SQL("{} > {}").format(column, sql.Literal(int(seconds * (self._per_second or 1)) - 1))

    def state_is(self, word: str) -> sql.Composable:
        """The condition on one state word, as a literal of no type: text, enum and integer columns take it alike."""
        return sql.SQL("{} = {}").format(self.column("state"), sql.Literal(word))


def seconds_between(start: sql.Composable, end: sql.Composable) -> sql.Composable:
    """float8 seconds from start to end, at least 0; NULL where one is NULL or infinite. Exact to the microsecond."""
    return sql.SQL(
        "CASE WHEN isfinite({start}) AND isfinite({end})"
        " THEN greatest(extract(epoch FROM {end} - {start})::float8, 0) END"
    ).format(start=start, end=end)
