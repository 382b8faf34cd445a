"""What a Redis, PostgreSQL or RabbitMQ server holds, and users with exactly the rights that `grants` prints."""

from __future__ import annotations

import json
import shlex
from typing import Any, Protocol
from urllib.parse import quote, unquote, urlsplit

from taskq_exporter.testing.rabbitmq import manage

__all__ = ["Store", "store_of", "with_credentials"]

USER = "taskq_exporter"
PASSWORD = "kit-of-taskq-exporter"  # noqa: S105 - of a server that lives as long as the test


class Store(Protocol):
    """What the kit needs of a kind of server."""

    def dump(self, url: str) -> Any:
        """Everything that is stored; equal as long as nobody writes."""

    def grant(self, url: str, text: str) -> str:
        """Create the user that `text` describes; returns the URL with its credentials."""


class RedisStore:
    """A Redis-compatible server."""

    def dump(self, url: str) -> Any:
        """Every key of every database, with its serialized value and when it expires."""
        import redis

        held = {}
        with redis.Redis.from_url(url) as client:
            databases = [int(name.removeprefix("db")) for name in client.info("keyspace")]
        for database in databases:
            with redis.Redis.from_url(url, db=database) as client:
                for key in client.scan_iter(count=1000):
                    held[database, key] = (client.dump(key), client.pexpiretime(key))
        return held

    def grant(self, url: str, text: str) -> str:
        """Run each ACL line, then give the user a password."""
        import redis

        with redis.Redis.from_url(url) as client:
            for line in text.splitlines():
                if words := shlex.split(line, comments=True):
                    if words[0].lower() == "user":  # the form of an ACL file
                        words[:1] = ["ACL", "SETUSER"]
                    client.execute_command(*words)
            client.execute_command("ACL", "SETUSER", USER, "on", "resetpass", f">{PASSWORD}")
        return with_credentials(url, USER, PASSWORD)


class PostgresStore:
    """A PostgreSQL server."""

    def dump(self, url: str) -> Any:
        """Every row of every user table, with the transaction that wrote it."""
        import psycopg
        from psycopg import sql

        with psycopg.connect(url) as connection:
            tables = connection.execute("SELECT schemaname, relname FROM pg_stat_user_tables").fetchall()
            query = sql.SQL("SELECT xmin::text, ctid::text, t::text FROM {} t ORDER BY ctid")
            return {t: connection.execute(query.format(sql.Identifier(*t))).fetchall() for t in sorted(tables)}

    def grant(self, url: str, text: str) -> str:
        """Run the SQL, then give the role a password."""
        import psycopg

        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(text.encode())
            connection.execute(f"ALTER ROLE {USER} LOGIN PASSWORD '{PASSWORD}'")
        return with_credentials(url, USER, PASSWORD)


class RabbitStore:
    """A virtual host of a RabbitMQ node with the management API."""

    def __init__(self, management: str) -> None:
        self._management = management

    def dump(self, url: str) -> Any:
        """Every exchange and binding, and every queue with how many of its messages are ready."""
        import amqp

        parts = urlsplit(url)
        host = unquote(parts.path[1:])
        held: dict[str, list[Any]] = {}
        for kind in ("exchanges", "bindings", "queues"):
            found = manage(self._management, "GET", f"/api/{kind}/{quote(host, safe='')}?disable_stats=true")
            held[kind] = sorted(json.dumps(one, sort_keys=True) for one in found)
        names = [json.loads(queue)["name"] for queue in held["queues"]]
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        address = f"{parts.hostname}:{parts.port}"
        with amqp.Connection(
            address, userid=user, password=password, virtual_host=host, ssl=parts.scheme == "amqps"
        ) as c:
            channel = c.channel()
            held["ready"] = [tuple(channel.queue_declare(name, passive=True) or ()) for name in names]
        return held

    def grant(self, url: str, text: str) -> str:
        """Do what each rabbitmqctl line says, through the API; the user gets a password of its own."""
        for line in text.splitlines():
            command, *words = shlex.split(line, comments=True)[1:]
            if command == "add_user":
                manage(self._management, "PUT", f"/api/users/{USER}", {"password": PASSWORD, "tags": ""})
            elif command == "set_permissions":
                _, host, user, configure, write, read = words  # -p HOST
                rights = {"configure": configure, "write": write, "read": read}
                manage(self._management, "PUT", f"/api/permissions/{quote(host, safe='')}/{user}", rights)
            elif command == "set_user_tags":
                body = {"password": PASSWORD, "tags": ",".join(words[1:])}
                manage(self._management, "PUT", f"/api/users/{words[0]}", body)
            else:
                raise ValueError(f"not understood: {line}")
        return with_credentials(url, USER, PASSWORD)


def store_of(url: str, management: str = "") -> Store | None:
    """The kind of store that a URL names, or None. RabbitMQ needs the address of its management API too."""
    scheme = urlsplit(url).scheme
    if scheme in ("amqp", "amqps"):
        return RabbitStore(management) if management else None
    if scheme in ("redis", "rediss"):
        return RedisStore()
    return PostgresStore() if scheme in ("postgres", "postgresql") else None


def with_credentials(url: str, user: str, password: str, *, port: int | str | None = None) -> str:
    """The URL with other credentials, and another port where one is given."""
    parts = urlsplit(url)
    return parts._replace(netloc=f"{user}:{password}@{parts.hostname}:{port or parts.port}").geturl()
