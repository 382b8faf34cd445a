"""`healthcheck`: whether an exporter answers, for containers: their images hold no curl.

A probe is a process every few seconds: with a URL it is made without the modules of the server, in a tenth of the time.
"""

from __future__ import annotations

import argparse
import http.client
import ssl
import sys
from collections.abc import Sequence
from pathlib import Path

from taskq_exporter.urls import http_url

__all__ = ["HELP", "add_arguments", "of_url", "run"]

HELP = "exit status 0 if an exporter answers at URL, else 1; without URL, the one that this container runs"

#: What process 1 of a container was started with.
COMMAND_LINE = Path("/proc/1/cmdline")
#: The exporter answers; that it wants a password, another certificate or patience first is an answer, too.
ALIVE = {200, 401, 403, 429}
#: How long it may take to answer.
SECONDS = 4.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the flags of `healthcheck`."""
    parser.add_argument("url", nargs="?", metavar="URL", help="e.g. http://taskq-exporter:9540")


def run(arguments: argparse.Namespace) -> int:
    """Ask /-/healthy, and say why where it is not well; returns the exit status."""
    if arguments.url is None:
        address = own_address(COMMAND_LINE)
        problem = _ask("http", *address)
        if problem:  # it may speak TLS: its flags do not say
            problem = _ask("https", *address) and problem
    else:
        status = of_url(arguments.url)
        if status is None:
            from taskq_exporter.commands.common import UsageError

            raise UsageError("healthcheck: write the URL as http://HOST:9540 or https://HOST:9540")
        return status
    return _said(problem)


def of_url(url: str) -> int | None:
    """The exit status for the exporter at a URL, after saying on stderr what is wrong; None where it is no URL."""
    parts = http_url(url)
    if parts is None:
        return None
    return _said(_ask(parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)))


def _said(problem: str) -> int:
    """Say what is wrong; the exit status."""
    if problem:
        print(f"not healthy: {problem}", file=sys.stderr)
    return 1 if problem else 0


def own_address(command_line: Path) -> tuple[str, int]:
    """Where the exporter of a command line listens: by its flags, else by the environment, else the default.

    An init before it does no harm. Raises UsageError for flags that the exporter would not take.
    """
    from taskq_exporter.commands import listening

    words: Sequence[str] = command_line.read_text("utf-8", "replace").split("\0") if command_line.exists() else ()
    start = next((i for i, word in enumerate(words) if Path(word).name == "taskq-exporter"), len(words))
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    listening.add_arguments(parser)
    flags, _ = parser.parse_known_args(words[start + 1 :])
    host, port = listening.addresses(flags)[0]
    return {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port  # noqa: S104 - asked, not bound


def _ask(scheme: str, host: str, port: int) -> str:
    """What is wrong; "" where nothing is. Nothing secret is sent, so the certificate may be anybody's."""
    connection: http.client.HTTPConnection
    if scheme == "https":
        context = ssl._create_unverified_context()  # noqa: S323 - see above
        connection = http.client.HTTPSConnection(host, port, timeout=SECONDS, context=context)
    else:
        connection = http.client.HTTPConnection(host, port, timeout=SECONDS)
    greeted = False
    try:
        connection.connect()
        greeted = scheme == "https"
        connection.request("GET", "/-/healthy")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        if greeted and isinstance(error, ssl.SSLError | ConnectionError):
            return ""  # it has shown its certificate, and hangs up for want of the client's
        return f"{host}:{port} does not answer: {error or type(error).__name__}"
    finally:
        connection.close()
    return "" if status in ALIVE else f"{host}:{port} answers with HTTP status {status}: is it a taskq-exporter?"
