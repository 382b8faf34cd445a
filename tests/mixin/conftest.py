from __future__ import annotations

from taskq_exporter.testing.beside import load_beside

load_beside(__file__, "told")
