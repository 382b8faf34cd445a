"""The exporter's own metrics: process, garbage collector, build, adapters, configuration, checkpoints."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from taskq_exporter import __version__
from taskq_exporter.adapters import Adapter
from taskq_exporter.config.sources import TeamFile
from taskq_exporter.schema import SCHEMA_VERSION

__all__ = ["SelfMetrics"]


class SelfMetrics:
    """A prometheus_client collector; its attributes are set by the server."""

    def __init__(self) -> None:
        registry = CollectorRegistry(auto_describe=False)
        self._standard = (ProcessCollector(registry=registry), GCCollector(registry=registry))
        self.process = True  # whether process_* and python_* are told
        self.adapters: Sequence[Adapter] = ()
        self.config_loaded_at: float | None = None
        self.config_ok = True
        self.sources_files: dict[str, bool] = {}
        self.checkpoint_ok: bool | None = None  # None: no state.dir

    def config_loaded(self, files: Iterable[TeamFile] = ()) -> None:
        """Say that a configuration was loaded now, and which files of sources_dir are good."""
        self.config_loaded_at, self.config_ok = time.time(), True
        self.sources_files = {file.path.name: not file.error for file in files}

    def collect(self) -> Iterator[Metric]:
        """All of them."""
        build = GaugeMetricFamily(
            "taskq_exporter_build_info", "The exporter's version and that of its schema.", labels=("version", "schema")
        )
        build.add_metric((__version__, str(SCHEMA_VERSION)), 1)
        yield build
        adapters = GaugeMetricFamily(
            "taskq_exporter_adapter_info", "The adapters in use.", labels=("adapter", "distribution", "version")
        )
        for adapter in self.adapters:
            adapters.add_metric((adapter.name, adapter.distribution, adapter.version), 1)
        yield adapters
        if self.config_loaded_at is not None:
            yield GaugeMetricFamily(
                "taskq_exporter_config_last_reload_successful",
                "1 if the configuration was last loaded without an error.",
                value=int(self.config_ok),
            )
            yield GaugeMetricFamily(
                "taskq_exporter_config_last_reload_success_timestamp_seconds",
                "When the configuration was last loaded.",
                value=self.config_loaded_at,
            )
        if self.sources_files:
            files = GaugeMetricFamily(
                "taskq_exporter_sources_file_successful",
                "1 if the file of sources_dir was good when it was last read; while 0, the sources that it had go on.",
                labels=("file",),
            )
            for name, good in self.sources_files.items():
                files.add_metric((name,), int(good))
            yield files
        if self.checkpoint_ok is not None:
            yield GaugeMetricFamily(
                "taskq_exporter_checkpoint_last_write_successful",
                "1 if every checkpoint could be written; while 0, counters stand still.",
                value=int(self.checkpoint_ok),
            )
        for collector in self._standard if self.process else ():
            yield from collector.collect()
