"""The hooks of adapter `host`: the machine, or the container, that the exporter runs on. It connects to nothing."""

from __future__ import annotations

import platform
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager

from taskq_exporter.api import (
    AdapterError,
    Capability,
    Family,
    Finding,
    Options,
    Problem,
    Reason,
    Sample,
    Snapshot,
    Source,
    hookimpl,
)
from taskq_exporter_host import machine
from taskq_exporter_host.container import container, in_container
from taskq_exporter_host.families import FAMILIES
from taskq_exporter_host.machine import Counted
from taskq_exporter_host.options import HostOptions

__all__ = ["collect", "connect", "diagnose", "families", "options"]


@hookimpl
def options() -> type[Options]:
    """The adapter's options."""
    return HostOptions


@hookimpl
def families() -> Sequence[Family]:
    """What only this adapter tells."""
    return FAMILIES


@hookimpl
@asynccontextmanager
async def connect() -> AsyncIterator[Counted]:
    """What was told last."""
    yield Counted()


@hookimpl
def collect(source: Source, client: Counted) -> Snapshot:
    """The machine now. In a thread: a file system that hangs costs the source its deadline, and nobody else.

    Raises:
        AdapterError: Where nothing at all can be read.
    """
    own: HostOptions = source.options
    parts: dict[str, Iterator[Sample]] = {
        "cpu": machine.cpu(client),
        "load": machine.load(),
        "memory": machine.memory(),
        "swap": machine.swap(),
        "disk": machine.disks(own.mounts),
        "network": machine.network(own.devices),
        "container": container(own.cgroup),
    }
    samples: list[Sample] = []
    problems: list[Problem] = []
    for part, told in parts.items():
        try:
            samples.extend(told)
        except AdapterError as error:
            problems.append(Problem(reason=error.reason, part=part, message=str(error)))
        except PermissionError as error:
            text = f"{error.filename or 'the kernel'} may not be read by the exporter's user"
            problems.append(Problem(reason=Reason.PERMISSION, part=part, message=text))
        except (OSError, RuntimeError, NotImplementedError, LookupError, ValueError) as error:
            # as psutil fails where the kernel, or a sandbox, does not tell something
            text = f"this system does not tell it ({type(error).__name__})"
            problems.append(Problem(reason=Reason.UNSUPPORTED, part=part, message=text))
    if not samples:
        raise AdapterError(problems[0].reason, problems[0].message)
    return Snapshot(
        server=platform.system().lower(),
        server_version=platform.release(),
        capabilities=_capabilities(samples, contained=in_container(own.cgroup)),
        problems=problems,
        samples=samples,
    )


def _capabilities(samples: Iterable[Sample], *, contained: bool) -> list[Capability]:
    """A limit that is not set is absent though it could be told."""
    told = {sample.family for sample in samples}
    return [
        Capability(
            family=name,
            reason="none" if name in told or (contained and "_limit" in name) else "backend",
        )
        for name in (family.name for family in FAMILIES)
    ]


@hookimpl
async def diagnose(source: Source) -> Iterable[Finding]:
    """Whose numbers they are."""
    found = [Finding(level="ok", text=f"{platform.system()} {platform.release()} tells CPU, memory, disks and network")]
    if in_container(source.options.cgroup):
        text = (
            "the exporter runs in a container: CPU, load, memory and swap are the machine's, network that of the"
            " container or pod, taskq_host_container_* those of the exporter's own container"
        )
        found.append(Finding(level="note", text=text))
    return found
