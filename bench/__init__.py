"""Benchmarks: `make bench`. Each bar compares two things in one run."""
