"""What the exporter tells of its own work: spans and the commands that it sent."""
