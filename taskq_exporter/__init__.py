"""One Prometheus exporter for every task queue."""

__version__ = "0.1.0"
