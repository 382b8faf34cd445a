from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

import taskq_exporter.log

# importlib mode has no sys.path entry for a tests folder: fakes is loaded once, under its own name
_spec = importlib.util.spec_from_file_location("fakes", Path(__file__).with_name("fakes.py"))
assert _spec is not None
assert _spec.loader is not None
_fakes = importlib.util.module_from_spec(_spec)
sys.modules["fakes"] = _fakes
_spec.loader.exec_module(_fakes)


@pytest.fixture(autouse=True)
def _secrets_of_one_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test keeps secret is a word like any other in the next."""
    monkeypatch.setattr(taskq_exporter.log, "_secrets", set())
    monkeypatch.setattr(taskq_exporter.log, "_pattern", None)
