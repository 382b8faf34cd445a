"""The adapter contract: a source without a server."""

from __future__ import annotations

import os

import pytest

from taskq_exporter.testing import AdapterConformance, World


class TestConformance(AdapterConformance):
    adapter = "host"

    @pytest.fixture
    def world(self) -> World:
        return World(url="", tasks={}, series={"taskq_host_cpus": os.cpu_count() or 0}, dump=lambda: ())
