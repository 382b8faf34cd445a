"""python -m taskq_exporter, and the command taskq-exporter."""

from __future__ import annotations

import gc
import sys

__all__ = ["main"]


def main() -> int:
    """Run taskq-exporter; returns the exit status."""
    # without the command line, which is nine tenths of the start of a probe
    if len(sys.argv) == 3 and sys.argv[1] == "healthcheck":
        from taskq_exporter.commands import healthcheck

        if (status := healthcheck.of_url(sys.argv[2])) is not None:
            return status
    gc.disable()  # what is imported stays: looking for garbage in it is a seventh of the start
    from taskq_exporter import cli

    gc.freeze()
    gc.enable()
    return cli.main()


if __name__ == "__main__":
    raise SystemExit(main())
