"""One run's server with its tables, each a source's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

from psycopg.conninfo import make_conninfo
from taskq_exporter_postgres.grants import grants
from taskq_exporter_postgres.options import PostgresOptions

from bench.postgres.tables import Tables, options
from bench.report import SkippedError
from taskq_exporter.testing.servers import start_postgres

SMALL, LARGE = "jobs_small", "jobs_large"
_PASSWORD = "of the exporter"  # noqa: S105 - of a server that ends with the run
#: Autovacuum would begin in the middle of a measurement: the tables are vacuumed as they are made.
_SERVER = ("-c", "autovacuum=off", "-c", "wal_level=minimal", "-c", "max_wal_senders=0")


@dataclass(frozen=True)
class World:
    """A PostgreSQL with default settings, where all that is measured is a process of this machine.

    Args:
        url: Of the superuser.
        exporter: Of the role that `taskq-exporter grants` makes.
        tables: Changes them.
        quick: Fewer rounds and a tenth of the rows, for a look.
    """

    url: str
    exporter: str
    tables: Tables
    quick: bool

    @property
    def rounds(self) -> int:
        """How often each thing is measured."""
        return 2 if self.quick else 5

    def size(self, rows: int) -> int:
        """So many rows in this run."""
        return rows // 10 if self.quick else rows


@contextmanager
def new_world(quick: bool) -> Iterator[World]:
    """A private server for a run, with a small and a large table, which have the same live jobs."""
    with start_postgres(*_SERVER) as server:
        if server.kind in ("testcontainers", "environment"):
            raise SkippedError("PostgreSQL must run on this machine, for its processes to be measured")
        with closing(Tables(server.url)) as tables:
            exporter = make_conninfo(server.url, user="taskq_exporter", password=_PASSWORD)
            world = World(server.url, exporter, tables, quick)
            for table, finished in ((SMALL, 900_000), (LARGE, 9_900_000)):
                tables.make(table, finished=world.size(finished), ready=world.size(100_000))
                tables.execute(grants(PostgresOptions.model_validate(options(table))))
            tables.execute(f"ALTER ROLE taskq_exporter PASSWORD '{_PASSWORD}'")
            yield world
