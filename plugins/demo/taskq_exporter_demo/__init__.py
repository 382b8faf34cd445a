"""taskq-exporter demo: real queues, real workers, one command."""
