"""Names as users write them, and tables as the catalogs describe them."""

from __future__ import annotations

import psycopg
import pytest
from taskq_exporter_sql import TableName, connect, describe, parse_table_name, read_only

from taskq_exporter.api import Source


@pytest.mark.parametrize(
    ("text", "schema", "name"),
    [
        ("jobs", "public", "jobs"),
        ("App.Jobs", "App", "Jobs"),
        ('"Odd.Schema"."a ""b"""', "Odd.Schema", 'a "b"'),
        ('app."Jobs"', "app", "Jobs"),
    ],
)
def test_names(text: str, schema: str, name: str) -> None:
    parsed = parse_table_name(text)
    assert parsed == TableName(schema, name)
    assert parse_table_name(str(parsed)) == parsed


@pytest.mark.parametrize("text", ["", "a.b.c", "a b", '"a', "a.", ".a", '""', 'a"b'])
def test_no_names(text: str) -> None:
    with pytest.raises(ValueError, match="no table name"):
        parse_table_name(text)


async def test_describe(postgres_dsn: str) -> None:
    with psycopg.connect(postgres_dsn, autocommit=True) as admin:
        admin.execute("CREATE DOMAIN moment AS timestamp; CREATE TABLE t (a int, b moment, gone int)")
        admin.execute("ALTER TABLE t DROP COLUMN gone; CREATE VIEW v AS SELECT a FROM t")
        admin.execute("CREATE ROLE reader LOGIN PASSWORD 'x'; GRANT SELECT (a) ON t TO reader")
    user = psycopg.conninfo.make_conninfo(postgres_dsn, user="reader", password="x")
    source = Source(name="s", adapter="postgres", url=lambda: user)
    table, view, missing = (parse_table_name(name) for name in ("t", "v", "missing"))
    async with connect(source) as client, read_only(client, timeout=5) as transaction:
        found = await describe(transaction, [table, view, missing])
    assert set(found) == {table, view}
    columns = found[table].columns
    assert {n: (c.type, c.readable) for n, c in columns.items()} == {
        "a": ("integer", True),
        "b": ("timestamp without time zone", False),
        "xmin": ("xid", False),
    }
    assert (found[table].has_xmin, found[view].has_xmin, found[table].schema_usable) == (True, False, True)
