"""
A balancer between several servers and clients on real sockets.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.interfaces import IStreamServerEndpoint

from iawlb.backend.address import parseDestination
from iawlb.service import LoadBalancer
from tests.doubles import Recorder
from tests.net import LIMIT, Peer, Server, connected, reactor, until
from tests.rig import endpointOf


class Stage:
    """
    A balancer, its destinations, which are servers of the test, and clients.
    """

    def __init__(
        self, listeners: Iterable[str | IStreamServerEndpoint], settings: dict[str, Any]
    ) -> None:
        self.recorder = Recorder()
        self.balancer = LoadBalancer(
            reactor, listeners, observers=[self.recorder], **settings
        )
        self.servers: list[Server] = []
        self.clients: list[Peer] = []

    async def serve(
        self,
        name: str = "a",
        make: Callable[[], Peer] = Peer,
        endpoint: IStreamServerEndpoint | None = None,
    ) -> Server:
        """
        Start a server, and add it as a destination.
        """
        server = await Server(make).listen(endpoint)
        self.servers.append(server)
        self.balancer.add(endpointOf(server), name=name)
        return server

    async def client(self, make: Callable[[], Peer] = Peer, listener: int = 0) -> Peer:
        """
        Connect a client.

        @param listener: The position of the listener to connect to.
        """
        address = self.balancer.addresses[listener]
        _, endpoint = parseDestination(reactor, address, LIMIT)
        client = await connected(endpoint, make)
        self.clients.append(client)
        return client

    async def assertEchoed(self, client: Peer | None = None) -> None:
        """
        A client, by default a new one, is served in full by an L{Echo}.
        """
        await assertEchoed(client or await self.client())

    async def stop(self) -> None:
        """
        Stop the balancer without waiting for the sessions.
        """
        stopping = self.balancer.stopService()
        self.balancer.cutDrain()
        await stopping.addTimeout(LIMIT, reactor)

    async def close(self) -> None:
        """
        End everything.
        """
        await self.stop()
        for server in self.servers:
            await stopServer(server)
        for client in self.clients:
            if client.lost is None:
                client.reset()
            await client.closed()


async def assertEchoed(client: Peer, text: bytes = b"hello") -> None:
    """
    Send bytes from a client, and check that an L{Echo} sends all of them back.
    """
    client.write(text)
    client.end()
    await until(lambda: client.ended or client.lost)
    client.close()
    await client.closed()
    assert (bytes(client.received), client.wasReset) == (text, False)


async def stopServer(server: Server) -> None:
    """
    Stop a server, if it is not stopped yet.
    """
    if server.port.connected:
        await server.stop()


async def together(number: int, times: int, task: Callable[[], Awaitable[Any]]) -> None:
    """
    Do something many times, several at a time.

    @param number: How many at a time.
    @param times: How many times each.
    """

    async def some() -> None:
        for _ in range(times):
            await task()

    tasks = [Deferred.fromCoroutine(some()) for _ in range(number)]
    await gatherResults(tasks, consumeErrors=True).addTimeout(3 * LIMIT, reactor)


@asynccontextmanager
async def stage(
    *listeners: str | IStreamServerEndpoint, **settings: Any
) -> AsyncIterator[Stage]:
    """
    Run a balancer, which has no destination as yet.

    @param listeners: By default one, on a free port of 127.0.0.1.
    """
    default = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1", backlog=500)
    running = Stage(listeners or [default], settings)
    try:
        running.balancer.startService()
        yield running
    finally:
        await running.close()
