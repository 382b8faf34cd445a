"""Several brokers of which one is in use: `redis://a;redis://b`."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from taskq_exporter_redis import connect

from taskq_exporter.api import AdapterError, Reason, Source
from taskq_exporter_celery.on_redis.urls import redis_urls


class Alternatives:
    """Which one it is, as kombu 5.7.0 decides: the first; after a failure the next, until that fails."""

    def __init__(self) -> None:
        self._current = 0

    async def choose(self, source: Source) -> str:
        """The URL of the first one that answers, beginning with the last that did.

        A single one is not asked.

        Raises:
            AdapterError: unsupported, where one is no Redis; why the last one did not answer.
        """
        urls = redis_urls(source.url())
        if len(urls) == 1:
            return urls[0]
        problem = AdapterError(Reason.CONNECT, "the URL names no broker")
        for i in range(self._current, self._current + len(urls)):
            self._current = i % len(urls)
            url = urls[self._current]
            # One that hangs must leave time for the next.
            one = replace(source, url=partial(str, url), timeout=source.timeout / (len(urls) + 1))
            try:
                async with connect(one) as client:
                    await client.command("PING")
            except AdapterError as error:
                problem = error
            else:
                return url
        raise problem
