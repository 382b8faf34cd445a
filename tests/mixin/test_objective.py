"""An objective of any time is measured without more configuration: the series of a real page, told to Prometheus."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace

import pytest
from told import promtool, sources

from taskq_exporter.adapters import Adapters
from taskq_exporter.api import Ledger, Snapshot, hookimpl
from taskq_exporter.config.settings import SourceConfig
from taskq_exporter.config.sources import ConfiguredSource
from taskq_exporter.exporter import Exporter
from taskq_exporter.page import render

BURNS = ("TaskqObjectiveBurnsFast", "TaskqObjectiveBurnsSlowly")


async def page_series(start_within: str, waits: dict[float, int]) -> dict[str, str]:
    """What a page says each minute of a queue whose tasks start after so many seconds, so often."""

    @hookimpl
    async def follow(ledger: Ledger) -> None:
        for seconds, n in waits.items():
            for _ in range(n):
                ledger.waited("emails", seconds)
        ledger.following()
        await asyncio.sleep(3600)

    @hookimpl
    async def collect() -> Snapshot:
        return Snapshot()

    adapter = Adapters({"fake": SimpleNamespace(collect=collect, follow=follow)}).get("fake")
    objectives = [{"queue": "emails", "start_within": start_within, "ratio": 0.99}]
    config = SourceConfig.model_validate({"name": "shop", "adapter": "fake", "url": "x://h", "objectives": objectives})
    exporter = Exporter()
    try:
        exporter.add(ConfiguredSource(config, adapter, adapter.options()))
        await exporter.gather()
        await exporter.gather()  # what is new is 0 on the first page
        page = (await render(exporter, await exporter.gather())).decode()
    finally:
        await exporter.close()
    found = {}
    for line in page.splitlines():
        text, _, value = line.rpartition(" ")
        if text.startswith("taskq_task_wait"):
            found[text] = f"0+{value}x90"
        elif text.startswith("taskq_queue_objective"):
            found[text] = f"{value}x90"
    return found


@pytest.mark.parametrize(
    "start_within", ["45s", *(pytest.param(other, marks=pytest.mark.full) for other in ("400ms", "2h"))]
)
async def test_the_objective_burns_only_where_too_many_start_late(start_within: str, tmp_path: Path) -> None:
    seconds = {"45s": 45, "400ms": 0.4, "2h": 7200}[start_within]
    shops = {
        "kept": {seconds * 0.9: 100, seconds * 0.99: 100},
        "half of the budget": {seconds * 0.99: 199, seconds * 1.05: 1},
        "burns": {seconds * 0.99: 160, seconds * 1.05: 40},
    }
    said = sources({name: await page_series(start_within, waits) for name, waits in shops.items()}, 2)
    firing = {
        "expr": 'count by (alertname, source) (ALERTS{alertname=~"TaskqObj.+",alertstate="firing"})',
        "eval_time": "75m",
        "exp_samples": [{"labels": f'{{alertname="{name}",source="burns"}}', "value": 1} for name in BURNS],
    }
    promtool(tmp_path, [{"interval": "1m", "input_series": said, "promql_expr_test": [firing]}])
