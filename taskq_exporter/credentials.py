"""Where passwords stand in the URLs and DSNs that broker and database clients take, right or wrong."""

from __future__ import annotations

import re
from urllib.parse import unquote, unquote_plus

__all__ = ["masked", "passwords", "without_credentials"]

_KEY = r"[\w.-]*(?:pass(?:word|wd|phrase)?|pwd|secret|token)"
_QUOTED = r"'(?:\\.|[^'\\])*'"


def _pairs(key: str, end: str) -> re.Pattern[str]:
    return re.compile(rf"(^|[\s?&;])(?:{key})\s*=\s*({_QUOTED}|(?:\\.|[^{end}])*)", re.IGNORECASE)


_PAIRS = (_pairs(_KEY, r"\s&#;"), _pairs(_KEY, r"\s&"), _pairs(_KEY, r"\s"))
_URL_CREDENTIALS = _pairs(rf"user(?:name)?|{_KEY}", r"\s&#")
_DSN_CREDENTIALS = _pairs(rf"user(?:name)?|{_KEY}", r"\s")
#: User and password before the host; also those with an unescaped "/", which no "port/" may be taken for.
_USERINFO = re.compile(r"(?<=://)(?:[^/?#]*@|[^/?#:@\[]*:(?!\d*(?:[,/?#]|$))(?:[^?;]*@|.*@))")


def passwords(url: str) -> set[str]:
    """Every text in `url` that may be a password or, where it is not escaped, what a client takes for a part of one.

    Knows user:password@ before each host of a list (split at "," and ";"), with unescaped "/", "?" and "@", password
    parameters of a query, and key=value DSNs. It rather finds too much. Raises nothing.
    """
    found: set[str] = set()
    for part in (url, *re.split("[;,]", url)):
        rest = part.partition("://")[2] or part
        before_query = rest.partition("?")[0]
        for text in (re.split("[/?#]", rest)[0], before_query if "@" in before_query else rest):
            password = text.rpartition("@")[0].partition(":")[2]
            found |= {password, *re.split("[/?#@]", password)}
    for pairs in _PAIRS:
        for value in (match[2] for match in pairs.finditer(url)):
            plain = value[1:-1] if value[:1] == "'" == value[-1:] else value
            found |= {plain, re.sub(r"\\(.)", r"\1", plain)}
    return {form for text in found if text for form in (text, unquote(text), unquote_plus(text))}


def without_credentials(url: str) -> str:
    """`url` for comparison: the same for every user and password, different for every other difference.

    Raises nothing, whatever stands in `url`.
    """
    pairs = _URL_CREDENTIALS if "://" in url else _DSN_CREDENTIALS
    return re.sub(r"[?&\s]+", "&", pairs.sub(r"\1", _USERINFO.sub("", url))).strip("&")


def masked(url: str) -> str:
    """`url` for people: with *** instead of user and password. Raises nothing, whatever stands in `url`."""
    pairs = _URL_CREDENTIALS if "://" in url else _DSN_CREDENTIALS
    return pairs.sub(r"\1***", _USERINFO.sub("***@", url))
