"""Basic auth: names and passwords against bcrypt hashes, at the same cost for every wrong one."""

from __future__ import annotations

import asyncio
import base64
import binascii
import os
from collections.abc import Mapping
from functools import partial
from hashlib import blake2b
from hmac import compare_digest

from pydantic import SecretStr

from taskq_exporter.runtime.threads import in_thread

__all__ = ["Logins", "TooManyError", "credentials"]

#: bcrypt knows no more bytes of a password.
MAX_PASSWORD = 72
#: How many may wait for their password to be hashed, one after the other.
MAX_WAITING = 50


class TooManyError(Exception):
    """More passwords to hash than are let wait."""


class Logins:
    """Checks passwords, and remembers the right ones: a hash takes 50 ms and a scraper comes every few seconds."""

    def __init__(self) -> None:
        self._secret = os.urandom(32)
        self._known: dict[str, bytes] = {}  # one for each user, so bounded
        self._one = asyncio.Lock()
        self._waiting = 0

    async def good(self, users: Mapping[str, SecretStr], user: str, password: bytes) -> bool:
        """Whether the password is the user's. Raises TooManyError."""
        hashes = [secret.get_secret_value().encode() for secret in users.values()]
        right = users[user].get_secret_value().encode() if user in users else b""
        seal = blake2b(right + b"\0" + password, key=self._secret).digest()
        if self._remembers(user, seal):
            return True
        if self._waiting >= MAX_WAITING:
            raise TooManyError
        self._waiting += 1
        try:
            async with self._one:
                if self._remembers(user, seal):  # by now
                    return True
                # an unknown name costs as much as the dearest known one
                stored = right or max(hashes, key=lambda text: text[4:6])
                matches = await in_thread(partial(_matches, password[:MAX_PASSWORD], stored))
        finally:
            self._waiting -= 1
        good = bool(matches and right and len(password) <= MAX_PASSWORD)
        if good:
            self._known[user] = seal
        return good

    def _remembers(self, user: str, seal: bytes) -> bool:
        known = self._known.get(user)
        return known is not None and compare_digest(known, seal)


def credentials(header: str | None) -> tuple[str, bytes] | None:
    """Name and password of an Authorization header; None where it has none."""
    scheme, _, encoded = (header or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
        return (user.decode(), password) if colon else None
    except (binascii.Error, ValueError):
        return None


def _matches(password: bytes, stored: bytes) -> bool:
    import bcrypt  # only for who has users

    return bcrypt.checkpw(password, stored)
