"""Logs: logfmt or JSON on stderr, third parties' too, and never a credential."""

from __future__ import annotations

import logging
import sys
from typing import Any
from urllib.parse import unquote, urlsplit

import structlog

__all__ = ["configure", "keep_secret", "redact"]

_secrets: set[str] = set()
_KEY_ORDER = ["time", "level", "msg"]


def keep_secret(url: str) -> None:
    """Keep a URL's password out of all that is logged from now on."""
    try:
        password = urlsplit(url).password
    except ValueError:
        return
    for secret in {password, unquote(password)} if password else ():
        if len(secret) > 2:  # replacing a letter would spoil every line and hide nothing
            _secrets.add(secret)


def redact(text: str) -> str:
    """`text` without any known credential."""
    for secret in _secrets:
        text = text.replace(secret, "***")
    return text


def configure(level: str, form: str) -> None:
    """Log at `level` (debug, info, warn, error) as `form` (logfmt, json)."""
    number = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}[level]
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.format_exc_info,
        structlog.processors.EventRenamer("msg"),
    ]
    render: Any = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.processors.LogfmtRenderer(key_order=_KEY_ORDER, drop_missing=True)
    )

    def redacted(logger: Any, method: str, event: Any) -> str:
        return redact(str(render(logger, method, event)))

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, redacted],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # third parties say little at info that an operator needs
    root.setLevel(max(number, logging.WARNING) if number > logging.DEBUG else logging.INFO)
    logging.getLogger("taskq_exporter").setLevel(number)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
