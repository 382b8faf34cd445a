"""The least that Python can do with Celery's events, as a program of its own: what the exporter is compared with.

    python bench/bare_loop.py HOST PORT DATABASE

It subscribes, decodes each message (hiredis, base64, orjson), remembers the names of tasks by uuid and counts events
by type, task and worker in one dict. No ledger, no times, no workers, no errors, no page. It prints its totals as a
line of JSON when it is subscribed, on SIGUSR1, and when it ends: where the server closes the connection.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from binascii import a2b_base64
from collections import Counter

import hiredis
import orjson

ENDS = frozenset({"task-succeeded", "task-failed", "task-revoked", "task-rejected"})


class BareLoop(asyncio.Protocol):
    """Counts what one subscription brings."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern.encode()
        self._reader = hiredis.Reader()
        self._names: dict[str, str] = {}
        self._counts: dict[tuple[str, str, str], int] = {}
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Subscribe."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for mypy
        transport.write(b"*2\r\n$10\r\nPSUBSCRIBE\r\n$%d\r\n%s\r\n" % (len(self._pattern), self._pattern))

    def connection_lost(self, _exc: Exception | None) -> None:
        """Nothing more will come."""
        self.lost.set_result(None)

    def data_received(self, data: bytes) -> None:
        """Count the events of all messages that are complete."""
        reader, names, counts = self._reader, self._names, self._counts
        reader.feed(data)
        while (reply := reader.gets()) is not False:
            if len(reply) != 4:  # subscribed
                self.report()
                continue
            events = orjson.loads(a2b_base64(orjson.loads(reply[3])["body"]))
            for event in events if type(events) is list else (events,):
                kind = event["type"]
                uuid = event.get("uuid")
                if uuid is None:  # of a worker
                    continue
                if kind == "task-received":
                    name = names[uuid] = event["name"]
                elif kind in ENDS:
                    name = names.pop(uuid, "")
                else:
                    name = names.get(uuid, "")
                key = (kind, name, event["hostname"])
                counts[key] = counts.get(key, 0) + 1

    def report(self) -> None:
        """Print the events by type, and by type without a name."""
        totals: Counter[str] = Counter()
        for (kind, name, _), count in self._counts.items():
            totals[kind] += count
            if not name:
                totals[f"{kind} without a name"] += count
        print(json.dumps(totals), flush=True)


async def main(host: str, port: int, database: int) -> None:
    """Count until the connection ends."""
    loop = asyncio.get_running_loop()
    _, protocol = await loop.create_connection(lambda: BareLoop(f"/{database}.celeryev/*"), host, port)
    loop.add_signal_handler(signal.SIGUSR1, protocol.report)
    await protocol.lost
    protocol.report()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
