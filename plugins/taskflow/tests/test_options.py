"""Options: two URLs, neither of which is ever told; what is found in the environment; the rights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydantic import ValidationError
from taskflow_project import TaskFlow
from taskq_exporter_taskflow.adapter import detect, grants
from taskq_exporter_taskflow.options import TaskflowOptions

from taskq_exporter.adapters import Adapters
from taskq_exporter.config.load import load_config
from taskq_exporter.config.sources import ConfigError
from taskq_exporter.log import redact
from taskq_exporter.testing.watch import config_file

SOURCE = {"name": "flow", "adapter": "taskflow", "url": "postgresql://app@db/app"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "redis_url\n  Field required"),
        ({"redis_url": "redis://a", "redis_url_file": "/run/b"}, "either redis_url or redis_url_file"),
        ({"redis_url": " "}, "must not be empty"),
        ({"redis_url": "redis://a", "naive_timezone": "Mars/Olympus"}, "unknown time zone 'Mars/Olympus'"),
        ({"redis_url": "redis://a", "naive_timezone": "../etc/passwd"}, "unknown time zone"),
    ],
)
def test_mistakes_are_said(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TaskflowOptions.model_validate(options)


def test_a_mistake_has_its_place(tmp_path: Path) -> None:
    path = config_file(tmp_path, {**SOURCE, "redis_ulr": "redis://a"})
    with pytest.raises(ConfigError, match=r"unknown key 'redis_ulr'; did you mean 'redis_url'"):
        load_config(path, Adapters())


def test_the_password_of_redis_is_a_secret(tmp_path: Path) -> None:
    secret = "hunter2-of-taskflow"
    path = config_file(tmp_path, {**SOURCE, "redis_url": f"redis://app:{secret}@cache/0"})
    (configured,) = load_config(path, Adapters()).sources
    assert secret not in repr(configured) + str(configured.options) + configured.options.model_dump_json()
    assert redact(f"as someone else's error tells it: {secret}") == "as someone else's error tells it: ***"


def test_a_new_password_keeps_the_checkpoint(tmp_path: Path) -> None:
    """What is counted comes from the database alone."""
    prints = set()
    for password in ("one", "two"):
        path = config_file(tmp_path, {**SOURCE, "redis_url": f"redis://app:{password}@cache/0"})
        (configured,) = load_config(path, Adapters()).sources
        prints.add(configured.fingerprint())
    assert len(prints) == 1


async def test_found_where_all_its_columns_are(flow: TaskFlow, postgres_dsn: str, redis_url: str) -> None:
    parts = psycopg.conninfo.conninfo_to_dict(postgres_dsn)
    url = "postgresql+psycopg2://{user}:{password}@{host}:{port}/{dbname}".format(**{"password": "", **parts})
    env = {"DATABASE_URL": url, "REDIS_URL": redis_url}
    (found,) = await detect(env)
    assert (found.name, found.url) == ("taskflow", url)
    assert TaskflowOptions.model_validate(found.options).redis_url.get_secret_value() == redis_url
    assert redis_url not in repr(found)
    assert not list(await detect({"DATABASE_URL": url}))
    assert not list(await detect({**env, "DATABASE_URL": "sqlite:///taskflow.db"}))
    flow.db.execute("ALTER TABLE tasks RENAME COLUMN cron_expression TO cron")
    assert not list(await detect(env))


def test_grants_name_no_column_with_content(make_source: Any) -> None:
    text = grants(make_source(schema="flow"))
    assert 'GRANT USAGE ON SCHEMA "flow" TO taskq_exporter;' in text
    for column in ("task_args", "task_kwargs", "template_body", "worker_metadata"):
        assert column not in text
    assert "ACL SETUSER taskq_exporter" in text
    assert "hgetall" not in text
