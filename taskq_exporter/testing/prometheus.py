"""A real Prometheus and a real exporter process, for tests from end to end."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from .child import Child, clean_environment
from .page import Page
from .processes import free_port, new_directory

__all__ = ["ExporterProcess", "Prometheus"]


class ExporterProcess(Child):
    """`taskq-exporter --config.file=…` on a free port of loopback; `start` after `stop` or `kill` keeps the port."""

    def __init__(self, config: Path | None, *flags: str, environment: Mapping[str, str] | None = None) -> None:
        """Start it, with further flags, and wait until it listens. Without a file its sources are the environment's."""
        self.address = f"127.0.0.1:{free_port()}"
        super().__init__(
            [
                *(sys.executable, "-m", "taskq_exporter"),
                *([f"--config.file={config}"] if config else []),
                f"--web.listen-address={self.address}",
                *flags,
            ],
            directory=new_directory("exporter", None),
            ready=lambda: _listens(self.address),
            environment={**clean_environment(), **(environment or {})},
        )

    def page(self) -> Page:
        """What a person sees at /metrics."""
        text = _get(f"http://{self.address}/metrics")
        assert text is not None, f"/metrics does not answer:\n{self.log}"
        return Page(text)


class Prometheus(Child):
    """A Prometheus that scrapes once a second. Its first sample comes after about five seconds."""

    def __init__(self, scrape_configs: list[dict[str, Any]], *rules: dict[str, Any]) -> None:
        """Start it, with the content of rule files. Skips the test where there is none, and fails it there in CI."""
        binary = shutil.which("prometheus")
        if binary is None:
            message = "prometheus is not installed (Debian: apt install prometheus)"
            if os.environ.get("CI") == "true":
                pytest.fail(message)
            pytest.skip(message)
        directory = new_directory("prometheus", None)
        for i, content in enumerate(rules):
            (directory / f"rules-{i}.yml").write_text(yaml.safe_dump(content))
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": ["rules-*.yml"],
            "scrape_configs": scrape_configs,
        }
        (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
        self.url = f"http://127.0.0.1:{free_port()}"
        super().__init__(
            [
                binary,
                f"--config.file={directory}/prometheus.yml",
                f"--storage.tsdb.path={directory}/data",
                f"--web.listen-address={self.url.removeprefix('http://')}",
            ],
            directory=directory,
            ready=lambda: _get(f"{self.url}/-/ready") is not None,
        )

    def query(self, promql: str, at: float | None = None) -> dict[frozenset[tuple[str, str]], float]:
        """The values of an instant query by labels (without the name), at a Unix time or now."""
        return {labels: value for labels, (_, value) in self._vector(promql, at).items()}

    def value(self, promql: str, at: float | None = None) -> float | None:
        """The one value of an instant query; None where it is empty."""
        found = self.query(promql, at)
        assert len(found) <= 1, f"several series for {promql}: {list(found)}"
        return next(iter(found.values()), None)

    def samples(self, selector: str, seconds: int = 3600) -> list[tuple[float, float]]:
        """The stored samples (time, value) of the one series that a selector names."""
        result = self._api("query", {"query": f"{selector}[{seconds}s]"})["result"]
        assert len(result) <= 1, f"several series for {selector}"
        return [(float(t), float(v)) for t, v in result[0]["values"]] if result else []

    def targets(self) -> list[dict[str, Any]]:
        """The active targets, with `health` and `lastError`."""
        found: list[dict[str, Any]] = self._api("targets", {"state": "active"})["activeTargets"]
        return found

    def until(self, condition: Callable[[], object], what: str, seconds: float = 30.0) -> None:
        """Wait until a condition holds. Fails where it does not within `seconds`."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}; targets: {self.targets()}"
            time.sleep(0.1)

    def _vector(self, promql: str, at: float | None) -> dict[frozenset[tuple[str, str]], tuple[float, float]]:
        parameters = {"query": promql} | ({"time": f"{at:.3f}"} if at is not None else {})
        return {
            frozenset((k, v) for k, v in found["metric"].items() if k != "__name__"): (
                float(found["value"][0]),
                float(found["value"][1]),
            )
            for found in self._api("query", parameters)["result"]
        }

    def _api(self, path: str, parameters: Mapping[str, str]) -> Any:
        text = _get(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}")
        assert text is not None, f"prometheus refuses {path} {parameters}"
        return json.loads(text)["data"]


def _listens(address: str) -> bool:
    """Whether somebody does; who it is, and over TLS or not, is not asked."""
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


def _get(url: str) -> str | None:
    """The body, or None where nobody listens or the answer is an error."""
    try:
        with urllib.request.urlopen(url, timeout=10) as response:  # noqa: S310 - loopback
            return str(response.read().decode())
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return None
