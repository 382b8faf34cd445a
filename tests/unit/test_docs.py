from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from prometheus_client.metrics_core import METRIC_TYPES

from taskq_exporter.schema import FAMILIES

ROOT = Path(__file__).parents[2]


def test_the_page_of_metrics_is_current() -> None:
    page = runpy.run_path(str(ROOT / "docs" / "generate.py"))["page"]()
    assert (ROOT / "docs" / "metrics.md").read_text("utf-8") == page, "run `make docs`"


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda f: f.name)
def test_names_follow_the_rules(family: object) -> None:
    name, kind, labels = family.name, family.kind, family.labels  # type: ignore[attr-defined]
    assert kind in METRIC_TYPES
    assert name.startswith("taskq_")
    assert name.endswith("_total") == (kind == "counter")
    assert not {*labels} & {"job", "instance", "target", "type", "cluster", "service", "source", "le", "quantile"}
    assert "_ms" not in name
