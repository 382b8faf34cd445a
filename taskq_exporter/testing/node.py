"""Node packages of tests' own, for queues whose libraries are JavaScript: made once and kept in .cache."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from taskq_exporter.testing.environments import python_with

__all__ = ["run_node"]

_LOCKED = ("requirements-node.txt", "package.json", "package-lock.json")


def run_node(folder: Path, script: str, *arguments: str) -> str:
    """Run a script of a folder, which imports packages and no other file; returns what it prints.

    The folder locks Node.js itself, as a wheel, in requirements-node.txt, and packages in package-lock.json. Raises
    subprocess.CalledProcessError where they cannot be installed, or the script fails.
    """
    node, place = _installed(folder)
    command = [str(node), "--input-type=module", "-", *arguments]
    text = (folder / script).read_text("utf-8")
    return subprocess.run(
        command, input=text, cwd=place, check=True, timeout=60, stdout=subprocess.PIPE, text=True
    ).stdout


@functools.cache
def _installed(folder: Path) -> tuple[Path, Path]:
    """Node.js, and the folder whose packages its scripts import."""
    bin_directory = python_with(folder / _LOCKED[0]).parent
    files = [folder / name for name in _LOCKED]
    fingerprint = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]
    place = bin_directory.parents[1] / f"node-{fingerprint}"
    with place.with_suffix(".lock").open("w") as lock:  # processes of one run, and of others
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "complete").exists():
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            for file in files:
                shutil.copy(file, place)
            npm = [str(bin_directory / "npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
            env = {**os.environ, "PATH": f"{bin_directory}{os.pathsep}{os.environ['PATH']}"}
            subprocess.run(npm, cwd=place, env=env, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            (place / "complete").touch()
    return bin_directory / "node", place
