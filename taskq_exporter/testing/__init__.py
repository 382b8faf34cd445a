"""For authors of adapters: real servers and the conformance kit (extra `testing`)."""

from .processes import Server
from .servers import start_postgres, start_redis

__all__ = ["Server", "start_postgres", "start_redis"]
