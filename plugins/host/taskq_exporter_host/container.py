"""The container that the exporter runs in, by cgroup v2: Documentation/admin-guide/cgroup-v2.rst of Linux.

The tests' files are written after it. Not yet seen on a kernel that limits memory by cgroup v2.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from taskq_exporter.api import Sample
from taskq_exporter_host.families import CONTAINER_CPU, CONTAINER_CPU_LIMIT, CONTAINER_MEMORY, CONTAINER_MEMORY_LIMIT

__all__ = ["container", "in_container"]


def in_container(cgroup: Path) -> bool:
    """Whether the cgroup has numbers of its own: that of a whole machine has not."""
    return (cgroup / "memory.current").is_file()


def container(cgroup: Path) -> Iterator[Sample]:
    """CPU time and memory with their limits; nothing outside a container. Raises OSError, ValueError."""
    if not in_container(cgroup):
        return
    cpu, memory = _fields(cgroup / "cpu.stat"), _fields(cgroup / "memory.stat")
    for mode in ("user", "system"):
        yield Sample(CONTAINER_CPU, (mode,), cpu[f"{mode}_usec"] / 1e6)
    quota, _, period = _text(cgroup / "cpu.max").partition(" ")
    if quota != "max":
        yield Sample(CONTAINER_CPU_LIMIT, (), int(quota) / int(period))
    cache = memory["inactive_file"]  # as Kubernetes counts, too
    yield Sample(CONTAINER_MEMORY, ("used",), max(int(_text(cgroup / "memory.current")) - cache, 0))
    yield Sample(CONTAINER_MEMORY, ("cache",), cache)
    limit = _text(cgroup / "memory.max")
    if limit != "max":
        yield Sample(CONTAINER_MEMORY_LIMIT, (), int(limit))


def _fields(path: Path) -> dict[str, int]:
    return {name: int(value) for name, value in map(str.split, _text(path).splitlines())}


def _text(path: Path) -> str:
    return path.read_text("ascii").strip()
