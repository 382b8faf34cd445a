"""Writes the generated pages of docs/ and files of the chart; with --check it only says which lag behind."""

from __future__ import annotations

import sys
from pathlib import Path

from adapter_pages import adapter_page
from chart_files import chart_files
from chart_schema import values_schema
from compat_page import compat_page
from configuration_page import configuration_page
from metrics_page import metrics_page

from taskq_exporter.adapters import Adapters

DOCS = Path(__file__).parent
CHART = DOCS.parent / "helm" / "taskq-exporter"


def pages() -> dict[Path, str]:
    """The text of each page."""
    adapters = Adapters()
    return {
        DOCS / "metrics.md": metrics_page(),
        DOCS / "configuration.md": configuration_page(),
        DOCS / "compat.md": compat_page(),
        **{DOCS / "adapters" / f"{name}.md": adapter_page(adapters.get(name)) for name in adapters.names},
        **{CHART / "files" / name: text for name, text in chart_files().items()},
        CHART / "values.schema.json": values_schema(CHART),
    }


def main() -> int:
    """Write the pages, or check them; returns 1 where one lags behind."""
    check = "--check" in sys.argv[1:]
    stale = {page: text for page, text in pages().items() if not page.exists() or page.read_text("utf-8") != text}
    for page, text in stale.items():
        if check:
            print(f"{page.relative_to(DOCS.parent)} lags behind: run `make docs`")
        else:
            page.parent.mkdir(parents=True, exist_ok=True)
            page.write_text(text, "utf-8")
    return 1 if stale and check else 0


if __name__ == "__main__":
    sys.exit(main())
