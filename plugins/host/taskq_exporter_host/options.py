"""The adapter's own options."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from taskq_exporter.api import Options

__all__ = ["HostOptions", "Names"]

#: Devices that carry the same bytes as another one, or none that leave the machine.
_VIRTUAL = ("lo", "veth*", "docker*", "br-*", "virbr*", "vnet*", "cni*", "cali*", "flannel*", "dummy*", "ifb*")


class Names(BaseModel):
    """Names by shell globs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    include: tuple[str, ...] = ("*",)  # shell globs
    exclude: tuple[str, ...] = ()  # shell globs, which win

    def wants(self, name: str) -> bool:
        """True where a name is included and not excluded."""
        return any(fnmatchcase(name, g) for g in self.include) and not any(fnmatchcase(name, g) for g in self.exclude)


class Devices(Names):
    """Names of network devices."""

    exclude: tuple[str, ...] = _VIRTUAL  # shell globs, which win


class HostOptions(Options):
    """Options of a host source, which has no URL."""

    needs_url: ClassVar[bool] = False

    #: Directories on which file systems are mounted; those that are not on a disk are left out anyway.
    mounts: Names = Names()
    #: Network devices; by default not those that carry the same bytes as another one.
    devices: Devices = Devices()
    #: Where cgroup v2 shows the container that the exporter runs in.
    cgroup: Path = Path("/sys/fs/cgroup")
