"""taskq-exporter adapter for task allocation over Redis pub/sub."""
