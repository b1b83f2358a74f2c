"""
Tests for TLS at the entrance, in memory: the handshake, and what follows when one side
ends.
"""

from __future__ import annotations

import hmac
import tempfile
import weakref
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any
from unittest import mock

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.x509 import Name, NameOID
from OpenSSL import SSL
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
)
from twisted.logger import formatEvent
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementedBy
from zope.interface.verify import verifyObject

from iawlb.core.outcome import Outcome
from iawlb.core.session import Session
from iawlb.relay.context import RelayContext
from iawlb.relay.side import Side, SideOwner
from iawlb.relay.tlstransport import MOST_UNREAD, SMALL, TlsTransport
from iawlb.service import LoadBalancer
from tests.doubles import MemoryListener, Rig, Wire, accept, logged
from tests.hellos import body, message, record
from tests.pem import Issued

OWN = Issued("own", hosts=["localhost"])
CLIENTS = Issued("clients", authority=True)


class Client:
    """
    A client that speaks TLS over a wire.

    @ivar got: What it has received.
    @ivar ended: Whether it has received close_notify.
    """

    def __init__(
        self,
        wire: Wire,
        name: str | None = None,
        alpn: tuple[bytes, ...] = (),
        version: int | None = None,
        certificate: Issued | None = None,
        cipher: str | None = None,
    ) -> None:
        context = SSL.Context(SSL.TLS_METHOD)
        if cipher is not None:
            context.set_cipher_list(cipher.encode())
        if version is not None:
            context.set_max_proto_version(version)
        if certificate is not None:
            context.use_certificate(certificate.certificate)
            context.use_privatekey(certificate.key)
        self.tls = SSL.Connection(context, None)
        self.tls.set_connect_state()
        if name is not None:
            self.tls.set_tlsext_host_name(name.encode())
        if alpn:
            self.tls.set_alpn_protos(list(alpn))
        self.wire = wire
        self.got = b""
        self.ended = False
        self._read = 0

    def out(self) -> bytes:
        """
        Take what is to be sent.
        """
        try:
            return self.tls.bio_read(1 << 20)
        except SSL.WantReadError:
            return b""

    def take(self) -> None:
        """
        Receive what was sent.
        """
        fresh = self.wire.written[self._read :]
        self._read += len(fresh)
        if fresh:
            self.tls.bio_write(fresh)

    def shake(self, pieces: int | None = None) -> Client:
        """
        Shake hands.

        @param pieces: How many bytes are sent at a time, if not all.
        """
        for _ in range(4):
            try:
                self.tls.do_handshake()
            except SSL.WantReadError:
                pass
            data = self.out()
            step = pieces or len(data) or 1
            for start in range(0, len(data), step):
                self.wire.receive(data[start : start + step])
            self.take()
        return self

    def send(self, data: bytes) -> None:
        """
        Send bytes.
        """
        self.tls.sendall(data)
        self.wire.receive(self.out())

    def end(self) -> None:
        """
        Send close_notify.
        """
        self.tls.shutdown()
        self.wire.receive(self.out())

    def read(self) -> bytes:
        """
        Read what came; return all that has come so far.
        """
        self.take()
        try:
            while True:
                self.got += self.tls.recv(1 << 16)
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            self.ended = True
        return self.got


class Case(SynchronousTestCase):
    """
    Runs a balancer in memory with a TLS listener.
    """

    def setUp(self) -> None:
        """
        Write the certificates.
        """
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.own = Path(folder.name, "own.pem")
        self.own.write_bytes(OWN.keyPem + OWN.pem)
        self.ca = Path(folder.name, "ca.pem")
        self.ca.write_bytes(CLIENTS.pem)
        self.listen()

    def listen(self, tls: dict[str, Any] | None = None, **settings: Any) -> None:
        """
        Start a balancer.

        @param tls: More settings of the listener.
        @param settings: Those of the balancer.
        """
        self.rig = Rig(relay="portable", **settings)
        self.endpoint = MemoryListener()
        own = {"name": "secure", "certificate": [str(self.own)], **(tls or {})}
        self.balancer: LoadBalancer = self.rig.balancer
        self.balancer.listen(self.endpoint, **own)
        (listener,) = self.balancer._pool.listeners
        assert listener.certificates is not None
        self.certificates = listener.certificates

    def wire(self) -> Wire:
        """
        Connect a client that has not begun its handshake.
        """
        return accept(self.endpoint.factory)

    def client(self, **options: Any) -> Client:
        """
        Connect a client, and shake hands.
        """
        return Client(self.wire(), **options).shake()

    @property
    def session(self) -> Session:
        """
        The only session.
        """
        (session,) = self.balancer.sessions
        return session

    @property
    def backend(self) -> Wire:
        """
        The connection to the destination.
        """
        (wire,) = self.rig.backends[0].wires
        return wire

    def outcome(self) -> Outcome | None:
        """
        How the first session has ended.
        """
        self.assertEqual(list(self.balancer.sessions), [])
        return self.rig.recorder.outcomes[1]


class HandshakeTests(Case):
    """
    Before a client enters the queue.
    """

    def test_slot(self) -> None:
        """
        A client takes a slot when its handshake is done, and not before.
        """
        client = Client(self.wire())
        self.assertEqual((self.rig.recorder.pulls, self.balancer.waiting), ([], 0))
        client.shake()
        self.assertEqual(self.rig.recorder.pulls, [(1, "a")])
        client.send(b"hello")
        self.assertEqual(self.backend.written, b"hello")
        self.assertEqual(self.certificates.handshakes, 1)

    def test_pieces(self) -> None:
        """
        It does not matter how the client's bytes are split.
        """
        client = Client(self.wire()).shake(pieces=1)
        self.backend.receive(b"hello")
        self.assertEqual(client.read(), b"hello")

    def test_atOnce(self) -> None:
        """
        What comes in the same read as the end of the handshake is not lost, nor is it
        while the client waits.
        """
        self.rig.backends[0].hold = True
        client = Client(self.wire(), version=SSL.TLS1_3_VERSION)
        for _ in range(2):
            try:
                client.tls.do_handshake()
            except SSL.WantReadError:
                client.wire.receive(client.out())
            client.take()
        client.send(b"at once")
        self.assertEqual(self.rig.backends[0].wires, [])
        self.rig.backends[0].succeed()
        self.assertEqual(self.backend.written, b"at once")

    def test_behindHeader(self) -> None:
        """
        The handshake comes behind a header of the PROXY protocol, also in one read.
        """
        self.listen({"acceptProxy": "192.0.2.0/24"})
        client = Client(self.wire(), name="localhost")
        with self.assertRaises(SSL.WantReadError):
            client.tls.do_handshake()
        header = b"PROXY TCP4 203.0.113.7 198.51.100.1 4711 443\r\n"
        client.wire.receive(header + client.out())
        client.take()
        client.shake()
        session = self.session
        self.assertEqual(session.client, "203.0.113.7:4711")
        assert session.info is not None
        self.assertEqual(session.info.serverName, "localhost")
        client.send(b"hello")
        self.assertEqual(self.backend.written, b"hello")

    def test_longChain(self) -> None:
        """
        A chain that is longer than what is taken from OpenSSL at a time is sent whole.
        """
        more = b"".join(Issued(f"{n}", authority=True).pem for n in range(25))
        self.own.write_bytes(OWN.keyPem + OWN.pem + more)
        self.listen()
        client = self.client()
        self.assertGreater(len(client.wire.written), SMALL)
        chain = client.tls.get_peer_cert_chain(as_cryptography=True)
        self.assertEqual(len(chain or []), 26)

    def test_info(self) -> None:
        """
        What the client has said is known to the log, to hooks and to metrics.
        """
        self.listen(
            {
                "alpn": ["h2"],
                "clientCa": str(self.ca),
                "clientCertificate": "required",
            }
        )
        own = Issued("a client", CLIENTS)
        self.client(name="localhost", alpn=(b"\xff", b"h2"), certificate=own)
        info = self.session.info
        assert info is not None and info.tls is not None
        self.assertEqual(info.serverName, "localhost")
        self.assertEqual((info.protocols, info.protocol), (("\\xff", "h2"), "h2"))
        self.assertEqual(info.tls.version, "TLSv1.3")
        self.assertTrue(info.tls.cipher.startswith("TLS_"))
        self.assertEqual((info.tls.clientName, info.tls.verified), ("a client", True))

    def test_spelling(self) -> None:
        """
        The name that a client asks for is known as routes have names: in lower case,
        and without a dot at its end.
        """
        for asked, known in (("LocalHost.", "localhost"), (".", None)):
            self.listen()
            self.client(name=asked)
            assert self.session.info is not None
            self.assertEqual(self.session.info.serverName, known)

    def test_noInfo(self) -> None:
        """
        A client that says no more than it must has no names.
        """
        self.client(version=SSL.TLS1_2_VERSION)
        info = self.session.info
        assert info is not None and info.tls is not None
        self.assertEqual((info.serverName, info.protocols), (None, ()))
        self.assertEqual((info.protocol, info.tls.version), (None, "TLSv1.2"))
        self.assertEqual((info.tls.clientName, info.tls.verified), (None, False))

    def test_namelessClient(self) -> None:
        """
        A client's certificate without a common name is known by its whole subject.
        """
        self.listen({"clientCa": str(self.ca), "clientCertificate": "asked"})
        kind = NameOID.ORGANIZATION_NAME
        self.client(certificate=Issued("a client", CLIENTS, kind=kind))
        info = self.session.info
        assert info is not None and info.tls is not None
        self.assertEqual((info.tls.clientName, info.tls.verified), ("O=a client", True))

    def test_unreadable(self) -> None:
        """
        A client is served whose certificate has been found right, though its subject
        cannot be read, as the Teletex strings of old authorities.
        """
        self.listen({"clientCa": str(self.ca), "clientCertificate": "required"})
        own = Issued("a client", CLIENTS)
        with mock.patch.object(Name, "get_attributes_for_oid", side_effect=ValueError):
            client = self.client(certificate=own)
        info = self.session.info
        assert info is not None and info.tls is not None
        self.assertEqual(
            (info.tls.clientName, info.tls.verified), ("(unreadable)", True)
        )
        client.send(b"hello")
        self.assertEqual(self.backend.written, b"hello")

    def test_doneRaises(self) -> None:
        """
        If something raises when the handshake is done, the session ends as failed, with
        one line in the log for all of a second, and the next client is served.
        """
        what = "iawlb.frontend.tlsstep.describeHandshake"
        with mock.patch(what, side_effect=ZeroDivisionError):
            for _ in range(3):
                self.client().wire.lose()
        self.assertEqual(set(self.rig.recorder.outcomes.values()), {Outcome.FAILED})
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.rig.advance(1)
        self.client().send(b"hello")
        self.assertEqual(self.backend.written, b"hello")

    def test_slow(self) -> None:
        """
        A client that does not finish its handshake in time is closed.
        """
        self.listen(handshakeTimeout="5s")
        client = Client(self.wire())
        client.wire.receive(b"\x16\x03\x01")
        self.rig.advance(4.9)
        self.assertIsNone(client.wire.closing)
        self.rig.advance(0.2)
        self.assertEqual(client.wire.closing, "abort")
        client.wire.lose()
        self.assertEqual(self.outcome(), Outcome.HANDSHAKE_TIMEOUT)

    def test_leaves(self) -> None:
        """
        A client that leaves during its handshake has left; it is no failure.
        """
        for lose in (
            lambda wire: wire.lose(),
            lambda wire: wire.lose(reset=True),
            lambda wire: (wire.end(), wire.lose()),
        ):
            self.listen()
            client = Client(self.wire())
            with self.assertRaises(SSL.WantReadError):
                client.tls.do_handshake()
            client.wire.receive(client.out())
            lose(client.wire)
            self.assertEqual(self.outcome(), Outcome.CLIENT_LEFT_HANDSHAKE)
        self.assertEqual(self.certificates.failed, 0)

    def test_fails(self) -> None:
        """
        A client that speaks no TLS, or has nothing in common with the listener, is
        closed. The log says why, once a second; nobody else is harmed.
        """
        events = logged(self)
        self.listen({"alpn": ["h2"], "tlsMin": "1.3"})
        for number in range(3):
            wire = self.wire()
            wire.receive(b"GET / HTTP/1.1\r\n\r\n")
            self.assertEqual(wire.closing, "close")
            wire.receive(b"more")
            wire.lose()
            outcome = self.rig.recorder.outcomes[number + 1]
            self.assertEqual(outcome, Outcome.HANDSHAKE_FAILED)
        self.rig.advance(1.1)
        for options in (
            {"alpn": (b"smtp",)},
            {"version": SSL.TLS1_2_VERSION},
        ):
            with self.assertRaises(SSL.Error):
                self.client(**options)
            self.balancer.sessions  # noqa: B018
        self.assertEqual(self.certificates.failed, 3)
        lines = [formatEvent(each) for each in events if "refused" in formatEvent(each)]
        self.assertEqual(len(lines), 2)
        self.assertIn("the TLS handshake failed: http request", lines[0])
        self.client(alpn=(b"h2",)).send(b"hello")
        self.assertEqual(self.backend.written, b"hello")

    def test_alerts(self) -> None:
        """
        A client is told why its handshake has failed, by TLS's own alert.
        """
        self.listen({"alpn": ["h2"], "tlsMin": "1.3"})
        for words, options in (
            ("no application protocol", {"alpn": (b"smtp",)}),
            ("protocol version", {"version": SSL.TLS1_2_VERSION}),
        ):
            error = self.assertRaises(SSL.Error, self.client, **options)
            self.assertIn(words, str(error))

    def test_huge(self) -> None:
        """
        A ClientHello of 16 MB is refused long before all of it has come.
        """
        wire = self.wire()
        record = b"\x16\x03\x01\x40\x00"
        wire.receive(record + b"\x01\xff\xff\xff" + bytes(16380))
        for _ in range(20):
            if wire.closing is None:
                wire.receive(record + bytes(16384))
        self.assertEqual(wire.closing, "close")
        wire.lose()
        self.assertEqual(self.outcome(), Outcome.HANDSHAKE_FAILED)

    def test_renegotiates(self) -> None:
        """
        A client that wants to shake hands again is told no, and goes on.
        """
        client = self.client(version=SSL.TLS1_2_VERSION)
        client.tls.renegotiate()
        with self.assertRaises(SSL.WantReadError):
            client.tls.do_handshake()
        client.wire.receive(client.out())
        self.assertFalse(self.backend.written)
        self.assertIsNone(self.backend.closing)

    def test_raises(self) -> None:
        """
        If no connection can be made, that is one session's failure.
        """
        self.patch(self.certificates, "accept", lambda: 1 / 0)
        wire = self.wire()
        self.assertEqual(wire.closing, "close")
        wire.lose()
        self.assertEqual(self.outcome(), Outcome.FAILED)
        self.flushLoggedErrors(ZeroDivisionError)


class EndTests(Case):
    """
    What follows when one side ends, is reset or is lost.
    """

    def test_interface(self) -> None:
        """
        The transport says what it provides.
        """
        self.client()
        side: Any = self.session.relay.client  # type: ignore[union-attr]
        transport = side.transport
        self.assertIsInstance(transport, TlsTransport)
        verifyObject(IHalfCloseableProtocol, transport)
        self.assertEqual(transport.logPrefix(), "iawlb")
        self.assertIsNone(transport.negotiatedProtocol)
        transport.writeConnectionLost()

    def test_clientEnds(self) -> None:
        """
        A client that ends its half, by TLS's own end, still gets the answer.
        """
        client = self.client()
        client.send(b"question")
        client.end()
        backend = self.backend
        self.assertEqual((backend.written, backend.ended), (b"question", True))
        self.assertFalse(client.wire.reading)
        backend.receive(b"answer")
        self.assertEqual(client.read(), b"answer")
        self.assertFalse(client.ended)
        backend.end()
        client.read()
        self.assertEqual((client.ended, client.wire.closing), (True, "close"))
        backend.lose()
        client.wire.lose()
        self.assertEqual(self.outcome(), Outcome.DONE)

    def test_destinationEnds(self) -> None:
        """
        A destination that ends its half still gets what the client sends.
        """
        client = self.client()
        self.backend.receive(b"bye")
        self.backend.end()
        self.assertEqual((client.read(), client.ended), (b"bye", True))
        self.assertEqual((client.wire.ended, client.wire.closing), (True, None))
        client.send(b"more")
        self.assertEqual(self.backend.written, b"more")
        client.end()
        self.assertEqual(client.wire.closing, "close")
        self.backend.lose()
        client.wire.lose()
        self.assertEqual(self.outcome(), Outcome.DONE)

    def test_destinationReset(self) -> None:
        """
        A reset of the destination's is one for the client, and TLS says no end in order
        before it: the client does not take a cut answer for whole.
        """
        client = self.client()
        self.backend.receive(b"half of an ans")
        self.backend.lose(reset=True)
        self.rig.advance(0.1)
        self.assertEqual(client.read(), b"half of an ans")
        self.assertEqual((client.ended, client.wire.closing), (False, "abort"))
        client.wire.lose()
        self.assertEqual(self.outcome(), Outcome.DESTINATION_RESET)

    def test_clientReset(self) -> None:
        """
        So it is the other way round.
        """
        client = self.client()
        client.send(b"half of a quest")
        client.wire.lose(reset=True)
        self.assertEqual(self.backend.written, b"half of a quest")
        self.assertEqual(self.backend.closing, "abort")
        self.backend.lose()
        self.assertEqual(self.outcome(), Outcome.CLIENT_RESET)

    def test_noCloseNotify(self) -> None:
        """
        A client that closes without TLS's own end has ended, if it has sent a whole
        record; else it was cut off, and so it always was if that is asked for.
        """
        for strict, rest, outcome in (
            (False, b"", Outcome.DONE),
            (False, b"\x17\x03", Outcome.CLIENT_RESET),
            (True, b"", Outcome.CLIENT_RESET),
        ):
            self.listen(strictTls=strict)
            client = self.client()
            client.send(b"question")
            if rest:
                client.wire.receive(rest)
            client.wire.end()
            self.assertEqual(client.wire.closing, "close")
            client.wire.lose()
            self.backend.lose()
            self.assertEqual(self.outcome(), outcome)

    def test_endBehindEnd(self) -> None:
        """
        The end of TCP behind the end of TLS means nothing more.
        """
        client = self.client()
        client.end()
        client.wire.end()
        client.wire.receive(b"what follows is not looked at")
        self.assertIsNone(client.wire.closing)
        self.backend.receive(b"answer")
        self.assertEqual(client.read(), b"answer")

    def test_broken(self) -> None:
        """
        A record that was changed on its way ends the session as cut off.
        """
        client = self.client()
        client.tls.sendall(b"question")
        data = client.out()
        client.wire.receive(data[:-1] + bytes([data[-1] ^ 1]))
        self.assertEqual(client.wire.closing, "close")
        client.wire.lose()
        self.assertEqual(self.backend.closing, "abort")
        self.backend.lose()
        self.assertEqual(self.outcome(), Outcome.CLIENT_RESET)

    def test_large(self) -> None:
        """
        Many records at once come whole.
        """
        client = self.client()
        data = bytes(range(256)) * 2000
        client.send(data)
        self.assertEqual(self.backend.written, data)
        self.backend.receive(data)
        self.assertEqual(client.read(), data)

    def renegotiations(self, client: Client) -> Callable[[], bytes]:
        """
        Return a function that makes a record of TLS 1.2 in which a client asks for a
        renegotiation. OpenSSL's own clients ask only once.
        """
        tls = client.tls
        secret, ours, theirs = (
            tls.master_key(),
            tls.client_random(),
            tls.server_random(),
        )
        assert secret and ours and theirs
        seed = b"key expansion" + theirs + ours
        block, last = b"", seed
        while len(block) < 36:
            last = hmac.digest(secret, last, "sha256")
            block += hmac.digest(secret, last + seed, "sha256")
        key, salt = AESGCM(block[:16]), block[32:36]
        hello = message(body())
        numbers = count(1)

        def make() -> bytes:
            number = next(numbers).to_bytes(8, "big")
            front = number + b"\x16\x03\x03" + len(hello).to_bytes(2, "big")
            sealed = key.encrypt(salt + number, hello, front)
            return record(number + sealed, version=0x0303)

        return make

    def test_unread(self) -> None:
        """
        A client that makes OpenSSL answer and reads nothing is cut off, before its
        unread answers are more than a few records; one that reads, or that only has
        much of its destination's to read, is not.
        """
        for held, times in ((0, 5000), (1 << 20, 5000), (1 << 20, 1)):
            self.listen()
            # A cipher whose keys a test can make.
            client = self.client(
                version=SSL.TLS1_2_VERSION, cipher="ECDHE-ECDSA-AES128-GCM-SHA256"
            )
            wire: Any = client.wire
            ask = self.renegotiations(client)
            answered = len(wire.written)
            wire.dataBuffer = bytes(held)
            for _ in range(times):
                wire.receive(ask())
                if wire.closing:
                    break
            answered = len(wire.written) - answered
            self.assertGreater(answered, 20)
            if held and times > 1:
                self.assertEqual(wire.closing, "abort")
                self.assertLess(answered, MOST_UNREAD + 100)
            else:
                self.assertIsNone(wire.closing)
            if not held:
                self.assertGreater(answered, MOST_UNREAD + 100)

    def test_withoutHalves(self) -> None:
        """
        Over a transport that has no halves, TLS still has its own end.
        """
        client = self.client()
        wire: Any = client.wire
        side: Any = self.session.relay.client  # type: ignore[union-attr]
        noDelay: list[bool] = []
        wire.setTcpNoDelay = noDelay.append
        side.transport.setTcpNoDelay(True)
        self.assertEqual(noDelay, [True])
        wire.loseWriteConnection = None
        self.backend.end()
        client.read()
        self.assertEqual((client.ended, wire.ended, wire.closing), (True, False, None))
        self.backend.lose()
        client.end()
        self.assertEqual(wire.closing, "close")

    def test_cannotWrite(self) -> None:
        """
        If OpenSSL cannot encrypt, or cannot end, the client is cut off.
        """
        for name, act, closing, outcome in (
            (
                *("sendall", lambda: self.backend.receive(b"answer")),
                *("abort", Outcome.CLIENT_RESET),
            ),
            ("shutdown", lambda: self.backend.end(), "close", Outcome.DONE),
        ):
            self.listen()
            client = self.client()
            side: Any = self.session.relay.client  # type: ignore[union-attr]
            tls = side.transport.getHandle()
            failing = mock.Mock(side_effect=SSL.Error([("", "", "broken")]))
            with mock.patch.object(tls, name, failing):
                act()
            self.assertEqual(client.wire.closing, "close")
            side.transport.write(b"more")
            self.assertEqual(client.read(), b"")
            self.assertFalse(client.ended)
            client.wire.lose()
            self.assertEqual(self.backend.closing, closing)
            self.backend.lose()
            self.assertEqual(self.outcome(), outcome)

    def test_subclass(self) -> None:
        """
        A subclass is TLS too, whatever zope.interface knows of the class of the
        transport below: else the session would begin before the handshake.
        """

        class Below(Wire):
            pass

        class Tls(TlsTransport):
            pass

        implementedBy(Below)
        side = Side(SideOwner(), RelayContext(1024))
        above = Tls(self.certificates.accept(), side)
        above.makeConnection(Below(above))
        self.assertEqual((side.secure, side.ready), (True, False))

    def test_unconnected(self) -> None:
        """
        A transport without one below has nothing to pass on.
        """
        connection = self.certificates.accept()
        side = Side(SideOwner(), RelayContext(1024))
        self.assertFalse(hasattr(TlsTransport(connection, side), "fileno"))

    def test_closedAtOnce(self) -> None:
        """
        A client that is closed before its handshake begins does not begin it.
        """

        class Closing(SideOwner):
            def sideMade(self, side: Any) -> None:
                side.close()

        above = TlsTransport(
            self.certificates.accept(), Side(Closing(), RelayContext(1024))
        )
        wire = Wire(above)
        above.makeConnection(wire)
        self.assertEqual((wire.closing, wire.written), ("abort", b""))

    def test_noCycle(self) -> None:
        """
        A finished session leaves nothing for the garbage collector.
        """
        client = self.client()
        side: Any = self.session.relay.client  # type: ignore[union-attr]
        dead = weakref.ref(side.transport), weakref.ref(side)
        del side
        client.end()
        self.backend.lose()
        client.wire.lose()
        self.assertEqual(self.outcome(), Outcome.DONE)
        client.wire.protocol = None
        self.assertEqual([each() for each in dead], [None, None])
