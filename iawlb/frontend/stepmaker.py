"""
Which steps the clients of a listener take, in their order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from twisted.internet.interfaces import IReactorTime

from iawlb.backend.tlslistener import Certificates
from iawlb.core.destination import Destination
from iawlb.core.queue import ConnectionQueue
from iawlb.core.ratelimit import FailureLog
from iawlb.frontend.choosing import Choose, ChooseStep, Chosen, Found
from iawlb.frontend.door import Door
from iawlb.frontend.firstbyte import FirstByte
from iawlb.frontend.proxyheader import HeaderCounts, ProxyHeader
from iawlb.frontend.routing import Router, RouteStep
from iawlb.frontend.servername import ServerNameStep
from iawlb.frontend.steps import Enterable, Step
from iawlb.proxyvalidators import Trusted
from iawlb.relay.context import RelayContext
from iawlb.settings import ListenerSettings, Settings


class ChoosablePool(Enterable, Protocol):
    """
    A pool, as far as C{choose} may return it or one of its destinations.
    """

    name: str
    queue: ConnectionQueue
    workers: Mapping[str, Any]


class StepMaker:
    """
    Makes the steps of the listeners of one pool.

    @ivar headers: Counts of the PROXY headers of clients.
    """

    def __init__(
        self,
        reactor: Any,
        clock: IReactorTime,
        name: str,
        settings: Settings,
        context: RelayContext,
        door: Door,
        router: Router,
        pools: Mapping[str, Any],
        choose: Choose | None,
    ) -> None:
        """
        @param name: The name of the pool.
        @param settings: Those of the pool, as they are whenever steps are made.
        @param pools: All pools of the balancer, from which C{choose} may choose.
        @param choose: Chooses where each client goes; by default, it waits in the
            queue.
        """
        self.headers = HeaderCounts()
        self._reactor = reactor
        self._name = name
        self._settings = settings
        self._context = context
        self._door = door
        self._router = router
        self._pools: Mapping[str, ChoosablePool] = pools
        self._choose = choose
        self._failures = FailureLog(clock, f"choose of pool {name}")

    def stepsOf(
        self, listener: ListenerSettings, certificates: Certificates | None
    ) -> list[Step]:
        """
        Return what has to be done before the clients of a listener enter the queue, in
        its order.

        @param certificates: Those of the listener, if it ends TLS.
        """
        settings, choose = self._settings, self._choose
        timeout = settings.handshakeTimeout
        steps: list[Step] = []
        if listener.acceptProxy:
            trusted = Trusted(listener.acceptProxy)
            steps.append(ProxyHeader(listener.proxyTimeout, trusted, self.headers))
        steps += self._door.steps(listener)
        if certificates is not None:
            # TLS is an extra, which may not be installed.
            from iawlb.frontend.tlsstep import TlsStep

            steps.append(TlsStep(timeout, self._reactor, self._context, certificates))
        routes = self._router.routes(self._name)
        if routes is not None:
            steps.append(RouteStep(timeout, self._router, routes))
        elif settings.policy == "source" and settings.affinity == "sni":
            steps.append(ServerNameStep(timeout))
        if settings.takeSlot == "first-byte":
            steps.append(FirstByte(timeout, choose is not None))
        if choose is not None:
            steps.append(ChooseStep(timeout, choose, self._find, self._failures))
        return steps

    def _find(self, chosen: Chosen) -> Found:
        """
        Find what C{choose} has returned.

        @raise ValueError: It is neither a pool nor a destination of the balancer.
        """
        for pool in self._pools.values():
            if pool is chosen:
                return pool, None
            if isinstance(chosen, Destination) and chosen.pool == pool.name:
                worker = pool.workers.get(chosen.name)
                if worker is not None and worker.destination is chosen:
                    pool.queue.heedChosen()
                    return pool, chosen
        raise ValueError(
            f"choose returned {chosen!r}: return a pool or a destination of the "
            "balancer, Choice.WAIT or Choice.REFUSE"
        )

    def stop(self) -> None:
        """
        Stop the timers.
        """
        self._failures.stop()
