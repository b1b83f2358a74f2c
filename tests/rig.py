"""
A balancer between peers on real sockets, the same for each kind of relay.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.endpoints import (
    TCP4ServerEndpoint,
    TCP6ServerEndpoint,
    UNIXServerEndpoint,
)
from twisted.internet.interfaces import IStreamClientEndpoint, IStreamServerEndpoint
from twisted.internet.task import Clock
from zope.interface import implementer

from iawlb.backend.address import parseDestination
from iawlb.core.destination import Destination
from iawlb.core.events import SESSION_ENDED, IObserver
from iawlb.core.outcome import Outcome
from iawlb.core.session import Session, describe
from iawlb.service import LoadBalancer
from tests.net import LIMIT, Peer, Server, connected, pause, reactor, until

RELAYS: dict[str, dict[str, Any]] = {
    "portable": {"relay": "portable"},
    "fast": {"relay": "fast"},
}
"""
The kinds of relay, and the settings that choose each.
"""


def payload(size: int, seed: int = 0) -> bytes:
    """
    Make bytes of which no two parts are alike.
    """
    return random.Random(seed).randbytes(size)


async def settled(value: Callable[[], int]) -> int:
    """
    Wait until a number grows no more in many turns of the reactor. Turns are
    counted rather than time, in which a busy machine may have let us have none.
    """
    before, turns = value(), 0
    while turns < 20:
        await pause(0.001)
        now = value()
        turns = turns + 1 if now == before else 0
        before = now
    return before


async def sideBySide(plays: Iterable[Coroutine[Any, Any, None]]) -> None:
    """
    Run several awaitables at once, since they mostly wait; fail with the first that
    failed.
    """
    waits = [Deferred.fromCoroutine(each) for each in plays]
    results: list[tuple[bool, Any]] = await DeferredList(waits, consumeErrors=True)
    for succeeded, result in results:
        if not succeeded:
            result.raiseException()


@implementer(IObserver)
class Records:
    """
    Keeps the sessions that ended, in order.
    """

    def __init__(self) -> None:
        self.ended: list[Session] = []

    def sessionChanged(self, session: Session, event: str) -> None:
        """
        Keep the session if it has ended.
        """
        if event == SESSION_ENDED:
            self.ended.append(session)

    def destinationChanged(self, destination: Destination, event: str) -> None:
        """
        Do nothing.
        """

    def listenerChanged(self, name: str, address: str, event: str) -> None:
        """
        Do nothing.
        """


class Running:
    """
    A running balancer with one destination, a server of the test.
    """

    def __init__(self, balancer: LoadBalancer, server: Server, records: Records):
        self.balancer = balancer
        self.server = server
        self.records = records
        self._clients: list[Peer] = []

    async def client(
        self,
        make: Callable[[], Peer] = Peer,
        wrap: Callable[[IStreamClientEndpoint], IStreamClientEndpoint] | None = None,
    ) -> Peer:
        """
        Connect a client.

        @param wrap: Makes the endpoint a TLS one, say.
        """
        _, endpoint = parseDestination(reactor, self.balancer.addresses[0], LIMIT)
        peer = await connected(wrap(endpoint) if wrap else endpoint, make)
        self._clients.append(peer)
        return peer

    async def pair(self) -> tuple[Peer, Peer]:
        """
        Connect a client, and wait until the destination has accepted it.
        """
        client = await self.client()
        return client, await self.server.peer(len(self._clients) - 1)

    @property
    def session(self) -> Session:
        """
        The only session.
        """
        (session,) = self.balancer.sessions
        return session

    async def ended(self, number: int = 1) -> Session:
        """
        Wait for the end of a session, by its position in the order of ends, from 1.
        """
        await until(lambda: len(self.records.ended) >= number)
        return self.records.ended[number - 1]

    async def outcome(self, number: int = 1) -> Outcome | None:
        """
        Wait for the end of a session, and return how it ended.
        """
        return (await self.ended(number)).outcome

    def lookAfter(self, seconds: float) -> None:
        """
        Have the time-outs looked at as if so much time had passed; each call has to
        name more.
        """
        pool = self.balancer._pool
        clock: Any = Clock()
        clock.advance(pool.clock.seconds() + seconds)
        deadlines = pool.deadlines
        deadlines.stop()
        before, deadlines._clock = deadlines._clock, clock
        deadlines._look()
        clock.advance(0)
        deadlines.stop()
        deadlines._clock = before

    async def stop(self) -> None:
        """
        Close everything.
        """
        await self.balancer.stopService()
        await self.server.stop()
        for client in self._clients:
            if client.lost is None:
                client.reset()
        for client in self._clients:
            await client.closed()


def serverEndpoint(family: str, path: Path) -> IStreamServerEndpoint:
    """
    Make an endpoint to listen on.

    @param family: C{"tcp4"}, C{"tcp6"} or C{"unix"}.
    @param path: Where a Unix socket may be.
    """
    if family == "tcp4":
        return TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
    if family == "tcp6":
        return TCP6ServerEndpoint(reactor, 0, interface="::1")
    return UNIXServerEndpoint(reactor, str(path))


def endpointOf(server: Server) -> IStreamClientEndpoint:
    """
    Make an endpoint that connects to a server.
    """
    address = describe(server.port.getHost())[0]
    return parseDestination(reactor, address, LIMIT)[1]


@asynccontextmanager
async def rig(
    relay: str,
    family: str,
    directory: Path,
    make: Callable[[], Peer] = Peer,
    *,
    listener: IStreamServerEndpoint | str | None = None,
    destinationListens: IStreamServerEndpoint | None = None,
    wrap: Callable[[IStreamClientEndpoint], IStreamClientEndpoint] | None = None,
    **settings: Any,
) -> AsyncIterator[Running]:
    """
    Run a balancer between a server and clients of a family.

    @param make: Makes the server's peers.
    @param listener: The listener's address, if it is not a plain socket.
    @param destinationListens: The destination's, likewise.
    @param wrap: Wraps the destination's endpoint, for TLS for instance.
    """
    server = await Server(make).listen(
        destinationListens or serverEndpoint(family, directory / "destination")
    )
    endpoint = endpointOf(server)
    records = Records()
    balancer = LoadBalancer(
        reactor,
        listeners=[listener or serverEndpoint(family, directory / "listener")],
        destinations=[wrap(endpoint) if wrap else endpoint],
        observers=[records],
        **{"drainTimeout": 0, **RELAYS[relay], **settings},
    )
    balancer.startService()
    running = Running(balancer, server, records)
    try:
        yield running
    finally:
        await running.stop()
