"""
Simulate a pool: discrete events, with the balancer's own queue, destinations and
policies.

Clients come at random (Poisson). Each destination serves one client after the other, in
the order in which they come to it; how long it takes is random too (exponential), and
five times longer at the slow one. The draws depend on the seed alone.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from rivals import RIVALS, Make
from twisted.internet.address import IPv4Address

from iawlb.core.destination import Destination
from iawlb.core.origin import Origin, PoolCount
from iawlb.core.queue import ConnectionQueue
from iawlb.core.quick import timesOf
from iawlb.core.session import Session
from iawlb.settings import DestinationSettings, Settings

SERVICE = 0.05
"""
How long a fast destination takes, in seconds, on average.
"""


@dataclass
class Server:
    """
    A destination, and the clients that it has taken and not answered.
    """

    destination: Destination
    service: float
    waiting: deque[Session] = field(default_factory=deque)
    busy: bool = False
    pulls: bool = False


class Simulation:
    """
    One run.

    @ivar took: How long each client waited for its answer, in seconds, in the order of
        the answers.
    """

    def __init__(
        self,
        make: Make,
        load: float,
        slots: int,
        clients: int,
        seed: int = 1,
        number: int = 10,
        slow: int = 1,
        times: float = 5.0,
    ) -> None:
        """
        @param load: The part of what all destinations can do that is asked of them.
        @param slots: Those of each destination; 0 is no limit.
        @param slow: How many of the destinations are slow.
        @param times: How many times slower these are.
        """
        self.now = 0.0
        self.took: list[float] = []
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._number = 0
        self._left = clients
        self._arrivals = random.Random(seed)
        self._services = random.Random(seed + 1)
        self.servers = []
        for order in range(number):
            own = DestinationSettings(name=str(order), slots=slots)
            destination = Destination("simulated", own, Settings(), order)
            service = SERVICE * (times if order < slow else 1)
            self.servers.append(Server(destination, service))
        self._rate = load * sum(1 / each.service for each in self.servers)
        self._queue = ConnectionQueue(
            make(lambda: self.now, random.Random(seed + 2)),
            lambda: [each.destination for each in self.servers],
        )
        self._origin = Origin(PoolCount("simulated"), "simulated")

    def run(self) -> list[float]:
        """
        Run until all clients are answered.
        """
        for each in self.servers:
            self._pull(each)
        self._after(0, self._arrive)
        while self._events:
            self.now, _, call, arguments = heapq.heappop(self._events)
            call(*arguments)
        return self.took

    def _after(self, seconds: float, call: Callable[..., None], *with_: Any) -> None:
        self._number += 1
        heapq.heappush(self._events, (self.now + seconds, self._number, call, with_))

    def _arrive(self) -> None:
        self._left -= 1
        if self._left:
            self._after(self._arrivals.expovariate(self._rate), self._arrive)
        address = IPv4Address("TCP", "192.0.2.1", 1)
        nothing: Any = None
        self._queue.put(
            Session(self._left, address, self._origin, self.now, nothing, nothing)
        )

    def _pull(self, server: Server) -> None:
        while not server.pulls and server.destination.canPull():
            session = self._queue.pull(
                server.destination, lambda session: self._pulled(server, session)
            )
            if session is None:
                server.pulls = True
            else:
                self._take(server, session)

    def _pulled(self, server: Server, session: Session) -> None:
        server.pulls = False
        self._take(server, session)
        self._pull(server)

    def _take(self, server: Server, session: Session) -> None:
        server.destination.take()
        server.destination.connected()
        session.pulled = self.now
        server.waiting.append(session)
        self._serve(server)

    def _serve(self, server: Server) -> None:
        if server.waiting and not server.busy:
            server.busy = True
            seconds = server.service * self._services.expovariate(1)
            self._after(seconds, self._answer, server, server.waiting.popleft())

    def _answer(self, server: Server, session: Session) -> None:
        server.busy = False
        server.destination.give()
        assert session.pulled is not None
        timesOf(server.destination).add(self.now - session.pulled, self.now)
        self.took.append(self.now - session.accepted)
        self._serve(server)
        self._pull(server)


def simulate(policy: str, load: float, slots: int, clients: int) -> list[float]:
    """
    Run one policy, and return how long the answers took in milliseconds; the first
    tenth is left out.
    """
    took = Simulation(RIVALS[policy], load, slots, clients).run()
    return [seconds * 1000 for seconds in took[clients // 10 :]]
