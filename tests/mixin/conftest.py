from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

# importlib mode has no sys.path entry for a tests folder: told is loaded once, under its own name
_spec = importlib.util.spec_from_file_location("told", Path(__file__).with_name("told.py"))
assert _spec is not None
assert _spec.loader is not None
_told = importlib.util.module_from_spec(_spec)
sys.modules["told"] = _told
_spec.loader.exec_module(_told)
