"""The command `taskq-exporter demo`; what it needs is imported when it runs: other commands load this module too."""

from __future__ import annotations

import argparse

HELP = "start real queues, workers and the exporter in a temporary folder, and show what it sees"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's flags."""
    parser.add_argument("--once", action="store_true", help="print one page when tasks of each queue have run, and end")
    parser.add_argument(
        "--web.listen-address",
        dest="listen",
        metavar="HOST:PORT",
        help="where the exporter listens; default :9540, with --once a free port of 127.0.0.1",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the demo until it is interrupted, or once; returns the exit status."""
    from taskq_exporter_demo.demo import run as run_demo

    return run_demo(once=arguments.once, listen=arguments.listen)
