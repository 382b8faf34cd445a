"""What the tests of one folder share: importlib mode has no entry in sys.path for it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

__all__ = ["load_beside"]


def load_beside(conftest: str, *names: str) -> None:
    """Load modules that stand beside a conftest (its `__file__`) once, each under its own name. Raises ImportError."""
    for name in names:
        spec = importlib.util.spec_from_file_location(name, Path(conftest).with_name(f"{name}.py"))
        if spec is None or spec.loader is None:
            raise ImportError(f"{name}.py does not stand beside {conftest}")
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
