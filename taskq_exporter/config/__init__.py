"""The configuration: YAML files, the environment and secrets, checked, into sources."""
