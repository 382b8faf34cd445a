from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

import taskq_exporter.log

# importlib mode has no sys.path entry for a tests folder: each helper is loaded once, under its own name
for _name in ("fakes", "reports"):
    _spec = importlib.util.spec_from_file_location(_name, Path(__file__).with_name(f"{_name}.py"))
    assert _spec is not None
    assert _spec.loader is not None
    sys.modules[_name] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules[_name])


@pytest.fixture(autouse=True)
def _secrets_of_one_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test keeps secret is a word like any other in the next."""
    monkeypatch.setattr(taskq_exporter.log, "_secrets", set())
    monkeypatch.setattr(taskq_exporter.log, "_pattern", None)
