"""Presets are data: each file is valid, and what is wrong with one is said."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import ValidationError
from taskq_exporter_postgres.adapter import grants
from taskq_exporter_postgres.options import PostgresOptions
from taskq_exporter_postgres.preset import Preset, Statements, load_preset, preset_names

from taskq_exporter.api import Outcome, Source, State

GOOD: dict[str, Any] = {
    "name": "some",
    "about": "some queue",
    "verified": ["1"],
    "reads": {"jobs": ["queue", "ended", "xmin"]},
    "statements": {
        "jobs": {"ready": "SELECT queue, count(*) AS n FROM {schema}.jobs GROUP BY 1"},
        "finished": {"failed": "SELECT queue FROM {schema}.jobs AS j WHERE ended > {since} AND {window:j}"},
    },
}


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_valid(name: str) -> None:
    preset = load_preset(name)
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name)
    assert all(variant.statements.of("jobs") for variant in preset.resolved)
    options = PostgresOptions.model_validate({"preset": name, "schema": 'Odd "one"'})
    text = grants(Source(name="s", adapter="postgres", url=str, options=options))
    assert '"Odd ""one"""' in text


@pytest.mark.parametrize("name", preset_names())
def test_statements_read_only_what_the_preset_names(name: str) -> None:
    """What a statement names after {schema} is among `reads`, so that `grants` is enough."""
    for variant in load_preset(name).resolved:
        for kind in Statements.model_fields:
            for one in variant.statements.of(kind).values():
                tables = set(re.findall(r"\{schema\}\.\"?(\w+)", one.sql)) | set(
                    re.findall(r"\{table:([^}]+)\}", one.sql)
                )
                assert tables, f"{kind}: reads no table of {{schema}}"
                assert tables <= set(variant.reads), f"{kind} reads {tables}"


def change(**parts: Any) -> dict[str, Any]:
    return {**GOOD, **parts}


def with_statements(**kinds: Any) -> dict[str, Any]:
    return change(statements={**GOOD["statements"], **kinds})


@pytest.mark.parametrize(
    ("preset", "message"),
    [
        (change(reads={"jobs": ["queue"]}), "{window:…} reads xmin"),
        (change(statements={}), "each variant reads tables and counts jobs"),
        (with_statements(jobs={"held": "SELECT 1"}), "'held' is none of ready,"),
        (with_statements(jobs={"ready": "SELECT {nonsense}"}), "unknown placeholder {nonsense}"),
        (
            with_statements(jobs={"ready": {"sql": "SELECT 1 FROM {table:q_*}", "each": "q_*"}}),
            "q_* is not among reads",
        ),
        (with_statements(jobs={"ready": {"sql": "SELECT 1", "idx": "x"}}), "Extra inputs"),
        (with_statements(finished={"failed": "SELECT 1 WHERE {window:j}"}), "so that an index serves it"),
        (with_statements(finished={"failed": "SELECT {window:J}"}), "name the alias"),
        (with_statements(finished={"failed": "SELECT {above:jobs}"}), "name the table and its ascending column"),
        (with_statements(started={"sql": "SELECT 1", "mode": "totals"}), "one cursor has one mode, not totals and xid"),
        (with_statements(started={"sql": "SELECT {since}", "mode": "totals"}), "mode totals knows no"),
        (with_statements(finished={"failed": {"sql": "SELECT 1", "mode": "ids"}}), "mode ids needs {since}"),
    ],
)
def test_what_is_wrong_is_said(preset: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as failed:
        Preset.model_validate(preset)
    assert message in str(failed.value)


def test_variants_add_and_take_away() -> None:
    more = {"reads": {"jobs": ["extra"]}, "statements": {"workers": "SELECT 1", "finished": {"failed": None}}}
    preset = Preset.model_validate(change(variants=[more, {}]))
    newer, older = preset.resolved
    assert newer.reads["jobs"] == ("queue", "ended", "xmin", "extra")
    assert older.reads["jobs"] == ("queue", "ended", "xmin")
    assert (list(newer.statements.of("workers")), newer.statements.mode) == (["workers"], None)
    assert (list(older.statements.of("workers")), older.statements.mode) == ([], "xid")


def test_names_say_what_a_statement_tells() -> None:
    statements = Preset.model_validate(GOOD).statements
    assert statements.of("jobs")["ready"].states == (State.READY,)
    assert statements.of("finished")["failed"].outcomes == (Outcome.FAILED,)
