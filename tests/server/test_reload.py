"""Reloading a running exporter, and shares of sources, on a real Redis."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml

from taskq_exporter.testing.prometheus import ExporterProcess

WRONG = "sources: [{name: shop, adapter: celery, url: 'redis://h', nonsense: 1}]"


class Setup:
    """A configuration file that changes, and the exporter that runs with it."""

    def __init__(self, directory: Path, redis_url: str) -> None:
        self.path = directory / "config.yaml"
        self.folder = directory / "sources.d"
        self.folder.mkdir()
        self._redis_url = redis_url

    def source(self, name: str, **options: Any) -> dict[str, Any]:
        return {"name": name, "adapter": "celery", "url": self._redis_url, "inspect": False, **options}

    def write(self, *names: str, **top: Any) -> None:
        self.path.write_text(yaml.safe_dump({**top, "sources": [self.source(name) for name in names]}))

    def team(self, file: str, *names: str) -> None:
        (self.folder / file).write_text(yaml.safe_dump({"sources": [self.source(name) for name in names]}))

    def started(self, *flags: str) -> ExporterProcess:
        return ExporterProcess(self.path, *(flags or ("--web.enable-lifecycle",)))


@pytest.fixture
def setup(tmp_path: Path, redis_url: str) -> Setup:
    return Setup(tmp_path, redis_url)


def ask(exporter: ExporterProcess, path: str, method: str = "GET") -> tuple[int, str]:
    request = urllib.request.Request(f"http://{exporter.address}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def reload(exporter: ExporterProcess, method: str = "POST") -> tuple[int, str]:
    return ask(exporter, "/-/reload", method)


def names(exporter: ExporterProcess) -> list[str]:
    return sorted(dict(labels)["source"] for labels in exporter.page().values("taskq_source_up"))


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def successful(exporter: ExporterProcess) -> float | None:
    return exporter.page().value("taskq_exporter_config_last_reload_successful")


def test_a_reload_swaps_the_sources_and_a_bad_file_changes_nothing(setup: Setup) -> None:
    setup.write("shop", "web")
    with setup.started() as exporter:
        loaded = exporter.page().value("taskq_exporter_config_last_reload_success_timestamp_seconds")
        setup.write("web", "mails")
        assert reload(exporter) == (200, "reloaded: added: mails; removed: shop\n")
        assert names(exporter) == ["mails", "web"]
        assert reload(exporter, "PUT") == (200, "reloaded: nothing changed\n")
        page = exporter.page()
        assert page.value("taskq_exporter_config_last_reload_success_timestamp_seconds") > loaded
        setup.path.write_text(WRONG)
        status, text = reload(exporter)
        assert status == 500
        assert f"{setup.path}:1:59: unknown key 'nonsense'" in text
        assert names(exporter) == ["mails", "web"]
        assert successful(exporter) == 0
        assert "unknown key 'nonsense'" in exporter.log
        setup.write("shop")
        assert reload(exporter)[0] == 200
        assert (names(exporter), successful(exporter)) == (["shop"], 1)
        until(lambda: ask(exporter, "/-/ready")[0] == 200, "ready")
        assert reload(exporter, "GET")[0] == 405


def test_sighup_reloads_and_requests_need_a_flag(setup: Setup) -> None:
    setup.write("shop")
    with setup.started("--log.level=info") as exporter:
        status, text = reload(exporter)
        assert status == 403
        assert "--web.enable-lifecycle" in text
        setup.write("web")
        os.kill(exporter.pid, signal.SIGHUP)
        until(lambda: names(exporter) == ["web"], "SIGHUP reloads")
        setup.path.write_text(WRONG)
        os.kill(exporter.pid, signal.SIGHUP)
        until(lambda: successful(exporter) == 0, "a bad file shows in the metric")
        assert names(exporter) == ["web"]
        setup.write("web")
        os.kill(exporter.pid, signal.SIGHUP)
        until(lambda: successful(exporter) == 1, "a good file mends it")


def test_without_a_file_there_is_nothing_to_reload(redis_url: str) -> None:
    environment = {"CELERY_BROKER_URL": redis_url}
    with ExporterProcess(None, "--web.enable-lifecycle", environment=environment) as exporter:
        os.kill(exporter.pid, signal.SIGHUP)
        assert reload(exporter) == (200, "nothing to reload: the sources come from the environment\n")
        until(lambda: "nothing to reload" in exporter.log, "the signal is told in the log")
        assert successful(exporter) == 1


def test_the_folder_of_sources_is_read_again_and_a_bad_file_keeps_what_it_had(setup: Setup) -> None:
    setup.team("a.yaml", "a1", "a2")
    setup.team("b.yaml", "b1")
    setup.path.write_text("sources_dir: sources.d\n")
    with setup.started() as exporter:
        assert names(exporter) == ["a1", "a2", "b1"]
        setup.team("a.yaml", "a1", "a3")
        (setup.folder / "b.yaml").write_text(WRONG)
        setup.team("c.yaml", "c1")
        status, text = reload(exporter)
        assert (status, text.splitlines()[0]) == (200, "reloaded: added: a3, c1; removed: a2")
        assert "b.yaml:1:59: unknown key 'nonsense'" in text
        page = exporter.page()
        assert names(exporter) == ["a1", "a3", "b1", "c1"]
        files = {dict(labels)["file"]: v for labels, v in page.values("taskq_exporter_sources_file_successful").items()}
        assert files == {"a.yaml": 1, "b.yaml": 0, "c.yaml": 1}
        assert successful(exporter) == 1
        assert "b.yaml:1:59: unknown key 'nonsense'" in exporter.log
    with setup.started() as exporter:  # now it has no sources from before
        assert names(exporter) == ["a1", "a3", "c1"]


def test_the_folder_for_checkpoints_needs_a_restart(setup: Setup, tmp_path: Path) -> None:
    setup.write("shop", state={"dir": str(tmp_path / "one")})
    with setup.started() as exporter:
        setup.write("shop", "web", state={"dir": str(tmp_path / "two")})
        status, text = reload(exporter)
        assert status == 500
        assert "state.dir cannot change while it runs: restart" in text
        assert (names(exporter), successful(exporter)) == (["shop"], 0)


def test_the_configuration_is_shown_as_it_is_in_effect(setup: Setup, tmp_path: Path) -> None:
    (tmp_path / "url").write_text("redis://127.0.0.1:1/0")
    setup.team("a.yaml", "of-a-team")
    files = {"url": None, "url_file": str(tmp_path / "url"), "management_url_file": "/nowhere"}
    sources = [setup.source("shop", **files), setup.source("web", timeout="1m30s")]
    setup.path.write_text(
        yaml.safe_dump({"defaults": {"timeout": "2s"}, "sources_dir": "sources.d", "sources": sources})
    )
    with setup.started() as exporter:
        shown = yaml.safe_load(ask(exporter, "/config")[1])
        assert [(s["name"], s["timeout"]) for s in shown["sources"]] == [("shop", 2), ("web", 90), ("of-a-team", 2)]
        shop = shown["sources"][0]
        assert (shop["url_file"], shop["management_url_file"]) == (str(tmp_path / "url"), "/nowhere")
        assert "url" not in shop
        adapters = json.loads(ask(exporter, "/adapters")[1])["adapters"]
        assert {"name": "celery", "distribution": "taskq-exporter-celery", "version": "0.1.0", "error": ""} in adapters
        told = subprocess.run([sys.executable, "-m", "taskq_exporter", "adapters"], capture_output=True, text=True)
        assert all(a["name"] in told.stdout and a["distribution"] in told.stdout for a in adapters)


@contextmanager
def scraping(exporter: ExporterProcess, every: float) -> Iterator[list[str]]:
    """Scrape at a steady rate, whether the last page has come or not; the list is of what went wrong."""
    failed: list[str] = []
    threads: list[threading.Thread] = []
    stop = threading.Event()

    def scrape() -> None:
        try:
            status, page = ask(exporter, "/metrics")
            if status != 200 or 'taskq_source_up{source="steady"} 1.0' not in page:
                failed.append(f"{status}: {page[:2000]}")
        except Exception as error:  # noqa: BLE001 - any is what this is about
            failed.append(repr(error))

    def run() -> None:
        while not stop.wait(every):
            threads.append(threading.Thread(target=scrape))
            threads[-1].start()

    runner = threading.Thread(target=run)
    runner.start()
    try:
        yield failed
    finally:
        stop.set()
        runner.join()
        for thread in threads:
            thread.join()
        assert len(threads) > 20


def test_reloads_under_load_fail_no_request_and_leave_unchanged_sources_connected(setup: Setup, redis_url: str) -> None:
    def connections() -> set[str]:
        with redis.Redis.from_url(redis_url) as client:
            mine = client.client_id()
            return {c["id"] for c in client.client_list() if int(c["id"]) != mine}

    setup.write("steady")
    with setup.started() as exporter:
        until(lambda: exporter.page().value("taskq_source_follower_up") == 1, "it follows")
        before = connections()
        assert before
        with scraping(exporter, 0.05) as failed:
            for i in range(8):
                setup.write("steady", f"other-{i}", f"more-{i // 2}", defaults={"annotations": {"round": str(i)}})
                assert reload(exporter)[0] == 200
                time.sleep(0.2)
            setup.path.write_text(WRONG)
            assert reload(exporter)[0] == 500
        assert failed == []
        assert before <= connections()
        setup.write("steady")
        assert reload(exporter)[0] == 200
        until(lambda: connections() == before, "what went is disconnected, what stayed is not")
        assert exporter.page().value("taskq_source_follower_restarts_total", source="steady") == 0


def test_each_share_watches_its_own_sources(setup: Setup) -> None:
    every = [f"source-{i}" for i in range(6)]
    setup.write(*every)
    watched: list[str] = []
    for i in range(3):
        with setup.started(f"--shard={i}/3", "--web.enable-lifecycle") as exporter:
            mine = names(exporter)
            watched += mine
            setup.write(*every[::-1])
            assert reload(exporter) == (200, "reloaded: nothing changed\n")
            assert names(exporter) == mine
    assert sorted(watched) == every


def test_a_share_without_sources_is_ready_and_tells_of_itself(setup: Setup) -> None:
    setup.write("source-0")
    for i in range(2):
        with setup.started(f"--shard={i}/2") as exporter:
            if not names(exporter):
                assert ask(exporter, "/-/ready") == (200, "taskq-exporter is ready.\n")
                assert exporter.page().value("taskq_exporter_config_last_reload_successful") == 1
                return
    pytest.fail("one of two shares has no source")
