"""taskq-exporter adapter for the machine that it runs on."""
