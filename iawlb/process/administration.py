"""
L{Administration}: the admin server of a process, from its bind to its end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from iawlb.admin.access import Access, Asker, Tokens
from iawlb.admin.api import apiRoutes
from iawlb.admin.eventring import EventRing
from iawlb.admin.eventstream import EventStream
from iawlb.admin.pagefiles import pageRoutes
from iawlb.admin.parts import Parts
from iawlb.admin.place import Place
from iawlb.admin.port import AdminPort
from iawlb.admin.routes import RouteTable
from iawlb.admin.server import AdminServer
from iawlb.balancer import Balancer
from iawlb.control.operations import Operations
from iawlb.control.overlay import Difference, steps
from iawlb.control.reload import Reloader
from iawlb.errors import InvalidSetting
from iawlb.process.logs import Logs
from iawlb.process.metering import Metering
from iawlb.processsettings import ProcessSettings

MOST_CONNECTIONS = 64
"""
The number of connections that may be open. As many descriptors are kept for them.
"""


class Administration:
    """
    The admin server of a process. It is the first to listen and the last to close: the
    balancer can be watched while it drains.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        balancer: Balancer,
        tokens: str,
        place: Place,
        logs: Logs,
        metering: Metering,
        reloader: Reloader,
    ) -> None:
        """
        @param tokens: The path of the file of tokens, or an empty text.
        @param place: Where to listen.
        @param metering: Counts and measures.
        @param reloader: Has the configuration, and reads it again.
        @raise InvalidSetting: The address can be reached from other machines and there
            are no tokens, or the file of tokens is wrong.
        """
        access = Access(place.host, Tokens(tokens) if tokens else None)
        if access.needsToken and not tokens:
            raise InvalidSetting(
                f"{place.setting}: {place} can be reached from other machines: write "
                "127.0.0.1, a path, or give a file of tokens with admin-tokens"
            )
        balancer.keepFiles(MOST_CONNECTIONS)
        self.reloader = reloader
        self.version = version("iawlb")
        self.started = balancer.clock.seconds()
        self.operations = Operations(balancer)
        self._logs = logs
        self._lag = metering.lag
        self._balancer = balancer
        self._ring = EventRing()
        balancer.observe(self._ring)
        reloader.publish = self.publish
        self._events = EventStream(balancer.clock, self._ring)
        parts = Parts(
            balancer, metering.statistics, self.operations, self, self, self._ring
        )
        routes = apiRoutes(
            parts,
            self._events,
            [metering.metrics.route(), *pageRoutes()],
            needsToken=access.needsToken,
        )
        self._server = AdminServer(
            balancer.clock,
            RouteTable(routes),
            access,
            what="admin server",
            mostConnections=MOST_CONNECTIONS,
            audit=self._audit,
            tag=lambda: self._ring.tag,
        )
        self._port = AdminPort(reactor, place)

    @property
    def publish(self) -> Callable[..., None]:
        """
        Adds an event for those who watch.
        """
        return self._ring.publish

    # From the start to the end.

    def open(self, owner: int | None) -> None:
        """
        Bind, while the process has its privileges.

        @param owner: The number of the user that the process becomes after this.
        @raise CannotListen: That is not possible.
        """
        self._port.open(owner)

    def start(self) -> None:
        """
        Begin to serve.

        @raise CannotListen: The address cannot be listened on.
        """
        self._port.serve(self._server)
        self._logs.whenDropped(self._linesDropped)

    def _linesDropped(self, number: int) -> None:
        text = f"{number} lines of the log were dropped: nobody took them"
        self.publish("log-dropped", text=text)

    def stopping(self) -> None:
        """
        Tell those who watch that the process stops, and is ready no more.
        """
        self.publish("stopping")

    def stop(self) -> Deferred[None]:
        """
        Stop serving, now that the balancer has drained.
        """
        self.operations.close()
        self._events.stop()
        return self._port.close()

    def _audit(self, asker: Asker, what: str, result: str) -> None:
        """
        Log who asked for what change, and the result.
        """
        self.log.info(
            "admin: {by}: {what}: {result}", by=asker.name, what=what, result=result
        )
        self.publish("audit", text=f"{what}: {result}", by=asker.name)

    # What the API asks of the configuration.

    @property
    def file(self) -> str | None:
        """
        The configuration file.
        """
        return self.reloader.running.path

    @property
    def process(self) -> ProcessSettings:
        """
        The settings of the process that are in use.
        """
        return self.reloader.running.process

    def originOf(self, path: str) -> str:
        """
        Return where a setting comes from.
        """
        origin = self.reloader.running.origins.get(path)
        return "default" if origin is None else origin.text

    def destinationOrigin(self, pool: str, destination: str) -> str:
        """
        Return where a destination comes from.
        """
        config = self.reloader.running.pools.get(pool)
        found = None if config is None else config.destinations.get(destination)
        return "runtime" if found is None else found.origin.text

    def differences(self) -> Iterator[Sequence[Difference]]:
        """
        Compare with the configuration, step by step.
        """
        return steps(self._balancer, self.reloader.running)

    # What the API asks of the process.

    async def reload(self, diff: bool, by: str) -> dict[str, Any]:
        """
        Read the configuration again.

        @raise Conflict: There is no file.
        """
        return await self.reloader.reload(diff, by)

    def lastReload(self) -> dict[str, Any]:
        """
        Return the result of the last reload.
        """
        return self.reloader.last

    def logState(self) -> dict[str, Any]:
        """
        Return what is known of the log.
        """
        return {"dropped": self._logs.dropped, "level": self._logs.level}

    def setLevel(self, level: str) -> None:
        """
        Set the least important messages that are written.

        @raise InvalidSetting: Twisted writes the messages.
        """
        self._logs.setLevel(level)

    def loopLag(self) -> float:
        """
        Return the largest lag of the last minute, in seconds.
        """
        return self._lag.largest
