"""Fixtures that every test of the repository may use."""

pytest_plugins = ["taskq_exporter.testing.fixtures"]
