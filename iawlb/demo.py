"""
Destinations for a first try: small HTTP servers that answer with their name.
"""

from __future__ import annotations

from typing import Any, cast

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, ensureDeferred, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from iawlb.service import LoadBalancer


class _Name(Resource):
    """
    Answers every request with a name.
    """

    isLeaf = True

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def render_GET(self, request: Request) -> bytes:
        """
        Answer. One connection for each request shows the balancing.
        """
        request.setHeader(b"content-type", b"text/plain; charset=utf-8")
        request.setHeader(b"connection", b"close")
        # Twisted would wait for the client to close.
        request.channel.persistent = False
        return f"{self._name}\n".encode()


class _QuietSite(Site):
    """
    A site without a log line for each request: the balancer writes one.
    """

    noisy = False

    def log(self, request: object) -> None:
        """
        Write nothing.
        """


def demoNames(number: int) -> list[str]:
    """
    List the names of so many demo destinations.
    """
    return [f"demo-{each}" for each in range(1, number + 1)]


def tryOut(address: str) -> str:
    """
    Say how to reach what listens on an address, as a command.
    """
    if address.startswith("unix:"):
        return f"curl --unix-socket {address.removeprefix('unix:')} http://localhost"
    host, _, port = address.rpartition(":")
    everywhere = ("0.0.0.0", "[::]", "127.0.0.1", "[::1]")
    return f"curl http://{'localhost' if host in everywhere else host}:{port}"


class Demo(Service):
    """
    Runs a balancer with so many demo destinations, on free loopback ports.
    """

    logger = Logger()

    def __init__(self, reactor: Any, balancer: LoadBalancer, number: int) -> None:
        """
        @param number: How many.
        """
        self._reactor = reactor
        self._balancer = balancer
        self._number = number
        self._ports: list[IListeningPort] = []

    def privilegedStartService(self) -> None:
        """
        Bind the balancer's addresses.
        """
        self._balancer.privilegedStartService()

    def startService(self) -> None:
        """
        Start the destinations, then the balancer.
        """
        super().startService()
        for name in demoNames(self._number):
            port = self._reactor.listenTCP(
                0, _QuietSite(_Name(name)), interface="127.0.0.1"
            )
            self._ports.append(port)
            self._balancer.add(f"127.0.0.1:{port.getHost().port}", name=name)
        self._balancer.startService()
        for address in self._balancer.addresses:
            self.logger.info(
                "{number} demo destinations answer with their name; try several times: "
                "{command}",
                number=self._number,
                command=tryOut(address),
            )

    def stopService(self) -> Deferred[None]:
        """
        Stop the balancer, then the destinations, which finish its sessions.
        """
        return ensureDeferred(self._stop())

    async def _stop(self) -> None:
        await self._balancer.stopService()
        await DeferredList(
            [maybeDeferred(cast(Any, port.stopListening)) for port in self._ports]
        )
        super().stopService()
