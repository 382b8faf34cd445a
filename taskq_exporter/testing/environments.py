"""Python environments of tests' own, for libraries whose versions do not fit ours: made once and kept in .cache."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["python_with", "run_side_by_side"]


@functools.cache
def python_with(requirements: Path) -> Path:
    """A Python with what that file locks, with hashes.

    The environment stands in .cache beside the project file above it; processes that want it at once wait for the one
    that makes it. Raises subprocess.CalledProcessError where it cannot be installed.
    """
    root = next(parent for parent in requirements.resolve().parents if (parent / "requirements.lock").exists())
    fingerprint = hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]
    place = root / ".cache" / f"{requirements.stem}-{sys.implementation.cache_tag}-{fingerprint}"
    place.parent.mkdir(exist_ok=True)
    with place.with_suffix(".lock").open("w") as lock:  # processes of one run, and of others
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "complete").exists():
            shutil.rmtree(place, ignore_errors=True)
            pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
            install = ["install", "--no-deps", "--require-hashes", "-r", str(requirements)]
            for command in (
                [sys.executable, "-m", "venv", "--without-pip", str(place)],
                [*pip, "--python", str(place / "bin/python"), *install],
            ):
                subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
            (place / "complete").touch()
    return place / "bin/python"


def run_side_by_side(python: Path, code: str, arguments: Sequence[Sequence[str]], folder: Path) -> None:
    """Run `python -c code` in that folder, once for each list of arguments, all at once, for a minute at most."""
    command = [str(python), "-W", "ignore", "-c", code]
    children = [subprocess.Popen([*command, *of_one], cwd=folder) for of_one in arguments]
    try:
        assert [child.wait(60) for child in children] == [0] * len(children)
    finally:
        for child in children:
            child.kill()
            child.wait()
