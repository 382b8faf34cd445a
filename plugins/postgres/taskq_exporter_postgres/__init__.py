"""taskq-exporter adapter for jobs tables in PostgreSQL."""
