"""podman and buildah without a daemon, and the images that the tests build with them."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BASE = "docker.io/library/python:3.13-slim"
TOOLS = ("podman", "buildah", "runc")
CERTIFICATES = Path("/etc/ssl/certs")
#: As a cluster runs it. Without systemd nobody would run the health check.
HARDENED = ("--no-healthcheck", "--read-only", "--cap-drop", "all", "--security-opt", "no-new-privileges")
#: For machines without systemd and without the right to raise limits.
CONTAINERS_CONF = """\
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""


def unavailable(message: str) -> None:
    """Skip the test, or fail it where CI=true."""
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


def need_networks() -> None:
    """Skip the test where containers cannot have a network with names, or fail it where CI=true."""
    helpers = ["/usr/lib/podman/netavark", "/usr/lib/podman/aardvark-dns", "/usr/sbin/iptables"]
    if missing := [Path(helper).name for helper in helpers if not Path(helper).exists()]:
        unavailable(f"no network for containers: not installed: {', '.join(missing)}")


class Engine:
    """podman and buildah, with an environment of their own."""

    def __init__(self, folder: Path) -> None:
        missing = [tool for tool in TOOLS if not shutil.which(tool)]
        if missing:
            unavailable(f"not installed: {', '.join(missing)}")
        self.folder = folder
        (folder / "containers.conf").write_text(CONTAINERS_CONF)
        self.env = {**os.environ, "CONTAINERS_CONF": str(folder / "containers.conf"), "BUILDAH_ISOLATION": "chroot"}

    def run(
        self, *command: str | Path, check: bool = True, seconds: float | None = None
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, check=False, timeout=seconds)
        assert not check or done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done

    def run_once(self, image: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a hardened container without network to its end."""
        return self.run("podman", "run", "--rm", "--network", "none", *HARDENED, image, *arguments, check=False)

    def ensure_base(self, arch: str = "") -> str:
        """Find the base image, pull it, or make a stand-in of Debian packages where no registry can be reached."""
        name = f"localhost/python-{arch}:3.13-slim" if arch else BASE
        if self.run("podman", "image", "exists", name, check=False).returncode == 0:
            return name
        if not arch and self.run("podman", "pull", "--quiet", name, check=False).returncode == 0:
            return name
        if not shutil.which("mmdebstrap"):
            unavailable(f"{BASE} cannot be pulled, and mmdebstrap is not installed")
        tree = self.folder / "base.tar"
        packages = ["--include=python3-venv,python-is-python3,ca-certificates"]
        platform = [f"--arch={arch}"] if arch else []
        if arch:  # unpacked only: emulated, the scripts of the packages take a quarter of an hour
            packages += ["--variant=extract", "--include=?essential"]
        else:  # without what Python compiled, as the real one
            packages += ["--variant=minbase", """--customize-hook=find "$1/usr/lib" -name '*.pyc' -delete"""]
        self.run("mmdebstrap", "--quiet", *packages, *platform, "trixie", tree)
        path = "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"
        self.run("podman", "import", "--quiet", *platform, "--change", path, tree, name)
        tree.unlink()
        return name

    def build(self, folder: Path, tag: str, *options: str) -> str:
        """Build the image of a folder's Dockerfile."""
        command = ["buildah", "bud", "--format", "docker", "--pull-never", "--layers", "--tag", tag]
        if CERTIFICATES.is_dir():  # this machine's authorities, for the proxies that it is behind
            bundle = CERTIFICATES / "ca-certificates.crt"
            command += ["--build-arg", f"SSL_CERT_FILE={bundle}", "--volume", f"{CERTIFICATES}:{CERTIFICATES}:ro"]
        self.run(*command, *options, folder)
        return tag


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
