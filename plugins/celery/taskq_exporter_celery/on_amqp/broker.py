"""A connection to a RabbitMQ that is Celery's broker."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

from taskq_exporter_redis import Discovery

from taskq_exporter.api import AdapterError, BrokerStats, Finding, Reason, Snapshot, Source
from taskq_exporter_celery.broker import Answers, Shared, Subscription, shared_of
from taskq_exporter_celery.on_amqp import checks, stream
from taskq_exporter_celery.on_amqp import collect as collecting
from taskq_exporter_celery.on_amqp.control import Round
from taskq_exporter_celery.on_amqp.link import Link, parse
from taskq_exporter_celery.on_amqp.management import Listed, Management
from taskq_exporter_celery.on_amqp.queues import Queues
from taskq_exporter_celery.on_amqp.sizes import Sizes
from taskq_exporter_celery.worker_thread import WorkerThread

#: Seconds between questions to the management API, whose own numbers are 5 seconds old.
MANAGEMENT_EVERY = 5.0


class AmqpBroker:
    """Implements taskq_exporter_celery.broker.Broker. Each thread and connection is made when it is first needed."""

    tells_consumers = True

    def __init__(self, source: Source, shared: Shared) -> None:
        self.source = source
        self.shared = shared
        self.queues = shared.keep(Queues)
        self._urls = source.url()
        self.link = self._link()
        self.sizes = Sizes(self.link, source.timeout)
        self.management = self._management()
        #: As the management API last said.
        self.listed: dict[str, Listed] | None = None
        self.stats: BrokerStats | None = None
        self.stats_refused = False
        self.list_reads = Discovery(self._read_list, MANAGEMENT_EVERY)
        self._control = self._link()
        self._threads = AsyncExitStack()
        self._sizes_thread: WorkerThread | None = None
        self._management_thread: WorkerThread | None = None
        self._control_thread: WorkerThread | None = None
        self.commands_told = 0  # commands that a snapshot has counted

    async def collect(self) -> Snapshot:
        """Queues now."""
        return await collecting.collect(self)

    async def findings(self) -> list[Finding]:
        """What `check` says of the broker's side."""
        return await checks.findings(self)

    def subscribe(self) -> AbstractAsyncContextManager[Subscription]:
        """Subscribe to events."""
        return stream.subscribe(self.source)

    async def ask(self, commands: Sequence[str], nodes: Collection[str], timeout: float) -> Answers:
        """Ask workers, on a connection of its own, which stays open."""
        if self._control_thread is None:
            self._control_thread = self._thread("control", self._control.close, self._control.interrupt)
        asked = Round(self._control, self.source.options.control_exchange, commands, nodes)
        try:
            return await self._control_thread.call(lambda: asked.run(timeout))
        except AdapterError as error:
            if error.reason is not Reason.PERMISSION:
                await self._control_thread.call(self._control.close)  # anew next time
            raise

    def sizes_thread(self) -> WorkerThread:
        """The thread that uses `link` and `sizes`."""
        if self._sizes_thread is None:
            self._sizes_thread = self._thread("queues", self.link.close, self.link.interrupt)
        return self._sizes_thread

    async def read_in_background(self) -> None:
        """Start, once, asking the management API, where there is one."""
        if self.management is not None and self._management_thread is None:
            self._management_thread = self._thread("management", lambda: None, self.management.interrupt)
            await self._threads.enter_async_context(self.list_reads)

    async def list_problem(self) -> AdapterError | None:
        """Why the management API could not be read last time; waits for the first time."""
        if self.management is None:
            return None
        await self.list_reads.names(self.source.timeout / 2)
        return self.list_reads.problem

    @property
    def commands(self) -> int:
        """Commands and requests sent."""
        return self.sizes.commands + (self.management.commands if self.management else 0)

    async def aclose(self) -> None:
        """End every thread and connection."""
        await self._threads.aclose()

    def _thread(self, name: str, last: Callable[[], object], interrupt: Callable[[], object]) -> WorkerThread:
        thread = WorkerThread(name)
        self._threads.push_async_callback(thread.aclose, last, interrupt)
        return thread

    def _link(self) -> Link:
        return Link(self._urls, self.source.options, self.source.timeout)

    def _management(self) -> Management | None:
        url, options = self.source.options.management_url, self.source.options
        if url is None:
            return None
        told = parse(self._urls.split(";")[0].strip())
        user, password = told.userid or "guest", told.password or "guest"
        virtual_host = options.virtual_host or told.virtual_host or "/"
        return Management(url.get_secret_value(), user, password, virtual_host, self.source.timeout)

    async def _read_list(self) -> Iterable[str]:
        thread, management = self._management_thread, self.management
        if thread is None or management is None:
            return ()
        self.listed = await thread.call(management.queues)
        try:
            self.stats, self.stats_refused = await thread.call(management.broker), False
        except AdapterError as error:
            if error.reason is not Reason.PERMISSION:
                raise
            self.stats, self.stats_refused = None, True
        return self.listed


@asynccontextmanager
async def connect(source: Source) -> AsyncIterator[AmqpBroker]:
    """A client for the source's broker, which connects when it is first used.

    Raises:
        AdapterError: connect, where the URL is wrong.
    """
    broker = AmqpBroker(source, shared_of(source))
    try:
        yield broker
    finally:
        await broker.aclose()
