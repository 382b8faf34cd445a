"""taskq-exporter adapter for Celery."""
