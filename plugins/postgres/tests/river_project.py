"""River's client, in a process of its own: `python river_project.py FUNCTION URL`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import riverqueue
import sqlalchemy
from riverqueue.driver import riversqlalchemy


@dataclass
class Mail:
    kind: str = "mail"

    @staticmethod
    def to_json() -> str:
        return '{"to": "secret of a user"}'


def schema(_: sqlalchemy.Engine) -> None:
    """Print the table as the client's package has it."""
    folder = Path(riversqlalchemy.__file__).parent / "dbsqlc"
    sys.stdout.write((folder / "river_job.sql").read_text("utf-8").partition("-- name:")[0])


def fill(engine: sqlalchemy.Engine) -> None:
    """Insert jobs."""
    options = riverqueue.InsertOpts
    client = riverqueue.Client(riversqlalchemy.Driver(engine))
    for _ in range(40):
        client.insert(Mail(), options(queue="emails", priority=2))
    client.insert(Mail(), options(queue="emails", scheduled_at=datetime.now(UTC) + timedelta(hours=1)))
    client.insert(Mail(), options(queue="due", scheduled_at=datetime.now(UTC) - timedelta(minutes=1)))
    client.insert_many([riverqueue.InsertManyParams(Mail("resize"), options(queue="images"))] * 3)


if __name__ == "__main__":
    name, url = sys.argv[1:]
    {"schema": schema, "fill": fill}[name](
        sqlalchemy.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    )
