"""For authors of adapters: real servers and the conformance kit (extra `testing`)."""

import pytest

pytest.register_assert_rewrite(
    *(f"taskq_exporter.testing.{module}" for module in ("checks", "conformance", "golden", "page"))
)

from .conformance import AdapterConformance  # noqa: E402 - after the line that makes its asserts explain
from .page import Page  # noqa: E402
from .pgbouncer import start_pgbouncer  # noqa: E402
from .processes import Server  # noqa: E402
from .rabbitmq import start_rabbitmq  # noqa: E402
from .sentinel import start_redis_sentinel  # noqa: E402
from .servers import start_postgres, start_redis  # noqa: E402
from .tls import Certificates, make_certificates  # noqa: E402
from .watch import Watch, watch  # noqa: E402
from .world import World  # noqa: E402

__all__ = [
    "AdapterConformance",
    "Certificates",
    "Page",
    "Server",
    "Watch",
    "World",
    "make_certificates",
    "start_pgbouncer",
    "start_postgres",
    "start_rabbitmq",
    "start_redis",
    "start_redis_sentinel",
    "watch",
]
