"""Toolkit for taskq-exporter adapters whose queues are in Redis."""

from taskq_exporter_redis.acl import acl_line
from taskq_exporter_redis.broker import ServerInfo, Told
from taskq_exporter_redis.client import RedisClient, connect
from taskq_exporter_redis.cursor import Entry, ZsetCursor
from taskq_exporter_redis.discovery import Discovery, escape_glob, scan
from taskq_exporter_redis.errors import errors
from taskq_exporter_redis.sentinel import SentinelOptions, is_sentinel, parse_sentinel
from taskq_exporter_redis.subscription import Subscription, subscribe

__all__ = [
    "Discovery",
    "Entry",
    "RedisClient",
    "SentinelOptions",
    "ServerInfo",
    "Subscription",
    "Told",
    "ZsetCursor",
    "acl_line",
    "connect",
    "errors",
    "escape_glob",
    "is_sentinel",
    "parse_sentinel",
    "scan",
    "subscribe",
]
