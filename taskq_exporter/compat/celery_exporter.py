"""`celery-exporter`: serves in the stead of danihodovic/celery-exporter, with its flags and variables."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import urlencode

import structlog
from pydantic import BaseModel, ValidationError

from taskq_exporter.adapters import Adapters, LoadError
from taskq_exporter.commands import serve
from taskq_exporter.commands.common import UsageError, run_loop
from taskq_exporter.config.explain import plain
from taskq_exporter.config.settings import SourceConfig
from taskq_exporter.config.sources import Config, ConfiguredSource, keep_secrets
from taskq_exporter.log import configure, keep_secret

__all__ = ["HELP", "add_arguments", "run", "source_of"]

HELP = "serve in the stead of danihodovic/celery-exporter: its flags, CE_ variables, port and metrics"

log = structlog.get_logger("taskq_exporter")

_M = TypeVar("_M", bound=BaseModel)

#: Seconds for what it calls never.
NEVER = 10 * 365 * 86400.0
#: Its log levels, which are loguru's.
LEVELS = {
    "trace": "debug",
    "debug": "debug",
    "info": "info",
    "success": "info",
    "warning": "warn",
    "error": "error",
    "critical": "error",
}
#: Transport options that are options of a Celery source too; others only mean something to brokers read through kombu.
OWN_OPTIONS = (
    *("global_keyprefix", "priority_steps", "sep", "fanout_prefix", "visibility_timeout"),
    *("master_name", "min_other_sentinels", "sentinel_kwargs"),
)
READ_HERE = ("redis", "rediss", "sentinel", "unix", "socket", "amqp", "amqps", "pyamqp")
SSL_OPTIONS = ("ca_certs", "certfile", "keyfile", "cert_reqs", "check_hostname")
CERT_REQS = {"0": "CERT_NONE", "1": "CERT_OPTIONAL", "2": "CERT_REQUIRED"}
READABLE = ("json", "msgpack", "yaml", "application/json", "application/x-msgpack", "application/x-yaml")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define its flags; the default of each is its variable CE_…."""

    def flag(name: str, help_: str, *more: str, default: Any = None, read: Callable[[str], Any] = str) -> None:
        given = os.environ.get(f"CE_{name.upper().replace('-', '_')}", default)
        parser.add_argument(*more, f"--{name}", dest=_dest(name), default=given, type=read, metavar="VALUE", help=help_)

    def several(name: str, help_: str) -> None:
        given = os.environ.get(f"CE_{name.upper().replace('-', '_')}", "").split()
        parser.add_argument(
            f"--{name}", dest=_dest(name), default=[], action="append", metavar="KEY=VALUE", help=f"{help_}; repeatable"
        )
        parser.set_defaults(**{f"{_dest(name)}_variable": given})

    def switch(name: str, help_: str) -> None:
        given = os.environ.get(f"CE_{name.upper().replace('-', '_')}", "").lower() in (
            "1",
            "true",
            "t",
            "yes",
            "y",
            "on",
        )
        parser.add_argument(f"--{name}", dest=_dest(name), default=given, action="store_true", help=help_)

    flag("broker-url", "the URL of the broker; required")
    several("broker-transport-option", "of the application's broker_transport_options")
    several("broker-ssl-option", "certfile, keyfile, ca_certs, cert_reqs, check_hostname")
    flag("accept-content", "json, msgpack and yaml are read")
    flag("retry-interval", "without meaning: it always connects again", default="0", read=float)
    flag("host", "default 0.0.0.0", default="0.0.0.0")  # noqa: S104 - as there
    flag("port", "default 9808", default="9808", read=int)
    flag("buckets", "bounds of celery_task_runtime, in seconds", read=_bounds)
    flag("queue-wait-buckets", "bounds of celery_task_queue_wait_time, in seconds", read=_bounds)
    flag("log-level", "default INFO", default="INFO", read=_level)
    flag("worker-timeout", "seconds of silence after which a worker is down; default 300", default="300", read=float)
    flag(
        "purge-offline-worker-metrics",
        "seconds of silence after which a worker is forgotten; default 600",
        default="600",
        read=float,
    )
    switch("generic-hostname-task-sent-metric", "without meaning: it is always so")
    switch("generic-hostname-worker-task-metric", "one hostname for all workers in the metrics of tasks")
    flag("queues", "queues that are there from the first page on, separated by commas", "-Q")
    flag("metric-prefix", "default celery_", default="celery_")
    flag("default-queue-name", "queue_name where it is not known; default celery", default="celery")
    several("static-label", "a label of every series")


def run(arguments: argparse.Namespace) -> int:
    """Serve; returns the exit status. Raises UsageError."""
    configure(arguments.ce_log_level, arguments.log_format)
    if arguments.config_file is not None:
        raise UsageError(
            "celery-exporter takes no --config.file; write compat: [celery-exporter] into it and leave the command out"
        )
    adapters = Adapters()
    source = source_of(arguments, adapters)
    for name, value in (("retry-interval", 0), ("generic-hostname-task-sent-metric", False)):
        if getattr(arguments, _dest(name)) != value:
            log.info("a flag of celery-exporter has no meaning here", flag=f"--{name}")
    address = (arguments.ce_host, arguments.ce_port)
    return run_loop(serve.serve(arguments, adapters, [address], None, Config((source,))))


def source_of(arguments: argparse.Namespace, adapters: Adapters) -> ConfiguredSource:
    """The source that the flags describe. Raises UsageError where one cannot be honoured."""
    url = arguments.ce_broker_url
    if not url:
        raise UsageError(
            "--broker-url (or CE_BROKER_URL) is missing: the URL of the broker, e.g. redis://broker:6379/0"
        )
    keep_secret(url)
    scheme = url.partition("://")[0].partition("+")[0]
    _check_accept(arguments.ce_accept_content)
    url = _with_tls(url, _pairs("broker-ssl-option", arguments))
    keep_secret(url)
    compat: dict[str, Any] = {
        "mapping": "celery-exporter",
        "prefix": arguments.ce_metric_prefix,
        "labels": _pairs("static-label", arguments),
        "fixed": {"hostname": "generic"} if arguments.ce_generic_hostname_worker_task_metric else {},
        "default": {"queue_name": arguments.ce_default_queue_name},
        "buckets": {
            name: bounds
            for name, bounds in (
                ("celery_task_runtime", arguments.ce_buckets),
                ("celery_task_queue_wait_time", arguments.ce_queue_wait_buckets),
            )
            if bounds
        },
    }
    core = {
        "name": "celery",
        "adapter": "celery",
        "url": url,
        "queues": {"expected": [queue for queue in (arguments.ce_queues or "").split(",") if queue]},
        "worker_ttl": arguments.ce_purge_offline_worker_metrics or NEVER,
        "compat": [compat],
    }
    own = _transport_options(scheme, _pairs("broker-transport-option", arguments))
    own["heartbeat_timeout"] = arguments.ce_worker_timeout or NEVER
    try:
        adapter = adapters.get("celery")
    except LoadError as error:
        raise UsageError(str(error)) from None
    options = _validated(adapter.options, own, "--broker-transport-option ")
    keep_secrets(options)
    config = _validated(SourceConfig, {**adapter.options.core_defaults, **core}, "")
    return ConfiguredSource(config, adapter, options, "--broker-url")


def _dest(name: str) -> str:
    return f"ce_{name.replace('-', '_')}"


def _level(text: str) -> str:
    if text.lower() not in LEVELS:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(LEVELS)}")
    return LEVELS[text.lower()]


def _bounds(text: str) -> tuple[float, ...]:
    try:
        return tuple(bound for bound in map(float, text.split(",")) if bound != float("inf"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} are not seconds, separated by commas") from None


def _pairs(name: str, arguments: argparse.Namespace) -> dict[str, str]:
    given: Sequence[str] = getattr(arguments, _dest(name)) or getattr(arguments, f"{_dest(name)}_variable")
    pairs = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f"--{name}: write it as KEY=VALUE")
        pairs[key] = value
    return pairs


def _check_accept(accept: str | None) -> None:
    for name in (part.strip() for part in (accept or "").split(",")):
        if name and name not in READABLE:
            raise UsageError(
                f"--accept-content: {name} cannot be read here; have workers send events in JSON (event_serializer),"
                f" and name only {', '.join(READABLE[:3])}"
            )


def _with_tls(url: str, given: Mapping[str, str]) -> str:
    """The URL with the options in its query, as kombu takes them there."""
    query = {}
    for key, value in given.items():
        name = key.removeprefix("ssl_")
        if name not in SSL_OPTIONS:
            raise UsageError(f"--broker-ssl-option: {key} is not known; there are {', '.join(SSL_OPTIONS)}")
        query[f"ssl_{name}"] = CERT_REQS.get(value, value) if name == "cert_reqs" else value
    if not query:
        return url
    first, semicolon, rest = url.partition(";")
    return f"{first}{'&' if '?' in first else '?'}{urlencode(query)}{semicolon}{rest}"


def _transport_options(scheme: str, given: Mapping[str, str]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    others: dict[str, Any] = {}
    for key, text in given.items():
        value = _value(text)
        if key == "fanout_patterns":
            if value in (False, 0, "False"):
                raise UsageError("--broker-transport-option: fanout_patterns=false cannot be read; leave it at true")
        elif key in OWN_OPTIONS:
            options[key] = value
        else:
            others[key] = value
    if others and scheme in READ_HERE:
        log.info("transport options of celery-exporter have no meaning here", options=", ".join(others))
    elif others:
        options["transport_options"] = others
    return options


def _value(text: str) -> Any:
    """As celery-exporter reads it: a number, JSON, or the text itself."""
    if text.isnumeric():
        return int(text)
    try:
        return json.loads(text)
    except ValueError:
        return text


def _validated(model: type[_M], data: Mapping[str, Any], where: str) -> _M:
    try:
        return model.model_validate(data)
    except ValidationError as failed:
        first = failed.errors(include_url=False, include_input=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{where}{name}: {plain(first['type'], first['msg'])}") from None
