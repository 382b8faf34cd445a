"""The distributions: what is in them, and that an empty environment with nothing else runs the exporter."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
from celery import Celery

ROOT = Path(__file__).parents[2]
PACKAGES = ["taskq_exporter", *sorted(path.parent.name for path in ROOT.glob("plugins/*/taskq_exporter_*/__init__.py"))]


def run(*command: str | Path, cwd: Path) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "PYTHON", "CELERY", "REDIS"))}
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, timeout=170)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist") / "dist"
    stamp = Path(os.path.relpath(sys.prefix, ROOT)) / ".installed"
    # -o: the environment that runs this test must not be installed anew under it
    run("make", "-o", str(stamp), "dist", f"VENV={stamp.parent}", f"DIST={folder}", cwd=ROOT)
    return folder


def test_one_wheel_and_one_sdist_of_each(dist: Path) -> None:
    expected = sorted(f"{p}-0.1.0{end}" for p in PACKAGES for end in ("-py3-none-any.whl", ".tar.gz"))
    assert sorted(file.name for file in dist.iterdir()) == expected


@pytest.mark.parametrize("package", PACKAGES)
def test_a_distribution_holds_its_package_and_nothing_else(dist: Path, package: str) -> None:
    (wheel,) = dist.glob(f"{package}-0.1.0-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {package, f"{package}-0.1.0.dist-info"}
    assert f"{package}/py.typed" in names
    with tarfile.open(dist / f"{package}-0.1.0.tar.gz") as sdist:
        top = {name.split("/")[1] for name in sdist.getnames() if "/" in name}
    assert top - {"LICENSE", "README.md", ".gitignore"} == {package, "pyproject.toml", "PKG-INFO"}


@pytest.fixture(scope="module")
def installed(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment with `taskq-exporter[all]` alone, and the locked versions of what it needs."""
    home = tmp_path_factory.mktemp("empty")
    lock = (ROOT / "requirements.lock").read_text("utf-8")
    locked = re.findall(r"^([A-Za-z0-9_.-]+==[^ \\\n]+(?: ; [^\\\n]+)?)", lock, re.M)
    assert len(locked) > 20
    constraints = home / "constraints.txt"
    constraints.write_text("\n".join(locked))
    venv.create(home / "venv", with_pip=False, symlinks=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", home / "venv/bin/python"]
    reachable = subprocess.run(
        [*pip, "download", "--no-deps", "--dest", home / "probe", "-c", constraints, "pluggy"],
        capture_output=True,
        timeout=100,
    )
    if reachable.returncode and os.environ.get("CI") != "true":
        pytest.skip("no package index within reach, and an empty environment needs one")
    (core,) = dist.glob("taskq_exporter-0.1.0-*.whl")
    run(*pip, "install", "-q", "--only-binary=:all:", "--find-links", dist, "-c", constraints, f"{core}[all]", cwd=home)
    return home / "venv/bin"


def test_version(installed: Path, tmp_path: Path) -> None:
    assert run(installed / "taskq-exporter", "--version", cwd=tmp_path) == "taskq-exporter 0.1.0\n"


def test_every_adapter_loads(installed: Path, tmp_path: Path) -> None:
    listed = run(installed / "taskq-exporter", "adapters", cwd=tmp_path)
    names = [line.split()[0] for line in listed.splitlines()]
    assert names == ["celery", "django_tasks_redis", "host", "postgres", "redis_pubsub", "taskflow"], listed


def test_once_against_a_real_broker(installed: Path, tmp_path: Path, redis_url: str) -> None:
    with Celery(broker=redis_url) as app:
        for _ in range(3):
            app.send_task("send_mail", queue="emails")
    config = tmp_path / "config.yaml"
    config.write_text(f"sources: [{{name: shop, adapter: celery, url: '{redis_url}'}}]\n")
    page = run(installed / "taskq-exporter", "once", "--config.file", config, cwd=tmp_path)
    assert 'taskq_source_up{source="shop"} 1.0\n' in page
    assert 'taskq_tasks{queue="emails",source="shop",state="ready"} 3.0\n' in page
