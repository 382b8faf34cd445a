"""Toolkit for taskq-exporter adapters whose queues are in Redis."""
