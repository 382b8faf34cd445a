from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.metrics_core import METRIC_TYPES

from taskq_exporter.schema import FAMILIES

ROOT = Path(__file__).parents[2]


def test_the_generated_pages_are_current() -> None:
    check = [sys.executable, str(ROOT / "docs" / "generate.py"), "--check"]
    result = subprocess.run(check, capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda f: f.name)
def test_names_follow_the_rules(family: object) -> None:
    name, kind, labels = family.name, family.kind, family.labels  # type: ignore[attr-defined]
    assert kind in METRIC_TYPES
    assert name.startswith("taskq_")
    assert name.endswith("_total") == (kind == "counter")
    assert not {*labels} & {"job", "instance", "target", "type", "cluster", "service", "source", "le", "quantile"}
    assert "_ms" not in name
