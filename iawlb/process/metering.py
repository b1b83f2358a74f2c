"""
L{Metering}, all that a process needs to have metrics.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed

from iawlb.admin.exposition import Exposition
from iawlb.admin.metricsroute import Metrics
from iawlb.admin.metricsserver import metricsServer
from iawlb.admin.place import readPlace
from iawlb.admin.port import AdminPort
from iawlb.admin.sources import Sources
from iawlb.balancer import Balancer
from iawlb.observe.looplag import LoopLag
from iawlb.observe.statistics import Statistics


class Metering:
    """
    Counts what a balancer does, and serves the metrics, if an address is given.

    @ivar statistics: The counts.
    @ivar lag: The reactor's lag.
    @ivar sources: What the metrics are read from.
    @ivar metrics: Answers requests for metrics.
    """

    def __init__(
        self,
        reactor: Any,
        balancer: Balancer,
        logDropped: Callable[[], int],
        address: str = "",
    ) -> None:
        """
        @param logDropped: Returns the number of lines of the access log that were
            dropped.
        @param address: Where to serve the metrics; empty is nowhere.
        @raise InvalidSetting: The address is wrong.
        """
        self._clock = balancer.clock
        self.statistics = Statistics(balancer.clock)
        balancer.observe(self.statistics)
        for pool in balancer.pools.values():
            self.statistics.adopt(pool.destinations)
        self.lag = LoopLag(balancer.clock)
        self.sources = Sources(
            balancer, self.statistics, self.lag, logDropped=logDropped
        )
        self.metrics = Metrics(balancer.clock, Exposition(self.sources))
        self._place = readPlace("metrics", address) if address else None
        self._port: AdminPort | None = None
        if self._place is not None:
            self._port = AdminPort(reactor, self._place)

    @property
    def address(self) -> str | None:
        """
        The address where the metrics are served, or L{None}.
        """
        return None if self._port is None else self._port.address

    def open(self) -> None:
        """
        Bind and listen, while the process has its privileges.

        @raise CannotListen: That is not possible.
        """
        if self._port is not None:
            self._port.open()

    def start(self) -> None:
        """
        Begin to measure and to serve.

        @raise CannotListen: The address cannot be listened on.
        """
        self.lag.start()
        if self._port is not None and self._place is not None:
            self._port.serve(metricsServer(self._clock, self.metrics, self._place))

    def stop(self) -> Deferred[Any]:
        """
        Stop serving. Call this when the balancer has stopped: how a drain goes on is
        worth knowing.

        @return: Fires when no more clients come in.
        """
        self.lag.stop()
        return succeed(None) if self._port is None else self._port.close()
