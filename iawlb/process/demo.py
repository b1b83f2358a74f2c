"""
The demonstration of C{--demo}: HTTP servers that take one connection at a time and need
a second for each. One of them is stopped now and then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, ensureDeferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from iawlb.core.destination import Destination
from iawlb.process.demoserver import WORK, DemoServer
from iawlb.service import LoadBalancer

STOP_EVERY = 20.0
"""
Time between two stops of a server, in seconds.
"""

AWAY = 4.0
"""
How long a stopped server is away, in seconds.
"""

LOOK_EVERY = 0.1
"""
Time between two looks at what has changed, in seconds.
"""

LEAST_WAIT = 0.1
"""
An answer shows how long its client has waited if that is at least this long, in
seconds.
"""

MOST_SHOWN = 8
"""
If there are more destinations than these, the status line shows counts instead of
names.
"""

MOST_MARKS = 40
"""
If there are more clients than these in the queue, the marks in the status line end in
dots.
"""


def demoNames(number: int) -> list[str]:
    """
    List the names of the demo servers.
    """
    return [f"demo-{each}" for each in range(1, number + 1)]


def tryOut(address: str) -> str:
    """
    Return the command that connects to an address.
    """
    if address.startswith("unix:"):
        return f"curl --unix-socket {address.removeprefix('unix:')} http://localhost"
    host, _, port = address.rpartition(":")
    everywhere = ("0.0.0.0", "[::]", "127.0.0.1", "[::1]")
    return f"curl http://{'localhost' if host in everywhere else host}:{port}"


def statusLine(states: dict[str, str], waiting: int) -> str:
    """
    Return a line of what each server does and how many clients wait.

    @param states: The state of each server, by its name.
    """
    if len(states) > MOST_SHOWN:
        counts = Counter(states.values())
        servers = [f"{number} {state}" for state, number in sorted(counts.items())]
    else:
        servers = [f"{name} {state}" for name, state in states.items()]
    marks = "#" * min(waiting, MOST_MARKS) + "..." * (waiting > MOST_MARKS)
    return f"{'  '.join(servers)}  | {waiting} waiting {marks}".rstrip()


class Demo(Service):
    """
    A balancer with a number of demo servers. Each takes one connection at a time,
    unless the balancer's settings give a number of slots.

    @ivar show: Shows a line of what each server does and how many clients wait,
        whenever that changes.
    """

    logger = Logger()
    _nextStop: IDelayedCall

    def __init__(self, reactor: Any, balancer: LoadBalancer, number: int) -> None:
        """
        @param number: The number of servers.
        """
        self.show: Callable[[str], None] = self._log
        self._reactor = reactor
        self._balancer = balancer
        self._number = number
        self._servers: dict[str, DemoServer] = {}
        self._destinations: dict[str, Destination] = {}
        self._turns: Iterator[tuple[str, DemoServer]] = iter(())
        self._looking = LoopingCall(self._look)
        self._looking.clock = reactor
        self._shown = ""

    def privilegedStartService(self) -> None:
        """
        Bind the balancer's addresses.
        """
        self._balancer.privilegedStartService()

    def startService(self) -> None:
        """
        Start the servers, then the balancer.
        """
        super().startService()
        slots = self._balancer.settings.slots or 1
        for name in demoNames(self._number):
            if name in self._servers:
                # The demo runs again, and the server gets another port.
                self._balancer.remove(name)
            server = DemoServer(self._reactor, partial(self._answer, name))
            self._servers[name] = server
            address = f"127.0.0.1:{server.port}"
            self._destinations[name] = self._balancer.add(
                address, name=name, slots=slots
            )
        self._balancer.startService()
        for address in self._balancer.addresses:
            self.logger.info(
                "{number} demo servers answer with their name, after {work:g} s of "
                "work; be nine clients: (for i in $(seq 9); do {command} & done; wait)",
                number=self._number,
                work=WORK,
                command=tryOut(address),
            )
        self._shown = ""
        self._turns = cycle(self._servers.items())
        self._nextStop = self._reactor.callLater(STOP_EVERY, self._stopOne)
        self._looking.start(LOOK_EVERY)

    def stopService(self) -> Deferred[None]:
        """
        Stop the balancer, then the servers, which finish their work at once.
        """
        return ensureDeferred(self._stop())

    async def _stop(self) -> None:
        self._looking.stop()
        self._nextStop.cancel()
        servers = self._servers.values()
        await DeferredList([each.closing for each in servers])
        for server in servers:
            server.hurry()
            # Clients may wait for a stopped server.
            server.start()
        await self._balancer.stopService()
        await DeferredList([each.close() for each in servers])
        super().stopService()

    def _stopOne(self) -> None:
        """
        Stop the next server.
        """
        name, server = next(self._turns)
        if self._destinations[name].active != len(server.requests):
            # A connection is on its way to the server, and would be reset.
            self._nextStop = self._reactor.callLater(LOOK_EVERY, self._stopOne)
            return
        server.stop()
        self._nextStop = self._reactor.callLater(AWAY, self._bringBack, server)

    def _bringBack(self, server: DemoServer) -> None:
        server.start()
        self._nextStop = self._reactor.callLater(STOP_EVERY - AWAY, self._stopOne)

    def _answer(self, name: str) -> str:
        """
        Return the text of an answer: the server's name, and how long the client has
        waited.
        """
        waits = [
            each.pulled - each.accepted
            for each in self._balancer.sessions
            if each.destination == name and each.connected and each.pulled
        ]
        # With more than one slot, it is not known which of these sessions this is.
        if len(waits) == 1 and waits[0] >= LEAST_WAIT:
            return f"{name} after {waits[0]:.1f} s in the queue"
        return name

    def _look(self) -> None:
        """
        Show the states of the servers, if they have changed.
        """
        states = {}
        for each in self._balancer.destinations:
            server = self._servers.get(each.name)
            if each.down is not None or (server is not None and server.stopped):
                states[each.name] = "down"
            else:
                states[each.name] = "busy" if each.active else "idle"
        line = statusLine(states, self._balancer.waiting)
        if line != self._shown:
            self._shown = line
            self.show(line)

    def _log(self, line: str) -> None:
        self.logger.info("{line}", line=line)
