"""Redis behind Sentinels: a new connection goes to the server that is the master then. Verified with redis-py 8.1."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import (
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)
from redis.backoff import NoBackoff

from taskq_exporter.api import AdapterError, Options, Reason

SCHEME = "sentinel"
PORT = 26379


class SentinelKwargs(BaseModel):
    """How to talk to the Sentinels themselves, in redis-py's words; the URL says it of the master."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: The Sentinels' own user.
    username: str | None = None
    #: Its password.
    password: SecretStr | None = None
    #: Whether they speak TLS.
    ssl: bool = False
    #: File of the CA.
    ssl_ca_certs: str | None = None
    #: none, optional or required.
    ssl_cert_reqs: str | None = None
    #: File of the client's certificate.
    ssl_certfile: str | None = None
    #: File of its key.
    ssl_keyfile: str | None = None
    #: Whether the name in their certificate is checked.
    ssl_check_hostname: bool | None = None

    def for_redis(self) -> dict[str, Any]:
        """Arguments of redis-py's client."""
        told: dict[str, Any] = self.model_dump(exclude_none=True, exclude={"password"})
        if self.password is not None:
            told["password"] = self.password.get_secret_value()
        return told


class SentinelOptions(Options):
    """Options of sources that may stand behind Sentinels: an adapter's own options inherit them."""

    #: What the Sentinels call the master.
    master_name: str = ""
    #: How many other Sentinels one must see to be believed.
    min_other_sentinels: Annotated[int, Field(ge=0)] = 0
    #: How to talk to the Sentinels themselves, in redis-py's words; the URL says it of the master.
    sentinel_kwargs: SentinelKwargs = SentinelKwargs()


def is_sentinel(url: str) -> bool:
    """True for `sentinel://host:port;sentinel://host:port/database`."""
    return url.strip().lower().startswith(f"{SCHEME}://")


def parse_sentinel(url: str) -> tuple[str, list[tuple[str, int]], str]:
    """What a Sentinel URL says.

    Returns:
        The first part in redis-py's words, which has credentials, database and TLS options of the master, as kombu
        5.7.0 takes them; the Sentinels' addresses; the query's `master_name`, or "".

    Raises:
        ValueError: Where it is none. The text may hold credentials.
    """
    parts = [urlsplit(part if "://" in part else f"{SCHEME}://{part}") for part in url.strip().split(";") if part]
    nodes = [(part.hostname or "127.0.0.1", part.port or PORT) for part in parts]
    query = dict(parse_qsl(parts[0].query))
    name = query.pop("master_name", "")
    scheme = "rediss" if any(key.startswith("ssl_") for key in query) else "redis"
    return parts[0]._replace(scheme=scheme, query=urlencode(query)).geturl(), nodes, name


class MasterPool(SentinelConnectionPool):
    """Connections to the master; asks the Sentinels before each new one."""

    def __init__(
        self, nodes: list[tuple[str, int]], options: SentinelOptions, *, name: str, timeout: float, **master: Any
    ) -> None:
        """Connects to nobody yet.

        Args:
            nodes: Addresses of the Sentinels.
            options: Of the source.
            name: What they call the master, where the options do not say.
            timeout: Seconds to reach the master; each Sentinel has its share of it.
            master: Arguments of the connections to the master, as redis-py's parse_url returns them.

        Raises:
            AdapterError: connect, where there is no name of the master.
        """
        name = options.master_name or name
        if not name:
            raise AdapterError(Reason.CONNECT, "a Sentinel URL needs the option master_name: what they call the master")
        share = timeout / (len(nodes) + 1)  # one that hangs must leave time for the next
        for theirs in ("host", "port"):
            master.pop(theirs, None)
        tls = master.pop("connection_class", None) is not None
        manager = Sentinel(  # type: ignore[no-untyped-call]
            nodes,
            min_other_sentinels=options.min_other_sentinels,
            sentinel_kwargs={
                **options.sentinel_kwargs.for_redis(),
                "socket_timeout": share,
                "socket_connect_timeout": share,
                "retry": Retry(NoBackoff(), 0),
            },
        )
        connection_class = SentinelManagedSSLConnection if tls else SentinelManagedConnection
        super().__init__(name, manager, connection_class=connection_class, **master)  # type: ignore[no-untyped-call]

    async def disconnect(self, inuse_connections: bool = True) -> None:
        """Close the connections, those to the Sentinels too."""
        await super().disconnect(inuse_connections)
        for node in self.sentinel_manager.sentinels:
            await node.connection_pool.disconnect(inuse_connections)
