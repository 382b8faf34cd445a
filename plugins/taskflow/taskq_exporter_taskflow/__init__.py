"""taskq-exporter adapter for TaskFlow: its tables in PostgreSQL and its keys in Redis, as one source."""
