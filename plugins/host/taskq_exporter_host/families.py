"""The adapter's own metric families."""

from __future__ import annotations

from typing import Final

from taskq_exporter.api import Family

__all__ = [
    "CONTAINER_CPU",
    "CONTAINER_CPU_LIMIT",
    "CONTAINER_MEMORY",
    "CONTAINER_MEMORY_LIMIT",
    "CPU",
    "CPUS",
    "DISK",
    "FAMILIES",
    "LOAD",
    "MEMORY",
    "NETWORK",
    "SWAP",
]

CPU: Final = "taskq_host_cpu_seconds_total"
CPUS: Final = "taskq_host_cpus"
LOAD: Final = "taskq_host_load_average"
MEMORY: Final = "taskq_host_memory_bytes"
SWAP: Final = "taskq_host_swap_bytes"
DISK: Final = "taskq_host_disk_bytes"
NETWORK: Final = "taskq_host_network_bytes_total"
CONTAINER_CPU: Final = "taskq_host_container_cpu_seconds_total"
CONTAINER_CPU_LIMIT: Final = "taskq_host_container_cpu_limit"
CONTAINER_MEMORY: Final = "taskq_host_container_memory_bytes"
CONTAINER_MEMORY_LIMIT: Final = "taskq_host_container_memory_limit_bytes"


def _family(name: str, help_: str, *labels: str) -> Family:
    return Family(name=name, kind="counter" if name.endswith("_total") else "gauge", help=help_, labels=labels)


FAMILIES: Final = (
    _family(CPU, "Time of all CPUs of the machine by what they did.", "mode"),
    _family(CPUS, "CPUs of the machine."),
    _family(LOAD, "Processes that run or wait to, on average over a window.", "window"),
    _family(MEMORY, "Memory of the machine: used, or available without swapping.", "state"),
    _family(SWAP, "Swap space of the machine: used, free.", "state"),
    _family(DISK, "A file system: used, free for everybody, reserved.", "mount", "state"),
    _family(NETWORK, "Bytes through a network device: received, sent.", "device", "direction"),
    _family(CONTAINER_CPU, "CPU time of the container that the exporter runs in: user, system.", "mode"),
    _family(CONTAINER_CPU_LIMIT, "CPUs that the container may use; absent where no limit is set."),
    _family(CONTAINER_MEMORY, "Memory of the container: used, or cache that can be taken back at once.", "state"),
    _family(CONTAINER_MEMORY_LIMIT, "Memory that the container may use; absent where no limit is set."),
)
