"""
TLS on either side of a session, over real sockets.
"""

from __future__ import annotations

import os
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    clientFromString,
    wrapClientTLS,
    wrapServerTLS,
)
from twisted.internet.interfaces import IStreamClientEndpoint, IStreamServerEndpoint
from twisted.internet.ssl import Certificate, PrivateCertificate, optionsForClientTLS
from twisted.internet.threads import deferToThread

from iawlb.backend.socketconnector import PlainEndpoint
from iawlb.core.outcome import Outcome
from iawlb.relay.portable import PortableRelay
from tests.net import LIMIT, Echo, Peer, Server, freePort, pause, reactor, until
from tests.pem import Issued
from tests.rig import payload, rig

MIB = 1024 * 1024

# Twisted 26.10 uses what pyOpenSSL 26 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")


class Tls:
    """
    A self-signed certificate of C{localhost}, and endpoints that use it.

    @ivar path: A PEM file of the key and the certificate.
    """

    def __init__(self, directory: Path) -> None:
        issued = Issued("localhost", hosts=["localhost"], authority=True)
        self.path = directory / "localhost.pem"
        self.path.write_bytes(issued.keyPem + issued.pem)

    def client(
        self, endpoint: IStreamClientEndpoint, name: str = "localhost"
    ) -> IStreamClientEndpoint:
        """
        Put TLS over a client's endpoint.

        @param name: The name that is expected.
        """
        trusted = Certificate.loadPEM(self.path.read_bytes())
        return wrapClientTLS(optionsForClientTLS(name, trusted), endpoint)

    def server(self) -> IStreamServerEndpoint:
        """
        Make a server's endpoint with TLS.
        """
        own = PrivateCertificate.loadPEM(self.path.read_bytes())
        plain = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        return wrapServerTLS(own.options(), plain)

    def string(self) -> str:
        """
        Write the address of a TLS listener.
        """
        return (
            f"ssl:{freePort()}:interface=127.0.0.1:privateKey={self.path}"
            f":certKey={self.path}"
        )


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    """
    Make one certificate for all tests.
    """
    return Tls(tmp_path_factory.mktemp("tls"))


async def talk(client: Peer, destination: Peer) -> None:
    """
    Send much both ways at once, then end in order from the client.
    """
    up, down = payload(3 * MIB + 1, 1), payload(3 * MIB + 2, 2)
    for start in range(0, len(down), 100_001):
        client.write(up[start : start + 100_001])
        destination.write(down[start : start + 100_001])
    assert await destination.got(len(up)) == up
    assert await client.got(len(down)) == down
    client.close()
    await until(lambda: destination.ended or destination.lost)
    assert not destination.wasReset
    destination.close()
    await client.closed()
    assert not client.wasReset


@pytest_twisted.ensureDeferred
async def test_probe(tls: Tls, tmp_path: Path) -> None:
    """
    A probe over TLS is closed once it has succeeded, and keeps no descriptor.
    """
    async with rig(
        "portable", "tcp4", tmp_path, destinationListens=tls.server(), wrap=tls.client
    ) as on:
        before = len(os.listdir("/proc/self/fd"))
        (worker,) = on.balancer._pool.workers.values()
        worker.goDown("refused")
        (destination,) = on.balancer.destinations
        await until(lambda: destination.down is None)
        peer = await on.server.peer()
        await peer.closed()
        await until(lambda: len(os.listdir("/proc/self/fd")) == before)


@pytest_twisted.ensureDeferred
async def test_silent(tls: Tls, tmp_path: Path) -> None:
    """
    Sockets that connect to a TLS listener and send nothing are ended after the
    handshake time-out, also when they take all the room and no client was served
    before: then other clients are served.
    """
    async with rig(
        "portable",
        "tcp4",
        tmp_path,
        listener=tls.string(),
        handshakeTimeout=0.1,
        maxConnections=3,
    ) as on:
        silent = [await on.client() for _ in range(3)]
        honest = await on.client(wrap=tls.client)
        await talk(honest, await on.server.peer())
        for each in silent:
            await each.closed()
        outcomes = [(await on.ended(number)).outcome for number in (1, 2, 3, 4)]
        assert outcomes == [Outcome.HANDSHAKE_TIMEOUT] * 3 + [Outcome.DONE]


@pytest_twisted.ensureDeferred
async def test_firstByte(tls: Tls, tmp_path: Path) -> None:
    """
    Where clients enter the queue by their first byte, the first decrypted byte counts:
    clients that have finished their handshake and send nothing hold up no other client,
    and are closed after a while.
    """
    async with rig(
        "portable",
        "tcp4",
        tmp_path,
        listener=tls.server(),
        takeSlot="first-byte",
        handshakeTimeout=0.5,
        slots=1,
    ) as on:
        silent, later = [await on.client(wrap=tls.client) for _ in range(2)]
        speaking = await on.client(wrap=tls.client)
        speaking.write(b"hello")
        destination = await on.server.peer()
        assert await destination.got(5) == b"hello"
        later.write(b"hello too")
        await until(lambda: on.balancer.waiting == 1)
        await silent.closed()
        assert await on.outcome() is Outcome.FIRST_BYTE_TIMEOUT
        destination.close()
        following = await on.server.peer(1)
        assert await following.got(9) == b"hello too"
        following.close()
        await later.closed()


@pytest.mark.parametrize("abortOnClose", [False, True])
@pytest_twisted.ensureDeferred
async def test_endInTheQueue(tls: Tls, tmp_path: Path, abortOnClose: bool) -> None:
    """
    A TLS client that closes while it waits keeps its place, since the end of TLS is
    something to be read; unless users say that every end means that the client has
    left.
    """
    async with rig(
        "portable",
        "tcp4",
        tmp_path,
        listener=tls.server(),
        slots=1,
        abortOnClose=abortOnClose,
    ) as on:
        first = await on.client(wrap=tls.client)
        destination = await on.server.peer()
        waits = await on.client(wrap=tls.client)
        await until(lambda: on.balancer.waiting == 1)
        waits.close()
        # Closed, it would reset what it has not read, such as TLS tickets.
        below(waits).loseWriteConnection()
        if abortOnClose:
            assert await on.outcome() is Outcome.CLIENT_LEFT_QUEUE
        first.close()
        await until(lambda: destination.ended or destination.lost)
        destination.close()
        if not abortOnClose:
            (await on.server.peer(1)).close()
        await until(lambda: on.balancer.sessions == [])
        assert len(on.server.peers) == (1 if abortOnClose else 2)


@pytest_twisted.ensureDeferred
async def test_keepAlive(tls: Tls, tmp_path: Path) -> None:
    """
    The kernel also probes whether a TLS client is still there.
    """
    async with rig("fast", "tcp4", tmp_path, listener=tls.server()) as on:
        await on.client(wrap=tls.client)
        await on.server.peer()
        assert on.session.relay is not None
        ours, _ = on.session.relay.sockets()
        assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60


@pytest.mark.parametrize("form", ["file", "folder", "wrapped"])
@pytest_twisted.ensureDeferred
async def test_listener(tls: Tls, tmp_path: Path, form: str) -> None:
    """
    A listener takes TLS off: the destination gets and sends plain bytes, and the
    client's end is an end.
    """
    listener: Any = tls.server()
    if form == "file":
        listener = tls.string()
    elif form == "folder":
        listener = f"tls:{tls.path.parent}:{freePort()}:interface=127.0.0.1"
    async with rig("portable", "tcp4", tmp_path, listener=listener) as on:
        client = await on.client(wrap=tls.client)
        await talk(client, await on.server.peer())
        assert await on.outcome() is Outcome.DONE


def askBehindHeader(port: int, path: Path) -> bytes:
    """
    Ask as a proxy does that puts a header in front of a client's TLS.
    """
    context = ssl.create_default_context(cafile=str(path))
    with socket.create_connection(("127.0.0.1", port), LIMIT) as plain:
        plain.sendall(b"PROXY TCP4 192.0.2.7 192.0.2.8 1234 443\r\n")
        with context.wrap_socket(plain, server_hostname="localhost") as connection:
            connection.sendall(b"hello")
            said = connection.recv(5)
            connection.unwrap()
            return said


@pytest_twisted.ensureDeferred
async def test_behindProxy(tls: Tls, tmp_path: Path) -> None:
    """
    A TLS listener behind haproxy: takes the header off that comes in front of TLS.
    """
    listener = f"haproxy:{tls.string()}"
    async with rig("portable", "tcp4", tmp_path, Echo, listener=listener) as on:
        port = int(on.balancer.addresses[0].rpartition(":")[2])
        asking = deferToThread(askBehindHeader, port, tls.path)
        assert await asking.addTimeout(LIMIT, reactor) == b"hello"
        assert await on.outcome() is Outcome.DONE


@pytest_twisted.ensureDeferred
async def test_destination(tls: Tls, tmp_path: Path) -> None:
    """
    A destination is spoken to in TLS.
    """
    async with rig(
        "portable",
        "tcp4",
        tmp_path,
        destinationListens=tls.server(),
        wrap=tls.client,
    ) as on:
        client, destination = await on.pair()
        await talk(client, destination)
        assert await on.outcome() is Outcome.DONE


@pytest_twisted.ensureDeferred
async def test_destinationString(tls: Tls, tmp_path: Path) -> None:
    """
    A destination may be a C{tls:} string, and both sides may be TLS.
    """

    def fromString(plain: IStreamClientEndpoint) -> IStreamClientEndpoint:
        """
        Write the destination as a user would.
        """
        assert isinstance(plain, PlainEndpoint)
        assert plain.target is not None
        port = plain.target.name[1]
        endpoint: IStreamClientEndpoint = clientFromString(
            reactor,
            f"tls:localhost:{port}:trustRoots={tls.path.parent}"
            f":endpoint=tcp\\:127.0.0.1\\:{port}",
        )
        return endpoint

    async with rig(
        "portable",
        "tcp4",
        tmp_path,
        listener=tls.server(),
        destinationListens=tls.server(),
        wrap=fromString,
    ) as on:
        client = await on.client(wrap=tls.client)
        await talk(client, await on.server.peer())
        assert await on.outcome() is Outcome.DONE


@pytest_twisted.ensureDeferred
async def test_plainDestination(tls: Tls, tmp_path: Path) -> None:
    """
    TLS clients are served by a plain destination too where the fast relay is
    wanted, which is not for them.
    """
    async with rig("fast", "tcp4", tmp_path, listener=tls.server()) as on:
        client = await on.client(wrap=tls.client)
        destination = await on.server.peer()
        assert isinstance(on.session.relay, PortableRelay)
        await talk(client, destination)
        assert await on.outcome() is Outcome.DONE


@pytest_twisted.ensureDeferred
async def test_destinationCloses(tls: Tls, tmp_path: Path) -> None:
    """
    A TLS client gets all the bytes that a destination sent before it closed, and an end
    in order.
    """
    async with rig("portable", "tcp4", tmp_path, listener=tls.server()) as on:
        for number, size in enumerate((1, 16384, 65537, 2 * MIB)):
            client = await on.client(wrap=tls.client)
            destination = await on.server.peer(number)
            destination.write(payload(size))
            destination.close()
            await client.closed()
            assert not client.wasReset
            assert client.received == payload(size)
            assert await on.outcome(number + 1) is Outcome.DONE


@pytest_twisted.ensureDeferred
async def test_tlsDestinationCloses(tls: Tls, tmp_path: Path) -> None:
    """
    When a TLS destination closes, the client gets its end, and may go on sending, into
    the void, until it closes too.
    """
    async with rig(
        "portable",
        "tcp4",
        tmp_path,
        destinationListens=tls.server(),
        wrap=tls.client,
    ) as on:
        client, destination = await on.pair()
        destination.write(payload(MIB))
        destination.close()
        await until(lambda: client.ended)
        assert client.received == payload(MIB)
        client.write(payload(2 * MIB))
        client.end()
        assert await on.outcome() is Outcome.DONE
        client.close()
        await client.closed()
        assert not client.wasReset


@pytest_twisted.ensureDeferred
async def test_reset(tls: Tls, tmp_path: Path) -> None:
    """
    A destination's reset is a reset for a TLS client too, behind the bytes that
    came before; a cut answer has no end in order.
    """
    sizes = (0, 1, 100_000, 2 * MIB, *range(1000, 60_000, 3000))
    async with rig("portable", "tcp4", tmp_path, listener=tls.server()) as on:
        for number, size in enumerate(sizes):
            client = await on.client(wrap=tls.client)
            destination = await on.server.peer(number)
            if size in sizes[:4]:
                destination.write(payload(size))
                session = on.session
                await until(lambda s=session, n=size: s.bytesOut == n)  # type: ignore[misc]
            else:
                # Both come in one turn of the reactor.
                destination.transport.getHandle().sendall(payload(size))
            destination.reset()
            await client.closed()
            assert client.wasReset
            assert client.received == payload(size)
            assert await on.outcome(number + 1) is Outcome.DESTINATION_RESET


def below(peer: Peer) -> Any:
    """
    Return the TCP transport below a peer's TLS.
    """
    return peer.transport.transport


@pytest.mark.parametrize("size", [0, 1, 16_384, 100_000, 2 * MIB])
@pytest_twisted.ensureDeferred
async def test_noCloseNotify(tls: Tls, tmp_path: Path, size: int) -> None:
    """
    A TLS destination that ends without TLS's own end, as gunicorn and Python's ssl
    do, has ended: the client gets all of the answer and an end in order.
    """
    async with rig(
        "portable",
        "tcp4",
        tmp_path,
        destinationListens=tls.server(),
        wrap=tls.client,
    ) as on:
        client, destination = await on.pair()
        client.write(b"ask")
        await destination.got(3)
        destination.write(payload(size))
        # TLS writes in the next turn.
        await pause(0)
        below(destination).loseConnection()
        await until(lambda: client.ended or client.lost)
        assert client.received == payload(size)
        client.close()
        await client.closed()
        assert not client.wasReset
        # Nothing at all is no answer, though.
        assert await on.outcome() is (Outcome.DONE if size else Outcome.UNANSWERED)


@pytest_twisted.ensureDeferred
async def test_clientWithoutCloseNotify(tls: Tls, tmp_path: Path) -> None:
    """
    A TLS client that leaves without TLS's own end, as browsers and curl do, has
    ended: that is an end for the destination too.
    """
    async with rig("portable", "tcp4", tmp_path, listener=tls.string()) as on:
        client = await on.client(wrap=tls.client)
        destination = await on.server.peer()
        client.write(b"ask")
        await destination.got(3)
        destination.write(b"answer")
        await client.got(6)
        below(client).loseConnection()
        await until(lambda: destination.ended or destination.lost)
        destination.close()
        await destination.closed()
        assert not destination.wasReset
        assert await on.outcome() is Outcome.DONE


@pytest.mark.parametrize("how", ["within a record", "reset", "strict"])
@pytest_twisted.ensureDeferred
async def test_cutShort(tls: Tls, tmp_path: Path, how: str) -> None:
    """
    A TLS destination that stops within a record, or is reset, was cut: the client
    is reset. With strictTls so was one that ends without TLS's own end.
    """
    async with rig(
        "portable",
        "tcp4",
        tmp_path,
        destinationListens=tls.server(),
        wrap=tls.client,
        strictTls=how == "strict",
    ) as on:
        client, destination = await on.pair()
        destination.write(b"half an ans")
        await client.got(11)
        if how == "within a record":
            below(destination).write(b"\x17\x03\x03\x40\x00" + bytes(1000))
        if how == "reset":
            below(destination).abortConnection()
        else:
            below(destination).loseConnection()
        await client.closed()
        assert client.wasReset
        assert client.received == b"half an ans"
        assert await on.outcome() is Outcome.DESTINATION_RESET


@pytest.mark.parametrize("how", ["within a record", "reset", "strict"])
@pytest_twisted.ensureDeferred
async def test_clientCutShort(tls: Tls, tmp_path: Path, how: str) -> None:
    """
    So it is with a TLS client: the destination is reset.
    """
    async with rig(
        "portable",
        "tcp4",
        tmp_path,
        listener=tls.string(),
        strictTls=how == "strict",
    ) as on:
        client = await on.client(wrap=tls.client)
        destination = await on.server.peer()
        client.write(b"half a req")
        await destination.got(10)
        if how == "within a record":
            below(client).write(b"\x17\x03\x03\x40\x00" + bytes(1000))
        if how == "reset":
            below(client).abortConnection()
        else:
            below(client).loseConnection()
        await destination.closed()
        assert destination.wasReset
        assert destination.received == b"half a req"
        assert await on.outcome() is Outcome.CLIENT_RESET


def answerAtEnd(listening: socket.socket, path: Path) -> None:
    """
    Serve one TLS connection with the standard library: answer after the end.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    listening.settimeout(LIMIT)
    accepted = listening.accept()[0]
    accepted.settimeout(LIMIT)
    with context.wrap_socket(accepted, server_side=True) as connection:
        received = 0
        while data := connection.recv(65536):
            received += len(data)
        connection.sendall(b"%d bytes" % received)
        connection.unwrap().close()


@pytest_twisted.ensureDeferred
async def test_halfClose(tls: Tls, tmp_path: Path) -> None:
    """
    A client that ends its request still gets the answer of a TLS destination
    that waits for the end.
    """
    with socket.create_server(("127.0.0.1", 0)) as listening:
        serving = deferToThread(answerAtEnd, listening, tls.path)
        number = listening.getsockname()[1]
        plain = TCP4ClientEndpoint(reactor, "127.0.0.1", number)
        async with rig(
            "portable", "tcp4", tmp_path, wrap=lambda _: tls.client(plain)
        ) as on:
            client = await on.client()
            client.write(payload(MIB))
            client.end()
            await until(lambda: client.ended or client.lost)
            assert client.received == b"%d bytes" % MIB
            assert not client.wasReset
            client.close()
            assert await on.outcome() is Outcome.DONE
        await serving.addTimeout(LIMIT, reactor)


class Refuses(Peer):
    """
    Cannot speak TLS.
    """

    def connectionMade(self) -> None:
        """
        Say something else.
        """
        self.write(b"500 go away\r\n")
        self.close()


@pytest.mark.parametrize("why", ["no TLS", "another name"])
@pytest_twisted.ensureDeferred
async def test_destinationsHandshakeFails(tls: Tls, tmp_path: Path, why: str) -> None:
    """
    A destination whose TLS handshake fails is down; the client keeps its place
    in the queue and is served by another.
    """
    name = "example.org" if why == "another name" else "localhost"
    async with rig(
        "portable",
        "tcp4",
        tmp_path,
        Refuses if why == "no TLS" else Peer,
        destinationListens=None if why == "no TLS" else tls.server(),
        wrap=lambda endpoint: tls.client(endpoint, name),
        backoff=60,
        backoffMax=60,
    ) as on:
        client = await on.client()
        client.write(b"request")
        bad = on.balancer.destinations[0]
        await until(lambda: bad.down)
        assert on.balancer.waiting == 1
        assert bad.active == 0
        good = await Server().listen(tls.server())
        try:
            number = good.number
            plain = TCP4ClientEndpoint(reactor, "127.0.0.1", number)
            on.balancer.add(tls.client(plain), name="good")
            destination = await good.peer()
            await destination.got(7)
            destination.write(b"answer")
            assert await client.got(6) == b"answer"
            assert on.session.destination == "good"
            client.reset()
            await on.ended()
        finally:
            await good.stop()


@pytest_twisted.ensureDeferred
async def test_clientsHandshakeTakesTooLong(tls: Tls, tmp_path: Path) -> None:
    """
    A client that never finishes its TLS handshake is closed after a while, and
    takes no slot meanwhile: others are served.
    """
    async with rig(
        "portable",
        "tcp4",
        tmp_path,
        listener=tls.server(),
        handshakeTimeout=0.3,
        slots=1,
    ) as on:
        silent = await on.client()
        client = await on.client(wrap=tls.client)
        destination = await on.server.peer()
        destination.write(b"hello")
        await client.got(5)
        await silent.closed()
        ended = await on.ended()
        assert ended.outcome is Outcome.HANDSHAKE_TIMEOUT
        assert (ended.number, ended.tries) == (1, 0)
        assert len(on.server.peers) == 1


@pytest_twisted.ensureDeferred
async def test_clientsHandshakeFails(tls: Tls, tmp_path: Path) -> None:
    """
    A client that does not speak TLS is closed, and never waits in the queue.
    """
    async with rig("portable", "tcp4", tmp_path, listener=tls.server()) as on:
        client = await on.client()
        client.write(b"GET / HTTP/1.0\r\n\r\n")
        assert await on.outcome() is Outcome.CLIENT_LEFT_HANDSHAKE
        await until(lambda: client.ended or client.lost)
        assert not on.server.peers
