"""taskq-exporter adapter for django-tasks-redis."""
