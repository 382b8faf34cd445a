"""Logs: logfmt or JSON on stderr, third parties' too, and never a credential."""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
from types import TracebackType
from typing import Any
from urllib.parse import quote

import structlog

from taskq_exporter.credentials import passwords
from taskq_exporter.text import printable

__all__ = ["configure", "keep_secret", "redact"]

_lock = threading.Lock()
_secrets: set[str] = set()
_pattern: re.Pattern[str] | None = None  # of _secrets; made when it is first needed
_KEY_ORDER = ["time", "level", "msg"]


def keep_secret(url: str, *, bare: bool = False) -> None:
    """Keep the passwords in a URL or DSN out of all that is logged from now on, however they are escaped there.

    With `bare`, `url` may also be a secret itself.
    """
    global _pattern
    found = passwords(url) | ({url} if bare and "://" not in url else set())
    forms = {form for password in found for form in (password, quote(password, safe=""))}
    for _ in range(3):  # as deep as JSON of an error that shows another one's repr()
        forms |= {form for text in forms for form in _escaped(text)}
    new = {text for text in forms if len(text) > 2}  # replacing a letter would spoil every line and hide nothing
    with _lock:
        if not new <= _secrets:
            _secrets.update(new)
            _pattern = None


def _escaped(text: str) -> set[str]:
    """`text` as it stands in JSON, logfmt and Python's repr()."""
    return {
        text,
        json.dumps(text)[1:-1],
        json.dumps(text, ensure_ascii=False)[1:-1],
        repr(text)[1:-1],
        repr(text.encode("utf-8", "backslashreplace"))[2:-1],
        *(text.replace(character, "\\" + character) for character in "\\\"'"),
    }


def redact(text: str) -> str:
    """`text` without any known credential."""
    global _pattern
    with _lock:
        if _pattern is None:
            # a secret may be a part of another one; without any, nothing matches
            known = sorted(_secrets, key=len, reverse=True)
            _pattern = re.compile("|".join(map(re.escape, known)) or "(?!)")
        pattern = _pattern
    return pattern.sub("***", text)


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
        else structlog.processors.LogfmtRenderer(key_order=_KEY_ORDER, drop_missing=True, bool_as_flag=False)
    )

    def redacted(logger: Any, method: str, event: Any) -> str:
        # others chose the texts in it: none of them ends a line, or is obeyed by the terminal that shows it
        return printable(redact(str(render(logger, method, event))))

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
    # a traceback for each line that a port scanner sends; bugs of our handlers are told by web.request_log
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL if number > logging.DEBUG else logging.NOTSET)
    logging.captureWarnings(True)
    sys.excepthook = _crashed
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


def _crashed(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """In place of a bare traceback, which could hold a password."""
    structlog.get_logger("taskq_exporter").critical("ended by a bug", exc_info=(kind, error, traceback))
