"""Descriptions of tables that cannot be meant, each with a message that says what to do."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from pydantic import ValidationError
from taskq_exporter_postgres.capabilities import able_states
from taskq_exporter_postgres.grants import grants
from taskq_exporter_postgres.options import PostgresOptions

from taskq_exporter.api import State


def columns(**more: Any) -> dict[str, Any]:
    return {"state": "state", **more}


STATES = {"ready": ["queued"]}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "set preset (there are "),
        ({"preset": "procrastinat"}, "did you mean 'procrastinate'?"),
        ({"preset": "procrastinate", "table": {"name": "j", "columns": columns(), "states": STATES}}, "either preset"),
        (
            {"preset": "procrastinate", "workers": {"name": "w", "columns": {"id": "i", "heartbeat": "h"}}},
            "for a table",
        ),
        ({"table": {"name": "j", "columns": columns(), "states": STATES}, "schema": "a"}, "as schema.jobs"),
        ({"sql": {}}, "set preset"),
        ({"sql": {"jobs": "SELECT 1"}}, "name the statement by what it tells"),
        ({"sql": {"jobs": {"waiting": "SELECT 1"}}}, "'waiting' is none of ready,"),
        ({"sql": {"jobs": {"ready": "SELECT 1;"}}}, "without a semicolon"),
        ({"sql": {"jobs": {"ready": "SELECT {shcema}"}}}, "unknown placeholder {shcema}"),
        ({"sql": {"finished": {"failed": "SELECT 1"}}}, "it needs {window:ALIAS}"),
        ({"sql": {"job": {"ready": "SELECT 1"}}}, "Extra inputs"),
        (
            {"preset": "procrastinate", "sql": {"enqueued": {"all": {"sql": "SELECT 1", "mode": "totals"}}}},
            "one cursor has one mode",
        ),
        ({"table": {"name": "a.b.c", "columns": columns(), "states": STATES}}, "no table name"),
        ({"table": {"name": "jobs", "columns": {}, "states": STATES}}, "state\n  Field required"),
        (
            {"table": {"name": "jobs", "columns": columns(kind="kind"), "states": STATES}},
            "unknown column role 'kind'; the roles are state, id, queue, task, priority,",
        ),
        ({"table": {"name": "jobs", "columns": columns(), "states": {}}}, "no states: name at least"),
        ({"table": {"name": "jobs", "columns": columns(), "states": {"queued": "q"}}}, "unknown state 'queued'"),
        ({"table": {"name": "jobs", "columns": columns(), "states": {"ready": []}}}, "no state word"),
        ({"table": {"name": "jobs", "columns": columns(), "states": {"ready": [True]}}}, "put it in quotes"),
        (
            {"table": {"name": "jobs", "columns": columns(), "states": {"ready": ["a"], "running": ["b", "a"]}}},
            "'a' is in both 'ready' and 'running'",
        ),
        (
            {"table": {"name": "jobs", "columns": columns(), "states": {"succeeded": ["done"]}}},
            "states.succeeded needs table.columns.finished_at",
        ),
        (
            {
                "table": {"name": "jobs", "columns": columns(finished_at="f"), "states": {"failed": ["x"]}},
                "finished": {"mode": "ids"},
            },
            "needs table.columns.id",
        ),
        (
            {
                "table": {"name": "jobs", "columns": columns(), "states": STATES},
                "workers": {"name": "public.jobs", "columns": {"id": "w", "heartbeat": "h"}},
            },
            "workers.name is the jobs table",
        ),
        (
            {
                "table": {"name": "jobs", "columns": columns(), "states": STATES},
                "workers": {"name": "w", "columns": {"id": "id"}},
            },
            "heartbeat\n  Field required",
        ),
        ({"table": {"name": "jobs", "columns": columns(), "states": STATES}, "poll_interval": "soon"}, "30s, 1m30s"),
        ({"table": {"name": "jobs", "columns": columns(), "states": STATES}, "poll_interval": 0}, "greater than 0"),
        ({"table": {"name": "jobs", "columns": columns(), "states": STATES, "epoch_unit": "us"}}, "'s' or 'ms'"),
    ],
)
def test_messages(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as failed:
        PostgresOptions.model_validate(options)
    assert message in str(failed.value)


def test_words_and_dates_as_yaml_reads_them() -> None:
    table = {
        "name": "jobs",
        "columns": columns(),
        "states": {"ready": 0, "running": [1, "2"]},
        "immediate_sentinel": datetime.date(9999, 1, 1),
    }
    read = PostgresOptions.model_validate({"table": table}).table
    assert (read.words(State.READY), read.words(State.RUNNING)) == (("0",), ("1", "2"))
    assert read.immediate_sentinel == "9999-01-01"


@pytest.mark.parametrize(
    ("given", "states", "able"),
    [
        ({}, {"ready": "q"}, "ready"),
        ({"scheduled_at": "at"}, {"ready": "q"}, "ready scheduled"),
        ({"scheduled_at": "at", "attempts": "n"}, {"ready": "q"}, "ready scheduled retry"),
        ({"attempts": "n"}, {"ready": "q", "running": "r"}, "ready running"),
        ({}, {"scheduled": "s"}, "scheduled"),
        ({"scheduled_at": "at"}, {"scheduled": "s"}, "ready scheduled"),
        ({}, {"ready": "q", "retry": "t", "blocked": "b", "reserved": "h"}, "ready retry reserved blocked"),
    ],
)
def test_what_words_and_columns_tell(given: dict[str, str], states: dict[str, str], able: str) -> None:
    table = {"name": "jobs", "columns": columns(**given), "states": states}
    assert [s.value for s in able_states(PostgresOptions.model_validate({"table": table}))] == able.split()


def test_of_own_sql_the_grants_name_the_tables() -> None:
    options = PostgresOptions.model_validate(
        {
            "schema": "app",
            "sql": {
                "jobs": {
                    "ready": 'SELECT count(*) AS n FROM {schema}.orders AS o JOIN "Odd one".lines AS l ON true',
                    "running": "WITH q AS (SELECT 1) SELECT count(*) AS n FROM q, pg_catalog.pg_locks",
                },
                "finished": {"failed": "SELECT FROM app.orders AS o WHERE at > {since} AND {window:o}"},
            },
        }
    )
    said = [line for line in grants(options).splitlines() if line.startswith("-- GRANT")]
    assert said == [
        '-- GRANT USAGE ON SCHEMA "Odd one" TO taskq_exporter;',
        '-- GRANT USAGE ON SCHEMA "app" TO taskq_exporter;',
        '-- GRANT SELECT (...) ON "Odd one"."lines" TO taskq_exporter;  -- jobs.ready',
        '-- GRANT SELECT (...) ON "app"."orders" TO taskq_exporter;  -- jobs.ready, finished.failed',
    ]
