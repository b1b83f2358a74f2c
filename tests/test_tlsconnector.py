"""
Destinations over TLS, over real sockets.
"""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.endpoints import (
    TCP4ServerEndpoint,
    UNIXServerEndpoint,
    wrapServerTLS,
)
from twisted.internet.interfaces import INegotiated, IStreamServerEndpoint
from twisted.internet.ssl import PrivateCertificate
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementedBy

from iawlb.backend.tlsclient import TlsClient
from iawlb.backend.tlsconnector import TlsConnector
from iawlb.core.outcome import Outcome
from iawlb.errors import InvalidSetting
from iawlb.relay.context import RelayContext
from iawlb.relay.plain import PlainConnection
from iawlb.relay.side import Side
from iawlb.settings import DestinationSettings
from tests.doubles import Backend
from tests.net import Echo, Peer, reactor, until
from tests.pem import Issued
from tests.rig import Running, payload, rig

MIB = 1024 * 1024

# Twisted 26.10 uses what pyOpenSSL 26 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")


class Tls:
    """
    An authority, and servers with certificates of its.

    @ivar ca: The file of the authority.
    """

    def __init__(self, folder: Path) -> None:
        self.root = Issued("root", authority=True)
        self.ca = folder / "ca.pem"
        self.ca.write_bytes(self.root.pem)
        self.good = Issued("good", self.root, ["localhost"])
        self.old = Issued("old", self.root, ["localhost"], days=-0.5)

    def server(
        self, issued: Issued | None = None, plain: IStreamServerEndpoint | None = None
    ) -> IStreamServerEndpoint:
        """
        Make a server's endpoint.

        @param issued: Its certificate; by default a good one.
        """
        own = issued or self.good
        options = PrivateCertificate.loadPEM(own.keyPem + own.pem).options()
        four = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        return wrapServerTLS(options, plain or four)

    @property
    def settings(self) -> dict[str, Any]:
        """
        The settings of destinations that have such certificates.
        """
        return {"tls": True, "tlsCa": str(self.ca), "tlsName": "localhost"}


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    """
    Make one authority for all tests.
    """
    return Tls(tmp_path_factory.mktemp("tls"))


@pytest.mark.parametrize("relay", ["fast", "portable"])
@pytest_twisted.ensureDeferred
async def test_both(tls: Tls, tmp_path: Path, relay: str) -> None:
    """
    Much passes both ways at once between a plain client and a destination over TLS,
    whether a plain socket is connected first or an endpoint.
    """
    async with rig(
        relay, "tcp4", tmp_path, destinationListens=tls.server(), **tls.settings
    ) as on:
        client = await on.client()
        destination = await on.server.peer()
        up, down = payload(2 * MIB + 1, 1), payload(2 * MIB + 2, 2)
        client.write(up)
        destination.write(down)
        assert await destination.got(len(up)) == up
        assert await client.got(len(down)) == down
        destination.close()
        await until(lambda: client.ended or client.lost)
        client.close()
        assert await on.outcome() is Outcome.DONE
        assert (on.records.ended[0].bytesIn, on.records.ended[0].bytesOut) == (
            len(up),
            len(down),
        )


@pytest_twisted.ensureDeferred
async def test_unix(tls: Tls, tmp_path: Path) -> None:
    """
    TLS works over a Unix socket too.
    """
    plain = UNIXServerEndpoint(reactor, str(tmp_path / "server"))
    async with rig(
        "fast",
        "unix",
        tmp_path,
        Echo,
        destinationListens=tls.server(plain=plain),
        **tls.settings,
    ) as on:
        client = await on.client()
        client.write(b"hello")
        assert await client.got(5) == b"hello"


@pytest_twisted.ensureDeferred
async def test_speaksFirst(tls: Tls, tmp_path: Path) -> None:
    """
    What a destination sends along with the end of its handshake is not lost.
    """

    class Speaker(Peer):
        def connectionMade(self) -> None:
            super().connectionMade()
            self.write(b"welcome")

    async with rig(
        "fast",
        "tcp4",
        tmp_path,
        Speaker,
        destinationListens=tls.server(),
        **tls.settings,
    ) as on:
        client = await on.client()
        assert await client.got(7) == b"welcome"


async def reasonOf(on: Running) -> str:
    """
    Connect a client, and return why the destination is down then.
    """
    await on.client()
    (destination,) = on.balancer.destinations
    await until(lambda: destination.down is not None)
    assert on.balancer.waiting == 1
    return destination.down or ""


@pytest_twisted.ensureDeferred
async def test_expired(tls: Tls, tmp_path: Path) -> None:
    """
    A destination whose certificate is refused is down, and says why. Its client waits.
    Once the server has a better one, a probe finds that, and the client is served.
    """
    async with rig(
        "fast",
        "tcp4",
        tmp_path,
        Echo,
        destinationListens=tls.server(tls.old),
        **tls.settings,
    ) as on:
        why = await reasonOf(on)
        assert why.startswith("the TLS certificate is refused: it expired on ")
        port = on.server.port.getHost().port
        await on.server.stop()
        plain = TCP4ServerEndpoint(reactor, port, interface="127.0.0.1")
        await on.server.listen(tls.server(plain=plain))
        (client,) = on._clients
        client.write(b"hello")
        assert await client.got(5) == b"hello"


class Plain(Peer):
    """
    A server that speaks no TLS.
    """

    def dataReceived(self, data: bytes) -> None:
        """
        Answer what no TLS server would.
        """
        super().dataReceived(data)
        self.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")


class Closes(Peer):
    """
    A server that closes at once.
    """

    def dataReceived(self, data: bytes) -> None:
        """
        Close.
        """
        self.close()


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (Plain, "the TLS handshake failed: wrong version number (does it speak TLS"),
        (Closes, "the TLS handshake failed: the destination has closed the conn"),
        (Peer, "connected, but no TLS handshake within 0.3 s"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_noHandshake(
    tls: Tls, tmp_path: Path, make: type[Peer], why: str
) -> None:
    """
    A destination that speaks no TLS, closes, or says nothing, is down, and says why;
    the handshake has the time that a connect has.
    """
    async with rig(
        "fast", "tcp4", tmp_path, make, connectTimeout=0.3, **tls.settings
    ) as on:
        assert why in await reasonOf(on)


@pytest_twisted.ensureDeferred
async def test_clientLeaves(tls: Tls, tmp_path: Path) -> None:
    """
    A client that leaves during the handshake ends the connection to the destination.
    """
    async with rig("fast", "tcp4", tmp_path, **tls.settings) as on:
        client = await on.client()
        destination = await on.server.peer()
        await until(lambda: destination.received)
        client.reset()
        await destination.closed()
        assert await on.outcome() is Outcome.CLIENT_LEFT_CONNECT


@pytest_twisted.ensureDeferred
async def test_refused(tls: Tls, tmp_path: Path) -> None:
    """
    A destination that refuses is down as one without TLS is.
    """
    async with rig(
        "fast", "tcp4", tmp_path, destinationListens=tls.server(), **tls.settings
    ) as on:
        on.server.port.stopListening()
        assert "Connection was refused" in await reasonOf(on)
        await on.server.listen()


@asynccontextmanager
async def connector(tls: Tls, folder: Path, **more: Any) -> AsyncIterator[Any]:
    """
    Run a balancer, and give the connector of its destination.
    """
    async with rig("fast", "tcp4", folder, **tls.settings, **more) as on:
        (worker,) = on.balancer._pool.workers.values()
        assert isinstance(worker.connector, TlsConnector)
        yield on, worker.connector


@pytest_twisted.ensureDeferred
async def test_greeting(tls: Tls, tmp_path: Path) -> None:
    """
    A connect may send bytes in front of the handshake, such as a PROXY header.
    """
    async with connector(tls, tmp_path) as (on, to):
        connect = to.connect(lambda _: None, lambda _: None, b"PROXY UNKNOWN\r\n")
        destination = await on.server.peer()
        assert (await destination.got(17))[:16] == b"PROXY UNKNOWN\r\n\x16"
        connect.cancel()
        await destination.closed()


@pytest_twisted.ensureDeferred
async def test_resumed(tls: Tls, tmp_path: Path) -> None:
    """
    The second connection resumes the TLS session of the first.
    """
    async with connector(tls, tmp_path, destinationListens=tls.server()) as (on, to):
        sides: list[Side] = []
        failed: list[Failure] = []
        for number in range(2):
            to.connect(sides.append, failed.append)
            await until(lambda number=number: len(sides) > number)  # type: ignore[misc]
            (await on.server.peer(number)).write(b"x")
            sides[-1].resumeProducing()
            await until(lambda: sides[-1].early)
        assert not failed
        asked = [each.transport.getHandle().get_session() for each in sides]
        assert None not in asked
        for each in sides:
            each.abort()


@pytest_twisted.ensureDeferred
async def test_otherSettings(tls: Tls, tmp_path: Path) -> None:
    """
    Other settings hold from the next connect on; those that cannot be used change
    nothing. Other settings of the pool leave the TLS of a destination as it is.
    """
    async with rig(
        "fast", "tcp4", tmp_path, Echo, destinationListens=tls.server(), **tls.settings
    ) as on:
        pool = on.balancer._pool
        (worker,) = pool.workers.values()
        own, before = worker.destination.settings, worker.connector
        broken = replace(own, tlsCa="/none")
        with pytest.raises(InvalidSetting, match="cannot read '/none'"):
            pool.configureDestination(own.name, broken)
        assert (worker.destination.settings, worker.connector) == (own, before)
        pool.configure(replace(pool.settings, connectTimeout=1))
        assert worker.connector is not before
        assert worker.connector.client is before.client
        other = replace(own, tlsName="other.example")
        pool.configureDestination(own.name, other)
        assert "is for localhost, and not for other.example" in await reasonOf(on)
        pool.configureDestination(own.name, own)
        (client,) = on._clients
        client.write(b"hello")
        assert await client.got(5) == b"hello"


@pytest_twisted.ensureDeferred
async def test_raises(
    tls: Tls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    If TLS cannot be begun, the connect has failed, and its socket is closed.
    """

    def broken(*_: object) -> None:
        raise MemoryError("no room")

    async with connector(tls, tmp_path) as (on, to):
        monkeypatch.setattr(to.client, "connection", broken)
        failed: list[Failure] = []
        to.connect(lambda _: None, failed.append)
        await until(lambda: failed)
        failed[0].trap(MemoryError)
        await (await on.server.peer()).closed()


@pytest_twisted.ensureDeferred
async def test_interfaces(tls: Tls, tmp_path: Path) -> None:
    """
    A connection is known to be TLS whatever zope.interface knows of the transport below
    it: it keeps what it has found of that class.
    """
    implementedBy(PlainConnection)
    async with connector(tls, tmp_path, destinationListens=tls.server()) as (_, to):
        sides: list[Side] = []
        to.connect(sides.append, lambda _: None)
        await until(lambda: sides)
        assert sides[0].secure
        assert INegotiated.providedBy(sides[0].transport)
        sides[0].abort()


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest_twisted.ensureDeferred
async def test_proxy(tls: Tls, tmp_path: Path, version: str) -> None:
    """
    The header of the PROXY protocol comes in front of TLS, for a probe too, and once.
    """
    async with rig("fast", "tcp4", tmp_path, sendProxy=version, **tls.settings) as on:
        await on.client()
        destination = await on.server.peer()
        await until(lambda: len(destination.received) > 200)
        header, _, rest = bytes(destination.received).partition(b"\x16\x03")
        start = b"PROXY TCP4 127.0.0.1" if version == "v1" else b"\r\n\r\n\0\r\nQUIT\n!"
        assert header.startswith(start)
        assert rest and start not in rest
        (worker,) = on.balancer._pool.workers.values()
        worker.goDown("for the test")
        probed = await on.server.peer(1)
        await until(lambda: len(probed.received) > 200)
        start = (
            b"PROXY UNKNOWN\r\n\x16" if version == "v1" else start[:12] + b"\x20\0\0\0"
        )
        assert bytes(probed.received).startswith(start)


def test_noConnection(tls: Tls) -> None:
    """
    An endpoint that does not connect in time has not come to the handshake.
    """
    clock, backend = Clock(), Backend()
    backend.hold = True
    client = TlsClient(clock, DestinationSettings(**tls.settings), "localhost")
    to = TlsConnector(None, clock, backend, 2.0, RelayContext(4096), None, client)
    failed: list[Failure] = []
    assert to.connect(lambda _: None, failed.append) is not None
    clock.advance(2)
    assert "no connection within 2 s" in failed[0].getErrorMessage()
    assert backend.cancelled == 1


@pytest_twisted.ensureDeferred
async def test_noCycle(tls: Tls, tmp_path: Path) -> None:
    """
    A session that has ended leaves nothing for the garbage collector to find.
    """
    async with rig(
        "fast", "tcp4", tmp_path, Echo, destinationListens=tls.server(), **tls.settings
    ) as on:

        async def serve(text: bytes) -> None:
            client = await on.client()
            client.write(text)
            assert await client.got(len(text)) == text
            client.close()
            await client.closed()

        await serve(b"first")
        await on.ended(1)
        gc.collect()
        gc.disable()
        try:
            for number in range(2, 5):
                await serve(b"again")
                await on.ended(number)
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
            ours = [each for each in gc.garbage if type(each).__module__ in OURS]
            assert ours == []
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()


OURS = ("iawlb.backend.tlsconnector", "iawlb.backend.tlsclient", "iawlb.relay.side")
