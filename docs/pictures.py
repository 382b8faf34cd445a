"""Draws the dashboards as pictures in docs/img, from a real Prometheus that scrapes the demo: `make pictures`.

It draws the JSON that Grafana loads, but is no Grafana: it is there to see each panel with data.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from board_page import Series, board_page

from taskq_exporter.mixin.dashboards import DASHBOARDS
from taskq_exporter.mixin.rules import Site, alert_rules, recording_rules
from taskq_exporter.mixin.thresholds import Thresholds
from taskq_exporter.testing.browser import open_browser
from taskq_exporter.testing.child import Child
from taskq_exporter.testing.processes import free_port, new_directory
from taskq_exporter.testing.prometheus import Prometheus

IMAGES = Path(__file__).parent / "img"
POINTS = 180


def main() -> int:
    """Draw each dashboard; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=15.0, help="how long the pictures' time is, default 15")
    parser.add_argument(
        "--prometheus", metavar="URL", help="draw what is there; default: the demo, watched for so long"
    )
    arguments = parser.parse_args()
    with ExitStack() as stack:
        url = arguments.prometheus or _watch_demo(stack, arguments.minutes)
        asyncio.run(_draw(partial(_ask, url, 60 * arguments.minutes)))
    if pngquant := shutil.which("pngquant"):  # a third of the size; Debian: apt install pngquant
        pictures = [str(picture) for picture in IMAGES.glob("dashboard-*.png")]
        subprocess.run([pngquant, "--force", "--ext=.png", "--speed=1", "128", *pictures], check=True)  # noqa: S603
    return 0


def _watch_demo(stack: ExitStack, minutes: float) -> str:
    """Start the demo and a Prometheus with our rules, and let them run for a while; the URL of Prometheus."""
    address = f"127.0.0.1:{free_port()}"
    stack.enter_context(
        Child(
            [sys.executable, "-m", "taskq_exporter", "demo", f"--web.listen-address={address}"],
            directory=new_directory("demo", None),
            ready=lambda: True,
        )
    )
    targets = [{"targets": [address], "labels": {"namespace": "prod"}}]
    rules = recording_rules(), alert_rules(Thresholds(), Site())
    prometheus = stack.enter_context(Prometheus([{"job_name": "taskq", "static_configs": targets}], *rules))
    print(f"the demo runs for {minutes:g} minutes", flush=True)
    time.sleep(60 * minutes)
    return prometheus.url


def _ask(url: str, seconds: float, expression: str, instant: bool) -> Sequence[Series]:
    """What Prometheus answers to a query of a dashboard, with every variable at All."""
    now = time.time()
    expression = expression.replace("$__rate_interval", "1m").replace("$__range", f"{math.ceil(seconds)}s")
    query = re.sub(r"\$[a-z]+", ".*", expression)
    span = {"time": now} if instant else {"start": now - seconds, "end": now, "step": math.ceil(seconds / POINTS)}
    path = "query" if instant else "query_range"
    with urllib.request.urlopen(f"{url}/api/v1/{path}?{urllib.parse.urlencode({'query': query, **span})}") as said:  # noqa: S310
        result = json.load(said)["data"]["result"]
    found = []
    for series in result:
        numbers = [(float(t), float(v)) for t, v in ([series["value"]] if instant else series["values"])]
        points = [(t, v) for t, v in numbers if math.isfinite(v)]
        if points:
            labels = {name: value for name, value in series["metric"].items() if name != "__name__"}
            found.append(Series(labels, points))
    return found


async def _draw(ask: partial[Sequence[Series]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with open_browser() as tab:
            for board in DASHBOARDS:
                page, width, height = board_page(board.json(), ask)
                file = Path(folder) / "board.html"
                file.write_text(page, "utf-8")
                await tab.open(f"file://{file}", width=width, height=height)
                picture = IMAGES / f"dashboard-{board.uid.removeprefix('taskq-')}.png"
                await tab.picture(picture)


if __name__ == "__main__":
    sys.exit(main())
