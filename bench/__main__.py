"""`make bench`: runs the benchmarks, prints each row with its bar, and fails where one was missed."""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import sys
from typing import Any

from bench.celery.topic import TOPIC as CELERY
from bench.postgres.topic import TOPIC as POSTGRES
from bench.report import Report, Topic

TOPICS: dict[str, Topic[Any]] = {"celery": CELERY, "postgres": POSTGRES}


def main() -> int:
    """Run as the arguments say; returns the exit status."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--only", default="", metavar="TOPIC", help=f"one of: {', '.join(TOPICS)}; default all")
    parser.add_argument("--rows", default="", metavar="NAMES", help="groups of rows, e.g. cpu,loss; default all")
    parser.add_argument("--quick", action="store_true", help="2 rounds instead of 5, and shorter loads")
    parser.add_argument("--allow-skipped", action="store_true", help="succeed where celery-exporter cannot be had")
    arguments = parser.parse_args()
    if arguments.only not in ("", *TOPICS):
        parser.error(f"no such topic; topics: {', '.join(TOPICS)}")
    topics = {name: topic for name, topic in TOPICS.items() if arguments.only in ("", name)}
    chosen = [name for name in arguments.rows.split(",") if name]
    known = [name for topic in topics.values() for name in topic.groups]
    if unknown := set(chosen).difference(known):
        parser.error(f"no such rows: {', '.join(sorted(unknown))}; rows: {', '.join(known)}")
    report = Report()
    print(f"{datetime.date.today()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    for topic_name, topic in topics.items():
        groups = {name: rows for name, rows in topic.groups.items() if name in chosen or not chosen}
        if not groups:
            continue
        with report.group(topic_name), topic.world(arguments.quick) as world:
            for name, rows in groups.items():
                with report.group(f"{topic_name} {name}"):
                    report.take(rows(world))
    print(f"\n{report.table()}")
    return 1 if report.failed(allow_skipped=arguments.allow_skipped) else 0


if __name__ == "__main__":
    sys.exit(main())
