"""What a host source tells, beside what the kernel says; and of a container, by files as cgroup v2 has them."""

from __future__ import annotations

import os
import socket
import sys
import time
from pathlib import Path

import pytest
from taskq_exporter_host import machine
from taskq_exporter_host.adapter import collect, diagnose
from taskq_exporter_host.families import FAMILIES
from taskq_exporter_host.machine import Counted
from taskq_exporter_host.options import HostOptions

from taskq_exporter.adapters import Adapters
from taskq_exporter.api import Reason, Snapshot, Source
from taskq_exporter.config.load import load_config
from taskq_exporter.config.sources import ConfigError

linux = pytest.mark.skipif(sys.platform != "linux", reason="compares with /proc")
HALF_A_CPU = {
    "cpu.stat": "usage_usec 3500000\nuser_usec 2500000\nsystem_usec 1000000\nnr_periods 0\n",
    "cpu.max": "50000 100000\n",
    "memory.current": "300000000\n",
    "memory.max": "500000000\n",
    "memory.stat": "anon 150000000\nfile 120000000\ninactive_file 100000000\n",
}


def source_of(**options: object) -> Source:
    return Source(name="s", adapter="host", url=str, options=HostOptions.model_validate(options))


def collected(**options: object) -> Snapshot:
    return collect(source_of(**options), Counted())


def values(snapshot: Snapshot, family: str) -> dict[tuple[str, ...], float]:
    return {sample.labels: sample.value for sample in snapshot.samples if sample.family == f"taskq_host_{family}"}


def reasons(snapshot: Snapshot) -> dict[str, str]:
    return {capability.family.removeprefix("taskq_host_"): capability.reason for capability in snapshot.capabilities}


def cgroup(directory: Path, **files: str) -> str:
    for name, text in (HALF_A_CPU | {name.replace("_", "."): text for name, text in files.items()}).items():
        (directory / name).write_text(text)
    return str(directory)


@linux
def test_memory_and_disk_are_told_to_the_byte() -> None:
    snapshot = collected()
    (total,) = (line.split()[1] for line in Path("/proc/meminfo").read_text().splitlines() if "MemTotal:" in line)
    memory = values(snapshot, "memory_bytes")
    assert memory.keys() == {("used",), ("available",)}
    assert sum(memory.values()) == int(total) * 1024
    disk = values(snapshot, "disk_bytes")
    root = os.statvfs("/")
    assert sum(n for (mount, _), n in disk.items() if mount == "/") == root.f_blocks * root.f_frsize
    assert {state for _, state in disk} == {"used", "free", "reserved"}
    assert not snapshot.problems
    assert (snapshot.server, snapshot.server_version) == ("linux", os.uname().release)


@linux
def test_only_wanted_mounts_and_devices_are_told() -> None:
    assert not values(collected(mounts={"exclude": ["/*"]}), "disk_bytes")
    snapshot = collected(devices={"include": ["lo*"], "exclude": []})
    assert {device for device, _ in values(snapshot, "network_bytes_total")} == {"lo"}
    assert ("lo", "sent") not in values(collected(), "network_bytes_total")


@linux
def test_totals_rise_with_what_is_done() -> None:
    client, source = Counted(), source_of(devices={"include": ["lo"], "exclude": []})
    before = collect(source, client)
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as sender,
        server.accept()[0] as receiver,
    ):
        sender.sendall(b"x" * 100_000)
        received = 0
        while received < 100_000:
            received += len(receiver.recv(65536))
    until = time.process_time() + 0.2
    while time.process_time() < until:
        pass
    after = collect(source, client)
    for direction in ("received", "sent"):
        key = ("lo", direction)
        assert values(after, "network_bytes_total")[key] - values(before, "network_bytes_total")[key] >= 100_000
    old, new = values(before, "cpu_seconds_total"), values(after, "cpu_seconds_total")
    assert new["user",] - old["user",] > 0.05  # the kernel counts in ticks
    assert all(new[mode] >= old[mode] for mode in old)
    assert ("guest",) not in new


def test_a_total_that_goes_back_a_little_stays() -> None:
    counted = Counted()
    assert [counted.total("iowait", n) for n in (10.0, 9.5, 10.2)] == [10.0, 10.0, 10.2]
    assert counted.total("iowait", 2.0) == 2.0  # counted anew


def test_a_container_with_limits(tmp_path: Path) -> None:
    snapshot = collected(cgroup=cgroup(tmp_path))
    assert values(snapshot, "container_cpu_seconds_total") == {("user",): 2.5, ("system",): 1.0}
    assert values(snapshot, "container_cpu_limit") == {(): 0.5}
    assert values(snapshot, "container_memory_bytes") == {("used",): 200e6, ("cache",): 100e6}
    assert values(snapshot, "container_memory_limit_bytes") == {(): 500e6}
    assert {*reasons(snapshot).values()} == {"none"}


def test_a_container_without_limits(tmp_path: Path) -> None:
    snapshot = collected(cgroup=cgroup(tmp_path, cpu_max="max 100000\n", memory_max="max\n"))
    assert not values(snapshot, "container_cpu_limit")
    assert not values(snapshot, "container_memory_limit_bytes")
    assert {*reasons(snapshot).values()} == {"none"}  # it could


def test_outside_a_container(tmp_path: Path) -> None:
    snapshot = collected(cgroup=str(tmp_path))
    assert not snapshot.problems
    told = {sample.family for sample in snapshot.samples}
    assert [family.name for family in FAMILIES if family.name not in told] == [
        "taskq_host_container_cpu_seconds_total",
        "taskq_host_container_cpu_limit",
        "taskq_host_container_memory_bytes",
        "taskq_host_container_memory_limit_bytes",
    ]
    assert [reason for name, reason in reasons(snapshot).items() if name.startswith("container")] == ["backend"] * 4


def test_a_part_that_cannot_be_read_is_a_problem_of_its_own(tmp_path: Path) -> None:
    snapshot = collected(cgroup=cgroup(tmp_path, memory_stat="in another form\n"))
    assert [(p.part, p.reason) for p in snapshot.problems] == [("container", Reason.UNSUPPORTED)]
    assert values(snapshot, "memory_bytes")


def test_names_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "MAX_NAMES", 0)
    snapshot = collected(devices={"include": ["lo"], "exclude": []})
    assert [(p.part, p.reason) for p in snapshot.problems] == [("disk", Reason.COST), ("network", Reason.COST)]
    assert not values(snapshot, "disk_bytes")


async def test_check_says_whose_numbers_they_are(tmp_path: Path) -> None:
    assert [finding.level for finding in await diagnose(source_of(cgroup=str(tmp_path)))] == ["ok"]
    [_, note] = await diagnose(source_of(cgroup=cgroup(tmp_path)))
    assert "the machine's" in note.text


def test_it_has_no_url(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("sources:\n  - {name: a, adapter: host}\n")
    [configured] = load_config(path, Adapters()).sources
    assert configured.config.url is None
    path.write_text("sources:\n  - {name: a, adapter: host, url: 'http://localhost'}\n")
    with pytest.raises(ConfigError, match=r":2:30: url: adapter host takes none: remove it"):
        load_config(path, Adapters())
