"""A third party's adapter, built from the code blocks of docs/adapters.md, in a folder of its own."""

from __future__ import annotations

import os
import re
import site
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def files_of(markdown: str) -> dict[str, str]:
    """The code blocks that have a title, by title."""
    return {m[1]: m[2] for m in re.finditer(r'^```\w+ title="([^"]+)"\n(.*?)^```$', markdown, re.M | re.S)}


def run(*command: str | Path, cwd: Path) -> str:
    # the folder knows nothing of this repository's settings
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "PYTHON", "COV"))}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True, timeout=170
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("third-party") / "taskq-exporter-worklist"
    folder.mkdir()
    for name, text in files_of((ROOT / "docs/adapters.md").read_text("utf-8")).items():
        (folder / name).write_text(text, "utf-8")
    return folder


@pytest.fixture(scope="module")
def bin_directory(project: Path) -> Path:
    """An environment that has what ours has, and the third party's adapter installed by pip."""
    home = project.parent / "venv"
    venv.create(home, with_pip=False, symlinks=True)
    python = home / "bin/python"
    own = run(python, "-c", "import site; print(site.getsitepackages()[0])", cwd=project).strip()
    # addsitedir, because editable installs are .pth files
    lines = "".join(f"import site; site.addsitedir({path!r})\n" for path in site.getsitepackages())
    (Path(own) / "ours.pth").write_text(lines)
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--disable-pip-version-check", "--no-index"]
    run(*pip, "--no-deps", "--no-build-isolation", project, cwd=project)
    return home / "bin"


def test_the_blocks_are_the_files_that_the_page_names(project: Path) -> None:
    assert sorted(p.name for p in project.iterdir()) == [
        "pyproject.toml",
        "taskq_exporter_worklist.py",
        "test_worklist.py",
    ]


def test_the_adapter_is_small(project: Path) -> None:
    """A simple adapter fits in about 60 lines, its test in about 20."""
    assert len((project / "taskq_exporter_worklist.py").read_text().splitlines()) <= 65
    assert len((project / "test_worklist.py").read_text().splitlines()) <= 25


def test_it_is_listed(bin_directory: Path, project: Path) -> None:
    listed = run(bin_directory / "python", "-m", "taskq_exporter", "adapters", cwd=project)
    assert re.search(r"^worklist +taskq-exporter-worklist 1\.0\.0$", listed, re.M), listed


def test_it_passes_the_kit(bin_directory: Path, project: Path) -> None:
    said = run(bin_directory / "python", "-m", "pytest", "-q", "-ra", "-p", "no:cacheprovider", cwd=project)
    passed = re.search(r"(\d+) passed", said)
    assert passed is not None
    assert int(passed[1]) >= 12, said


def test_its_types_and_style(project: Path) -> None:
    """The example is what an author would be proud of."""
    tool = (sys.executable, "-m")
    run(*tool, "ruff", "check", "--isolated", "--line-length", "120", "--select", "E,F,I,UP,B,RUF", ".", cwd=project)
    run(*tool, "ruff", "format", "--isolated", "--line-length", "120", "--check", ".", cwd=project)
    run(*tool, "mypy", "--strict", "--cache-dir", project.parent, "taskq_exporter_worklist.py", cwd=project)
