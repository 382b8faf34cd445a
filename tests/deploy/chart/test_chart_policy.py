"""What a policy scanner says of the chart with its defaults."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from taskq_exporter.testing.environments import python_with

pytestmark = [pytest.mark.full, pytest.mark.timeout(600)]

#: Each is the user's to decide: limits of CPU and memory, a digest, and to pull always.
DECIDED = {"CKV_K8S_11", "CKV_K8S_13", "CKV_K8S_15", "CKV_K8S_43"}


def test_nothing_else_is_left_open(helm4: Any, sets: dict[str, Any], tmp_path: Path) -> None:
    python = python_with(Path(__file__).with_name("requirements-checkov.txt"))
    manifests = tmp_path / "manifests.yaml"
    values = {**sets["sources"], "tests": {"enabled": False}}  # whose pod ends at once, and has no probes
    manifests.write_text(yaml.safe_dump_all(helm4.render(values)))
    command = [str(python), "-W", "ignore", "-m", "checkov.main", "-f", str(manifests)]
    flags = ["--framework", "kubernetes", "--skip-download", "-o", "json"]
    env = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run([*command, *flags], env=env, capture_output=True, text=True, timeout=500, check=False)
    result = json.loads(done.stdout)
    assert result["summary"]["passed"] > 50
    assert {check["check_id"] for check in result["results"]["failed_checks"]} == DECIDED
