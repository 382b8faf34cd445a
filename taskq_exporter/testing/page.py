"""A page of metrics as a test reads it, and what any scraper may expect of one."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import Counter
from dataclasses import dataclass

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

__all__ = ["Page", "check_openmetrics", "check_text", "parse_series"]

Series = tuple[str, frozenset[tuple[str, str]]]


@dataclass(frozen=True)
class Page:
    """A page in the text format."""

    text: str

    def series(self) -> dict[Series, float]:
        """Every series with its value. Raises AssertionError where one stands there twice."""
        samples = [
            ((s.name, frozenset(s.labels.items())), s.value) for f in parse_text(self.text) for s in list(f.samples)
        ]
        twice = [series for series, n in Counter(series for series, _ in samples).items() if n > 1]
        assert not twice, f"duplicate series: {twice}"
        return dict(samples)

    def values(self, name: str, **labels: str) -> dict[frozenset[tuple[str, str]], float]:
        """The series of that name that have at least these labels."""
        wanted = set(labels.items())
        return {found: value for (n, found), value in self.series().items() if n == name and wanted <= found}

    def value(self, name: str, **labels: str) -> float | None:
        """The one series that has at least these labels; None where there is none. Raises where there are several."""
        found = self.values(name, **labels)
        assert len(found) <= 1, f"several series {name} {labels}: {list(found)}"
        return next(iter(found.values()), None)

    def total(self, name: str, **labels: str) -> float:
        """The sum of the series that have at least these labels."""
        return sum(self.values(name, **labels).values())

    def by(self, name: str, *keys: str, **labels: str) -> dict[tuple[str, ...], float]:
        """Those series summed by some labels, as PromQL's `sum by`."""
        sums: dict[tuple[str, ...], float] = {}
        for found, value in self.values(name, **labels).items():
            key = tuple(dict(found).get(k, "") for k in keys)
            sums[key] = sums.get(key, 0) + value
        return sums


def parse_series(text: str) -> Series:
    """Name and labels of a series written as on a page: `taskq_tasks{queue="emails"}`."""
    (family,) = parse_text(f"{text} 0\n")
    (sample,) = family.samples
    return sample.name, frozenset(sample.labels.items())


def check_text(text: str) -> None:
    """Fail where a series stands there twice or promtool refuses a page (CI=true requires promtool)."""
    assert Page(text).series()
    promtool = shutil.which("promtool")
    if promtool is None:
        assert os.environ.get("CI") != "true", "promtool is not installed (Debian: apt install prometheus)"
        return
    said = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert said.returncode == 0, f"promtool check metrics: {said.stdout}{said.stderr}"


def check_openmetrics(text: str) -> None:
    """Fail where the OpenMetrics parser refuses a page."""
    assert list(parse_openmetrics(text))  # type: ignore[no-untyped-call]
