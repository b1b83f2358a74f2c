"""
Tests for destinations that are told who the client is.
"""

from __future__ import annotations

import errno
import socket
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import ConnectError
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from iawlb.backend.socketconnector import SocketConnector, Target
from iawlb.core.clientinfo import TlsInfo
from iawlb.core.outcome import Outcome
from iawlb.core.session import Session
from iawlb.errors import InvalidSetting
from iawlb.proxyprotocol.header import Header
from iawlb.proxyprotocol.reading import HeaderReader
from iawlb.proxyprotocol.tlvs import SSL, Ssl, readSsl
from iawlb.relay.fast import FastRelay
from iawlb.relay.poller import SocketPoller
from iawlb.settings import DestinationSettings, Settings
from iawlb.workers.greeting import greetingOf
from tests.doubles import Backend, Rig, session
from tests.net import listening, until
from tests.rig import RELAYS, rig
from tests.test_proxyheaders import read

CLIENT = IPv4Address("TCP", "192.0.2.1", 1234)
LOCAL = IPv4Address("TCP", "192.0.2.2", 80)
LINE = b"PROXY TCP4 192.0.2.1 192.0.2.2 1234 80\r\n"


def known(**what: Any) -> Session:
    """
    Make a session of which something is known.
    """
    one = session(1)
    one.address = CLIENT
    info = one.learn()
    info.local = LOCAL
    for name, value in what.items():
        setattr(info, name, value)
    return one


def said(one: Session, tlvs: str) -> dict[int, bytes]:
    """
    Return what the header for a session says besides the addresses.
    """
    make = greetingOf(DestinationSettings(sendProxy="v2", proxyTlvs=tlvs))  # type: ignore[arg-type]
    assert make is not None
    header, rest = read(make(one))
    assert header is not None and not rest
    return dict(header.tlvs)


class SettingTests(SynchronousTestCase):
    """
    The settings.
    """

    def test_words(self) -> None:
        """
        What a header says besides is given as a list or with commas, in any order.
        """
        for given in ("crc32c, unique-id", ["crc32c", "unique-id", "crc32c"]):
            settings = Settings(proxyTlvs=given)  # type: ignore[arg-type]
            self.assertEqual(settings.proxyTlvs, ("unique-id", "crc32c"))
        self.assertEqual(Settings().proxyTlvs, ())

    def test_wrong(self) -> None:
        """
        A wrong word is named, and those that are right.
        """
        for wrong, says in (
            ({"proxyTlvs": "sni"}, "proxyTlvs: 'sni' is not one of unique-id, auth"),
            ({"proxyTlvs": 5}, "proxyTlvs: 5 is not a list of words"),
            ({"sendProxy": "v3"}, "sendProxy: 'v3' is not one of off, v1, v2"),
        ):
            error = self.assertRaises(InvalidSetting, DestinationSettings, **wrong)
            self.assertIn(says, str(error))


class HeaderTests(SynchronousTestCase):
    """
    What the headers say.
    """

    def test_nothing(self) -> None:
        """
        A destination that asks for none gets no header.
        """
        self.assertIsNone(greetingOf(DestinationSettings()))

    def test_authorityAndProtocol(self) -> None:
        """
        The name that the client asked for, and the protocol agreed upon, are said if
        they are known.
        """
        one = known(serverName="example.org", protocol="h2")
        self.assertEqual(said(one, "authority,alpn"), {1: b"h2", 2: b"example.org"})
        self.assertEqual(said(one, "alpn"), {1: b"h2"})
        self.assertEqual(said(known(), "authority,alpn,ssl"), {})

    def test_tls(self) -> None:
        """
        The client's TLS is described, and a certificate counts as verified only if it
        was shown and found right.
        """
        version = (0x21, b"TLSv1.3"), (0x23, b"AES")
        for info, ssl in (
            (TlsInfo("TLSv1.3", "AES"), Ssl(True, False, False, version)),
            (
                TlsInfo("TLSv1.3", "AES", "me", True),
                Ssl(True, True, True, (*version, (0x22, b"me"))),
            ),
            (
                TlsInfo("TLSv1.3", "AES", "me"),
                Ssl(True, True, False, (*version, (0x22, b"me"))),
            ),
        ):
            self.assertEqual(readSsl(said(known(tls=info), "ssl")[SSL]), ssl)

    def test_tlsOfAHeader(self) -> None:
        """
        What a header has said of the client's TLS is said again as it was.
        """
        one = known(tlvs=((1, b"h2"), (SSL, b"\1\0\0\0\0"), (0xEA, b"x")))
        self.assertEqual(said(one, "ssl"), {SSL: b"\1\0\0\0\0"})

    def test_long(self) -> None:
        """
        No name is longer than receivers take.
        """
        one = known(
            serverName="x" * 999,
            protocol="y" * 999,
            tls=TlsInfo("TLSv1.3", "AES", "z" * 999),
        )
        for value in said(one, "authority,alpn,ssl").values():
            self.assertLess(len(value), 300)

    def test_uniqueId(self) -> None:
        """
        Each connection has an id of its own, which stays when another destination is
        tried. An id that a header has given is passed on.
        """
        one, other = known(), known()
        ids = [said(each, "unique-id")[5] for each in (one, other, one)]
        self.assertEqual(ids[0], ids[2])
        self.assertNotEqual(ids[0], ids[1])
        assert one.info is not None
        self.assertEqual(one.info.uniqueId, ids[0])
        self.assertEqual(said(known(uniqueId=b"given"), "unique-id"), {5: b"given"})

    def test_checksum(self) -> None:
        """
        A checksum is added if it is asked for; the reader has found it right.
        """
        self.assertEqual(list(said(known(), "crc32c")), [3])

    def test_noAddress(self) -> None:
        """
        A client without an IP address gets the header of the balancer itself.
        """
        one = known(serverName="x")
        one.address = UNIXAddress(b"/run/x")
        self.assertEqual(said(one, "unique-id,authority"), {})
        assert one.info is not None
        self.assertIsNone(one.info.uniqueId)

    def test_ofTheHeader(self) -> None:
        """
        A client that a header has named is named with the addresses of that header.
        """
        one = known(local=IPv6Address("TCP", "2001:db8::2", 443))
        one.address = IPv6Address("TCP", "2001:db8::1", 5)
        make = greetingOf(DestinationSettings(sendProxy="v1"))
        assert make is not None
        self.assertEqual(make(one), b"PROXY TCP6 2001:db8::1 2001:db8::2 5 443\r\n")


class ServingTests(SynchronousTestCase):
    """
    Sessions that begin with a header, over any transport.
    """

    def test_first(self) -> None:
        """
        The header is written before the client's first byte, and counts for neither
        direction.
        """
        on = Rig(sendProxy="v1")
        client = on.client()
        client.receive(b"hello")
        (wire,) = on.backends[0].wires
        self.assertEqual(wire.written, LINE + b"hello")
        (one,) = on.balancer.sessions
        self.assertEqual((one.bytesIn, one.bytesOut), (5, 0))

    def test_beforeTheClientSpeaks(self) -> None:
        """
        A destination that speaks first has its header without the client's doing.
        """
        on = Rig(sendProxy="v2")
        client = on.client()
        (wire,) = on.backends[0].wires
        self.assertEqual(read(wire.written), (Header(2, CLIENT, LOCAL), b""))
        wire.receive(b"220 hello")
        self.assertEqual(client.written, b"220 hello")

    def test_own(self) -> None:
        """
        A destination may have another header than its pool says, or none.
        """
        on = Rig(0, sendProxy="v1")
        begun: dict[Any, bytes] = {"off": b"", "v1": b"PROXY", "v2": b"\r\n\r\n\0"}
        for own, first in begun.items():
            backend = Backend()
            on.balancer.add(backend, name=own, sendProxy=own)
            on.client()
            self.assertEqual(backend.wires[0].written[:5], first)
            on.balancer.pause(own)

    def test_measured(self) -> None:
        """
        Headers go with policies that want to know how fast a destination answers.
        """
        on = Rig(2, sendProxy="v2", proxyTlvs="authority,crc32c", policy="quick")
        on.client().receive(b"hello")
        on.client().receive(b"hello")
        for backend in on.backends:
            header, behind = read(backend.wires[0].written)
            assert header is not None
            self.assertEqual(
                ([each[0] for each in header.tlvs], behind), ([3], b"hello")
            )
            times = on.balancer._pool.workers["a"].destination.times
            self.assertIsNotNone(times)

    def test_changed(self) -> None:
        """
        When the setting changes, the sessions that come from then on have the other
        header.
        """
        on = Rig(1)
        on.client()
        pool = on.balancer._pool
        for version in ("v1", "off"):
            pool.configureDestination(
                "a", DestinationSettings(name="a", sendProxy=version)
            )
            on.client()
        written = [wire.written for wire in on.backends[0].wires]
        self.assertEqual(written, [b"", LINE, b""])

    def test_changedMeanwhile(self) -> None:
        """
        The setting counts that holds when the destination is connected.
        """
        on = Rig(1, sendProxy="v1")
        on.backends[0].hold = True
        on.client()
        own = DestinationSettings(name="a")
        on.balancer._pool.configureDestination("a", own)
        self.assertEqual(on.backends[0].succeed().written, b"")

    def test_again(self) -> None:
        """
        A client that is put back has one header with the destination that takes it.
        """
        on = Rig(2, sendProxy="v1")
        on.backends[0].refuse = ConnectError()
        on.client()
        self.assertEqual(on.backends[1].wires[0].written, LINE)

    def test_raises(self) -> None:
        """
        A transport that cannot be written to ends its own session alone.
        """
        on = Rig(1, sendProxy="v1")
        on.backends[0].hold = True
        client = on.client()
        (factory, _) = on.backends[0].pending[0]

        def fails(data: bytes) -> None:
            raise MemoryError

        side = factory.buildProtocol(CLIENT)
        on.backends[0].pending[0] = (self.fake(side), on.backends[0].pending[0][1])
        assert side is not None
        side.write = fails
        wire = on.backends[0].succeed()
        self.assertEqual((client.closing, wire.closing), ("abort", "abort"))
        client.lose()
        wire.lose()
        self.assertEqual(on.recorder.outcomes, {1: Outcome.FAILED})
        self.assertEqual(len(self.flushLoggedErrors(MemoryError)), 1)
        self.assertEqual(on.balancer.destinations[0].active, 0)

    def fake(self, side: Any) -> Any:
        """
        Make a factory of one protocol.
        """

        class Factory:
            def buildProtocol(self, addr: Any) -> Any:
                return side

        return Factory()

    def test_beforeTls(self) -> None:
        """
        Before TLS the connector sends the header: it is not for what comes after the
        handshake.
        """
        on = Rig(1, sendProxy="v1")
        worker = on.balancer._pool.workers["a"]
        connector: Any = worker.connector
        connector.client = object()
        worker.connectBy(connector)
        greetings: list[bytes] = []
        connect = connector.connect

        def connected(onConnected: Any, onFailed: Any, greeting: bytes) -> Any:
            greetings.append(greeting)
            return connect(onConnected, onFailed)

        connector.connect = connected
        on.client().receive(b"hello")
        self.assertEqual(greetings, [LINE])
        self.assertEqual(on.backends[0].wires[0].written, b"hello")


class SocketTests(SynchronousTestCase):
    """
    First bytes on plain sockets.
    """

    def setUp(self) -> None:
        poller = SocketPoller(MemoryReactorClock(), 1024)
        self.sockets = SocketConnector(MemoryReactorClock(), poller, 5)

    def pair(self, family: int = socket.AF_INET) -> tuple[Any, Any]:
        """
        Connect two sockets.
        """
        if family == socket.AF_UNIX:
            ends: tuple[Any, Any] = socket.socketpair()
        else:
            with socket.create_server(("127.0.0.1", 0)) as server:
                one = socket.create_connection(server.getsockname())
                ends = one, server.accept()[0]
        for each in ends:
            self.addCleanup(each.close)
            each.settimeout(10)
        return ends

    def test_sent(self) -> None:
        """
        The bytes are sent also if no others follow.
        """
        for family in (socket.AF_INET, socket.AF_UNIX):
            one, other = self.pair(family)
            self.sockets.sendFirst(one, b"header")
            self.assertEqual(other.recv(99), b"header")

    def test_together(self) -> None:
        """
        Within a round they wait for those that follow, and go together.
        """
        one, other = self.pair()
        closed, _ = self.pair()
        self.sockets.poller._inRound = True
        self.sockets.sendFirst(one, b"header ")
        self.sockets.sendFirst(closed, b"header")
        closed.close()
        other.setblocking(False)
        self.assertRaises(BlockingIOError, other.recv, 99)
        one.send(b"hello")
        other.settimeout(10)
        self.assertEqual(other.recv(99), b"header hello")
        self.sockets.sendFirst(one, b"alone")
        self.sockets._push()
        self.assertEqual(other.recv(99), b"alone")

    def test_withTheHandshake(self) -> None:
        """
        The third packet of the handshake, which is held back in the same round, goes
        with the bytes.
        """
        server = listening(self)
        self.sockets.poller._inRound = True
        where = Target(socket.AF_INET, server.getsockname())
        handle, error = self.sockets.begin(where)
        assert handle is not None
        self.addCleanup(handle.close)
        self.assertEqual((error, self.sockets._held), (0, [handle]))
        self.sockets.sendFirst(handle, b"header")
        self.assertEqual(self.sockets._held, [])
        self.sockets._release()
        self.sockets._push()
        peer, _ = server.accept()
        self.addCleanup(peer.close)
        self.assertEqual(peer.recv(99), b"header")

    def test_notAll(self) -> None:
        """
        A socket that takes a part of the header alone has failed: nothing may follow
        half a header.
        """
        one, _ = self.pair(socket.AF_UNIX)
        one.setblocking(False)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        error = self.assertRaises(
            OSError, self.sockets.sendFirst, one, b"x" * 1_000_000
        )
        self.assertEqual(error.errno, errno.ENOBUFS)


FAMILIES = ("tcp4", "tcp6", "unix")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("relay", RELAYS)
@pytest_twisted.ensureDeferred
async def test_overSockets(relay: str, family: str, tmp_path: Path) -> None:
    """
    Over sockets of each kind, by each relay, the destination reads who the client is,
    then its bytes, and answers.
    """
    async with rig(relay, family, tmp_path, sendProxy="v2") as running:
        client, server = await running.pair()
        client.write(b"hello")
        reader = HeaderReader()
        size = {"tcp4": 28, "tcp6": 52, "unix": 16}[family]
        got = await server.got(size + 5)
        assert reader.feed(got) == size
        assert got[size:] == b"hello"
        header = reader.header
        assert header is not None
        if family != "unix":
            assert header.source == client.transport.getHost()
            assert header.destination == client.transport.getPeer()
        server.write(b"answer")
        assert await client.got(6) == b"answer"
        if relay == "fast":
            assert isinstance(running.session.relay, FastRelay)
        client.end()
        server.close()
        assert await running.outcome() is Outcome.DONE


@pytest.mark.parametrize("relay", RELAYS)
@pytest_twisted.ensureDeferred
async def test_beforeSpeech(relay: str, tmp_path: Path) -> None:
    """
    A client that says nothing is announced all the same, so that a destination that
    speaks first can speak.
    """
    async with rig(relay, "tcp4", tmp_path, sendProxy="v1") as running:
        client, server = await running.pair()
        host = client.transport.getHost()
        line = await server.got(20)
        assert line.startswith(b"PROXY TCP4 127.0.0.1 127.0.0.1 %d " % host.port)
        server.write(b"220 hello\r\n")
        assert await client.got(11) == b"220 hello\r\n"


@pytest_twisted.ensureDeferred
async def test_fastByEndpoint(tmp_path: Path) -> None:
    """
    A session whose destination was connected by an endpoint stays on the fast relay.
    """
    async with rig(
        "fast",
        "tcp4",
        tmp_path,
        sendProxy="v1",
        wrap=lambda endpoint: endpoint._endpoint,  # type: ignore[attr-defined]
    ) as running:
        client, server = await running.pair()
        client.write(b"hello")
        assert (await server.got(30)).startswith(b"PROXY TCP4 ")
        assert isinstance(running.session.relay, FastRelay)


@pytest_twisted.ensureDeferred
async def test_closedBefore(tmp_path: Path) -> None:
    """
    A destination that closes before its header could be sent has failed to connect:
    the client is served by another try.
    """
    async with rig("fast", "tcp4", tmp_path, sendProxy="v1") as running:
        sockets = running.balancer._pool.workers
        (worker,) = sockets.values()
        connector = worker.connector.sockets
        assert connector is not None
        send, failures = connector.sendFirst, [errno.EPIPE]

        def sendFirst(handle: Any, data: bytes) -> None:
            if failures:
                number = failures.pop()
                raise OSError(number, "broken")
            send(handle, data)

        connector.sendFirst = sendFirst  # type: ignore[method-assign]
        client = await running.client()
        client.write(b"hello")
        peers = running.server.peers
        await until(lambda: any(each.received for each in peers))
        assert not failures
        assert [bytes(each.received[:6]) for each in peers][-1] == b"PROXY "
        assert running.session.tries == 2
