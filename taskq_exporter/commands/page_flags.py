"""The flags that say how pages of metrics are served."""

from __future__ import annotations

import argparse
import math

from taskq_exporter.urls import http_url
from taskq_exporter.web.keys import PageOptions

__all__ = ["add_page_arguments", "page_options"]


def add_page_arguments(parser: argparse.ArgumentParser) -> None:
    """Define them."""
    default = PageOptions()
    parser.add_argument(
        "--web.max-requests",
        dest="max_requests",
        type=_count,
        default=default.max_requests,
        metavar="N",
        help=f"pages of metrics that are made at once, others get a 503; 0: no limit; default {default.max_requests}",
    )
    parser.add_argument(
        "--web.external-url",
        dest="external_url",
        type=_external_url,
        default=default.external_url,
        metavar="URL",
        help="under which Prometheus reaches the exporter, for /sd; default: as the request for /sd says",
    )
    parser.add_argument(
        "--web.disable-exporter-metrics",
        dest="process_metrics",
        action="store_false",
        help="leave out process_* and python_*; taskq_exporter_* stay",
    )
    parser.add_argument(
        "--scrape.timeout-offset",
        dest="timeout_offset",
        type=_seconds,
        default=default.timeout_offset,
        metavar="SECONDS",
        help=f"before Prometheus' scrape timeout a page is sent, with what there is; default {default.timeout_offset}",
    )


def page_options(arguments: argparse.Namespace) -> PageOptions:
    """What the flags say."""
    return PageOptions(arguments.max_requests, arguments.timeout_offset, arguments.external_url)


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of pages; 0: no limit")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds, e.g. 0.5")
    return seconds


def _external_url(text: str) -> str:
    if not text:  # argparse passes the default too
        return text
    parts = http_url(text)
    if parts is None or "@" in parts.netloc or parts.query or parts.fragment:
        raise argparse.ArgumentTypeError("write it as https://HOST or https://HOST:9540/PREFIX, without credentials")
    return text.rstrip("/")
