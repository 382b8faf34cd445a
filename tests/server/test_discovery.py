"""/sd: each source a target of Prometheus, scraped at /probe."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from aiohttp.test_utils import TestClient, TestServer

from taskq_exporter.adapters import Adapters
from taskq_exporter.api import Snapshot, hookimpl
from taskq_exporter.cli import parser
from taskq_exporter.config.settings import SourceConfig
from taskq_exporter.config.sources import ConfiguredSource
from taskq_exporter.exporter import Exporter
from taskq_exporter.testing.prometheus import ExporterProcess, Prometheus
from taskq_exporter.web.app import make_app
from taskq_exporter.web.keys import PageOptions

NAMES = ("shop", "web/default", 'größe & "co"')


@hookimpl
async def collect() -> Snapshot:
    return Snapshot()


async def groups(names: tuple[str, ...] = NAMES, external_url: str = "", **headers: str) -> list[dict[str, Any]]:
    exporter = Exporter()
    adapter = Adapters({"fake": SimpleNamespace(collect=collect)}).get("fake")
    for name in names:
        config = {"name": name, "adapter": "fake", "url": "x://user:hunter2@h", "annotations": {"team": "growth"}}
        exporter.add(ConfiguredSource(SourceConfig.model_validate(config), adapter, adapter.options()))
    app = make_app(exporter, pages=PageOptions(external_url=external_url))
    async with TestClient(TestServer(app)) as client:
        answer = await client.get("/sd", headers=headers)
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
        assert "hunter2" not in await answer.text()
        found: list[dict[str, Any]] = await answer.json()
    await exporter.close()
    return found


async def test_a_target_for_each_source_at_the_address_that_was_asked() -> None:
    found = await groups(Host="taskq.monitoring:9540")
    assert [group["targets"] for group in found] == [["taskq.monitoring:9540"]] * 3
    assert [group["labels"]["__param_target"] for group in found] == list(NAMES)
    assert found[1]["labels"] == {
        "__metrics_path__": "/probe",
        "__param_target": "web/default",
        "instance": "taskq.monitoring:9540/web/default",
        "__meta_taskq_source": "web/default",
        "__meta_taskq_adapter": "fake",
        "__meta_taskq_annotation_team": "growth",
    }


async def test_the_external_url_says_where_the_exporter_is() -> None:
    [group] = await groups(("shop",), "https://metrics.example/taskq")
    assert group["targets"] == ["metrics.example"]
    assert group["labels"]["__scheme__"] == "https"
    assert group["labels"]["__metrics_path__"] == "/taskq/probe"


async def test_without_sources_there_are_no_targets() -> None:
    assert await groups(()) == []


@pytest.mark.parametrize("url", ["metrics.example", "ftp://x", "https://user:hunter2@x", "https://x/?a=b", "https://"])
def test_a_wrong_external_url_is_refused(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["--web.external-url", url])
    err = capsys.readouterr().err
    assert "https://HOST" in err
    assert "hunter2" not in err


@pytest.mark.parametrize(
    ("flag", "value"),
    [("--web.max-requests", "-1"), ("--web.max-requests", "many"), ("--scrape.timeout-offset", "nan")],
)
def test_wrong_flags_of_the_page_are_refused(flag: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args([flag, value])
    assert f"argument {flag}: '{value}' is not a number of" in capsys.readouterr().err


def test_a_real_prometheus_finds_each_source_and_scrapes_it(redis_url: str, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    urls = dict.fromkeys(NAMES, redis_url) | {"gone": "redis://127.0.0.1:1/0"}
    sources = [
        {"name": name, "adapter": "celery", "url": url, "annotations": {"team": "a"}} for name, url in urls.items()
    ]
    config.write_text(yaml.safe_dump({"sources": sources}))
    with ExporterProcess(config) as exporter:
        discovery = {"url": f"http://{exporter.address}/sd", "refresh_interval": "1s"}
        team = {"source_labels": ["__meta_taskq_annotation_team"], "target_label": "team"}
        job = {"job_name": "taskq", "http_sd_configs": [discovery], "relabel_configs": [team]}
        with Prometheus([job]) as prometheus:
            prometheus.until(lambda: prometheus.value('count(up{job="taskq"})') == 4, "a target for each source")
            for name, url in urls.items():
                instance = f"{exporter.address}/{name}".replace('"', '\\"')
                selector = f'{{instance="{instance}",team="a"}}'
                prometheus.until(lambda s=selector: prometheus.value(f"up{s}") == 1, f"{selector} is scraped")
                seen = prometheus.query(f"taskq_source_up{selector}")
                assert {dict(labels)["source"]: value for labels, value in seen.items()} == {name: url == redis_url}
            assert {target["lastError"] for target in prometheus.targets()} == {""}
