"""A running exporter asked over HTTP: for the commands that take --url."""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
from typing import Any

import aiohttp

from taskq_exporter.text import printable
from taskq_exporter.urls import http_url

__all__ = ["PASSWORD", "USERNAME", "FetchError", "add_url_argument", "fetch_json"]

#: Variables with the credentials, which must not stand among the arguments, where every process sees them.
USERNAME, PASSWORD = "TASKQ_URL_USERNAME", "TASKQ_URL_PASSWORD"
#: Characters of an answer that is no JSON, for the message.
SHOWN = 200


class FetchError(Exception):
    """The exporter did not give what was asked for; `str()` says what to do."""


def add_url_argument(parser: argparse.ArgumentParser) -> None:
    """Define --url."""
    parser.add_argument(
        "--url",
        metavar="URL",
        help=f"read a running exporter, e.g. http://localhost:9540; user and password by {USERNAME} and {PASSWORD}"
        " or ~/.netrc, a CA of your own by SSL_CERT_FILE",
    )


async def fetch_json(url: str, *, timeout: float = 30.0) -> Any:
    """What is at a URL of a running exporter, decoded. Raises FetchError; `timeout` in seconds."""
    parts = http_url(url)
    if parts is None:
        raise FetchError("--url: write it as http://HOST:9540 or https://HOST:9540")
    if "@" in parts.netloc:
        raise FetchError(f"--url: no user and password in the URL; set {USERNAME} and {PASSWORD}, or use ~/.netrc")
    headers = {"Accept": "application/json", **_authorization()}
    where = f"{parts.scheme}://{parts.netloc}"
    try:
        async with (
            # trust_env: proxies and ~/.netrc, which may not be there beside a header
            aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=timeout), trust_env="Authorization" not in headers
            ) as session,
            session.get(url, headers=headers) as response,
        ):
            text = await response.text(errors="replace")
            return _decode(url, response.status, text)
    except TimeoutError:
        raise FetchError(f"{where} does not answer within {timeout:g} s") from None
    except aiohttp.ClientConnectorCertificateError as error:
        raise FetchError(f"{where}: its certificate is not trusted ({error}); name its CA in SSL_CERT_FILE") from None
    except (aiohttp.ClientError, OSError) as error:
        raise FetchError(f"{where} cannot be read: {error or type(error).__name__}; is the exporter there?") from None
    finally:
        await asyncio.sleep(0)  # for the connection to close


def _decode(url: str, status: int, text: str) -> Any:
    line = printable(" ".join(text[:SHOWN].split()))
    if status == 401:
        raise FetchError(f"{url}: not authorized; set {USERNAME} and {PASSWORD}, or use ~/.netrc")
    if status == 404:
        raise FetchError(f"{url}: not found; is a taskq-exporter at that address, and as new as this one?")
    if status != 200:
        raise FetchError(f"{url}: HTTP status {status}" + (f": {line}" if line else ""))
    try:
        return json.loads(text)
    except ValueError:
        raise FetchError(f"{url}: no JSON; is a taskq-exporter there? It says: {line}") from None


def _authorization() -> dict[str, str]:
    if not (user := os.environ.get(USERNAME)):
        return {}
    credentials = f"{user}:{os.environ.get(PASSWORD, '')}".encode()
    return {"Authorization": f"Basic {base64.b64encode(credentials).decode()}"}
