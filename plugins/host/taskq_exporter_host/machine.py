"""The machine as the kernel tells it. Verified with psutil 7.2 on Linux; its other systems tell most of it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import psutil

from taskq_exporter.api import AdapterError, Reason, Sample
from taskq_exporter_host.families import CPU, CPUS, DISK, LOAD, MEMORY, NETWORK, SWAP
from taskq_exporter_host.options import Names

__all__ = ["MAX_NAMES", "Counted", "cpu", "disks", "load", "memory", "network", "swap"]

#: Mounts, and devices, that are told.
MAX_NAMES = 50
#: Seconds by which a CPU's time may go back, as idle and iowait do on Linux; by more: it was counted anew.
_JITTER = 3.0
#: Linux counts these in user and nice, too.
_TWICE = {"guest", "guest_nice"}


class Counted:
    """Totals of CPU time as they were told last: they never go back a little, which would look like a reset."""

    def __init__(self) -> None:
        self._told: dict[str, float] = {}

    def total(self, name: str, now: float) -> float:
        """The total to tell."""
        before = self._told.get(name, 0.0)
        told = before if now < before <= now + _JITTER else now
        self._told[name] = told
        return told


def cpu(counted: Counted) -> Iterator[Sample]:
    """CPU time by mode, and how many CPUs there are."""
    for mode, seconds in psutil.cpu_times()._asdict().items():
        if mode not in _TWICE:
            yield Sample(CPU, (mode,), counted.total(mode, seconds))
    if cpus := psutil.cpu_count():
        yield Sample(CPUS, (), cpus)


def load() -> Iterator[Sample]:
    """The load averages."""
    for window, average in zip(("1m", "5m", "15m"), psutil.getloadavg(), strict=True):
        yield Sample(LOAD, (window,), average)


def memory() -> Iterator[Sample]:
    """Memory that is used, and that is available."""
    told = psutil.virtual_memory()
    yield Sample(MEMORY, ("used",), told.total - told.available)
    yield Sample(MEMORY, ("available",), told.available)


def swap() -> Iterator[Sample]:
    """Swap space; 0 where there is none."""
    told = psutil.swap_memory()
    yield Sample(SWAP, ("used",), told.used)
    yield Sample(SWAP, ("free",), told.free)


def disks(wanted: Names) -> Iterator[Sample]:
    """What is mounted from a disk, each disk once; and the root, of whatever kind, which in a container has none.

    Raises:
        AdapterError: cost, permission; after the samples of the rest.
    """
    mounts: dict[str, str] = {}
    for disk in sorted(psutil.disk_partitions(all=False), key=lambda disk: len(disk.mountpoint)):
        if os.path.isdir(disk.mountpoint):  # containers have single files mounted
            mounts.setdefault(disk.device, disk.mountpoint)
    names = sorted(name for name in {"/", *mounts.values()} if wanted.wants(name))
    refused = None
    for mount in names[:MAX_NAMES]:
        try:
            told = psutil.disk_usage(mount)
        except OSError:
            refused = mount
            continue
        yield Sample(DISK, (mount, "used"), told.used)
        yield Sample(DISK, (mount, "free"), told.free)
        yield Sample(DISK, (mount, "reserved"), max(told.total - told.used - told.free, 0))
    if refused:
        raise AdapterError(Reason.PERMISSION, f"{refused} cannot be looked at: exclude it in `mounts`")
    _bounded(names, "mounts")


def network(wanted: Names) -> Iterator[Sample]:
    """Bytes by device. Raises AdapterError: cost, after the samples of the first ones."""
    # nowrap would remember for all sources, and hide a device that begins anew
    devices = psutil.net_io_counters(pernic=True, nowrap=False)
    names = sorted(name for name in devices if wanted.wants(name))
    for name in names[:MAX_NAMES]:
        yield Sample(NETWORK, (name, "received"), devices[name].bytes_recv)
        yield Sample(NETWORK, (name, "sent"), devices[name].bytes_sent)
    _bounded(names, "devices")


def _bounded(names: list[str], option: str) -> None:
    if len(names) > MAX_NAMES:
        text = f"{len(names)} {option}, of which {MAX_NAMES} are told: name those to watch in `{option}`"
        raise AdapterError(Reason.COST, text)
