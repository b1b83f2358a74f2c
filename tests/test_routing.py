"""
Clients that go to a pool by what their TLS asks for.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.endpoints import TCP4ServerEndpoint, wrapServerTLS
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.internet.ssl import PrivateCertificate
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase

from iawlb.balancer import Balancer
from iawlb.core.outcome import Outcome
from iawlb.errors import InvalidSetting
from iawlb.relay.fast import FastRelay
from iawlb.relay.portable import PortableRelay
from iawlb.tlshello.alert import (
    DECODE_ERROR,
    NO_APPLICATION_PROTOCOL,
    UNRECOGNIZED_NAME,
    alert,
)
from tests.doubles import Backend, Wire, accept, logged
from tests.hellos import body, helloOf, message, nameOf, record
from tests.net import LIMIT, Peer, Server, connected, reactor, until
from tests.pem import Issued
from tests.rig import RELAYS, Records

# Twisted 26.10 uses what pyOpenSSL 26 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")


class RoutingTests(SynchronousTestCase):
    """
    In memory: clients of one pool's listener, and three pools.
    """

    def setUp(self) -> None:
        """
        Start a balancer.
        """
        self.clock = Clock()
        self.recorder = Records()
        self.balancer = Balancer(self.clock, observers=[self.recorder])
        self.backends: dict[str, Backend] = {}
        self.web = self.pool("web")
        self.pool("api", through="web", serverNames="api.example,*.api.example")
        self.pool("new", through="web", protocols="h2")
        self.balancer.startService()
        self.events = logged(self)

    def pool(self, name: str, **settings: Any) -> Any:
        """
        Add a pool with a destination, whose connects the test makes succeed.
        """
        pool = self.balancer.addPool(name, **settings)
        self.backends[name] = Backend()
        self.backends[name].hold = True
        pool.add(self.backends[name], {"name": name})
        return pool

    def said(self, data: bytes) -> Wire:
        """
        Connect a client that says something.
        """
        wire = accept(self.web.factory)
        wire.receive(data)
        return wire

    def lives(self) -> dict[str, int]:
        """
        Count the sessions of each pool that has some.
        """
        pools = self.balancer.pools
        return {
            name: pool.count.live for name, pool in pools.items() if pool.count.live
        }

    def refused(self, wire: Wire, outcome: Outcome, alerted: int | None = None) -> str:
        """
        Check that a client is refused.

        @param alerted: The alert that it gets.
        @return: What the log says.
        """
        self.assertEqual(wire.written, b"" if alerted is None else alert(alerted))
        self.assertEqual(wire.closing, "close")
        wire.lose()
        self.assertIs(self.recorder.ended[-1].outcome, outcome)
        self.assertEqual(self.lives(), {})
        self.clock.advance(1)
        return str(self.events[-1]["why"])

    def test_routes(self) -> None:
        """
        A client goes to the pool that takes its name, or its protocol, else to that of
        the listener, and counts there. Its bytes are passed on as they are.
        """
        for hello, name in (
            (helloOf("api.example"), "api"),
            (helloOf("API.example", "h2"), "api"),
            (helloOf("a.b.api.example"), "api"),
            (helloOf("www.example", "http/1.1", "h2"), "new"),
            (helloOf("www.example"), "web"),
            (helloOf(), "web"),
        ):
            wire = self.said(hello)
            self.assertEqual(self.lives(), {name: 1})
            destination = self.backends[name].succeed()
            self.assertEqual(destination.written, hello)
            (session,) = self.balancer.sessions
            self.assertEqual(session.origin.pool.name, name)
            self.assertEqual(session.origin.listener, "embedded")
            wire.lose(reset=True)
            destination.lose()
        accepted = {name: pool.count.accepted for name, pool in self.pools()}
        self.assertEqual(accepted, {"web": 6, "api": 3, "new": 1})

    def pools(self) -> list[tuple[str, Any]]:
        """
        List the pools.
        """
        return list(self.balancer.pools.items())

    def test_info(self) -> None:
        """
        What the client asks for is known to observers and the log.
        """
        self.said(helloOf("a.api.example", "h2", "x"))
        (session,) = self.balancer.sessions
        assert session.info is not None
        self.assertEqual(session.info.serverName, "a.api.example")
        self.assertEqual(session.info.protocols, ("h2", "x"))
        self.assertIsNone(session.info.tls)

    def test_pieces(self) -> None:
        """
        The ClientHello may come byte by byte.
        """
        hello = helloOf("api.example")
        wire = accept(self.web.factory)
        for place in range(len(hello)):
            self.assertEqual(self.lives(), {"web": 1})
            self.assertTrue(wire.reading)
            wire.receive(hello[place : place + 1])
        self.assertEqual(self.lives(), {"api": 1})
        self.assertEqual(self.backends["api"].succeed().written, hello)

    def test_noName(self) -> None:
        """
        A client whose name no pool takes gets the alert for that, and the log says so,
        once a second.
        """
        self.web.configure(self.settings(serverNames=("www.example",)))
        wire = self.said(helloOf("a.example"))
        why = self.refused(wire, Outcome.NO_ROUTE, UNRECOGNIZED_NAME)
        self.assertEqual(why, "no pool takes a.example")
        why = self.refused(self.said(helloOf()), Outcome.NO_ROUTE, UNRECOGNIZED_NAME)
        self.assertEqual(why, "no pool takes clients that ask for no name")
        wires = [self.said(helloOf("b.example")) for _ in range(3)]
        self.assertEqual({each.closing for each in wires}, {"close"})
        self.clock.advance(1)
        self.assertEqual([each["number"] for each in self.events[-2:]], [1, 2])

    def settings(self, **changes: Any) -> Any:
        """
        Return other settings for the pool of the listener.
        """
        settings = self.web.settings
        given = {each: getattr(settings, each) for each in settings.__slots__}
        return type(settings)(**{**given, **changes})

    def test_noProtocol(self) -> None:
        """
        A client whose name is taken, but none of whose protocols is, gets the alert for
        that.
        """
        self.web.configure(
            self.settings(serverNames=("www.example",), protocols=("http/1.1",))
        )
        wire = self.said(helloOf("www.example", "a", "b", "c", "d"))
        why = self.refused(wire, Outcome.NO_ROUTE, NO_APPLICATION_PROTOCOL)
        self.assertEqual(
            why, "no pool takes www.example with any of its protocols (a, b, c)"
        )
        wire = self.said(helloOf("www.example"))
        why = self.refused(wire, Outcome.NO_ROUTE, NO_APPLICATION_PROTOCOL)
        self.assertIn("with any of its protocols (none)", why)

    def test_noDestinations(self) -> None:
        """
        A pool that has listeners and no destination takes nobody of its own.
        """
        self.web.remove("web")
        wire = self.said(helloOf("a.example"))
        self.refused(wire, Outcome.NO_ROUTE, UNRECOGNIZED_NAME)
        self.said(helloOf("api.example"))
        self.assertEqual(self.lives(), {"api": 1})

    def test_refusing(self) -> None:
        """
        A pool that has only listeners is up while a pool is up that its clients go to;
        and only while none is, it refuses clients, if that is asked for.
        """
        edge = self.balancer.addPool("edge", whenDown="refuse")
        self.assertEqual((edge.state, edge.listeners.refusing), ("down", True))
        back = self.pool("back", through="edge", serverNames="back.example")
        self.assertEqual((edge.state, edge.listeners.refusing), ("up", False))
        self.assertTrue(edge.passes)
        (worker,) = back.workers.values()
        worker.goDown("for the test")
        self.assertEqual((edge.state, edge.listeners.refusing), ("down", True))
        edge.add(Backend(), {"name": "own"})
        self.assertEqual((edge.state, edge.listeners.refusing), ("up", False))
        self.assertFalse(edge.passes)
        edge.remove("own")
        self.assertTrue(edge.listeners.refusing)
        self.pool("other", through="edge", serverNames="other.example")
        self.assertFalse(edge.listeners.refusing)
        self.balancer.removePool("other")
        self.assertTrue(edge.listeners.refusing)
        self.balancer.removePool("edge")

    def test_wrongHello(self) -> None:
        """
        What is no valid ClientHello is refused, with an alert if it is TLS at all.
        """
        wire = self.said(b"GET / HTTP/1.1\r\n\r\n")
        why = self.refused(wire, Outcome.WRONG_HELLO)
        self.assertEqual(why, "not TLS, but a plain HTTP request")
        wire = self.said(record(message(body(nameOf(b"a..b")))))
        why = self.refused(wire, Outcome.WRONG_HELLO, DECODE_ERROR)
        self.assertEqual(why, "b'a..b' is not the name of a host")

    def test_silent(self) -> None:
        """
        A client that does not complete its ClientHello is ended after the handshake
        time-out, and one that leaves is gone.
        """
        hello = helloOf("api.example")
        late = self.said(hello[:-1])
        left = self.said(hello[:-1])
        left.end()
        left.lose()
        self.assertIs(self.recorder.ended[-1].outcome, Outcome.CLIENT_LEFT_HANDSHAKE)
        self.clock.advance(11)
        self.clock.advance(1)
        self.assertEqual(late.closing, "close")
        late.lose()
        self.assertIs(self.recorder.ended[-1].outcome, Outcome.HANDSHAKE_TIMEOUT)

    def test_full(self) -> None:
        """
        Waiting for a pool that is full holds up no client of another pool. If the queue
        of that pool is full, its clients are closed.
        """
        api = self.balancer.pools["api"]
        self.pool("small", through="web", serverNames="small.example", queueSize=1)
        self.balancer.pools["small"].drain("small")
        waits = self.said(helloOf("small.example"))
        refused = self.said(helloOf("small.example"))
        self.assertEqual((waits.closing, refused.closing), (None, "close"))
        refused.lose()
        self.assertIs(self.recorder.ended[-1].outcome, Outcome.QUEUE_FULL)
        self.said(helloOf("api.example"))
        self.assertEqual((api.count.live, self.lives()["small"]), (1, 1))

    def test_changes(self) -> None:
        """
        Pools come, go and change while clients come.
        """
        hello = helloOf("late.example")
        self.pool("late", through="web", serverNames="late.example")
        self.said(hello)
        self.assertEqual(self.lives(), {"late": 1})
        self.balancer.removePool("late")
        self.said(hello)
        self.assertEqual(self.lives(), {"web": 1})
        self.balancer.removePool("api")
        self.balancer.removePool("new")
        # Nothing is looked at any more.
        self.said(b"anything")
        self.assertEqual(self.lives(), {"web": 2})
        self.pool("new", through="web", protocols="h2")
        self.said(helloOf("a.example", "h2"))
        self.assertEqual(self.lives(), {"web": 2, "new": 1})

    def test_underWay(self) -> None:
        """
        Clients that have come before a change go to where they would have gone, while
        that pool is there, also if it was removed and finishes its sessions.
        """
        hellos = [helloOf(f"{each}.example") for each in ("api", "www", "a.api")]
        api, www, late = wires = [self.said(each[:-1]) for each in hellos]
        self.balancer.removePool("web")
        self.assertEqual(self.lives(), {})
        for wire, hello in zip(wires[:2], hellos, strict=False):
            wire.receive(hello[-1:])
        self.assertEqual(self.lives(), {"api": 1})
        self.assertEqual(self.web.count.live, 2)
        self.assertIsNone(www.closing)
        self.balancer.removePool("api")
        api.lose(reset=True)
        late.receive(hellos[2][-1:])
        self.assertEqual(late.closing, "close")
        self.assertEqual(late.written, alert(UNRECOGNIZED_NAME))

    def test_same(self) -> None:
        """
        While two pools take the same, the first one gets it.
        """
        self.pool("other", through="web", serverNames="api.example")
        self.said(helloOf("api.example"))
        self.assertEqual(self.lives(), {"api": 1})

    def test_mistakes(self) -> None:
        """
        Settings that make no sense together are refused at the start.
        """
        for settings, why in (
            ({"through": "b"}, "pool b: through: names this pool itself"),
            ({"through": "c"}, "pool b: through: there is no pool 'c'"),
            ({"through": "a"}, "pool b: through: which clients of pool 'a' come here?"),
            (
                {"through": "a", "serverNames": "x"},
                "pool b: pool 'a' takes x too",
            ),
        ):
            balancer = Balancer(Clock())
            balancer.addPool("a", serverNames="x")
            balancer.addPool("b", **settings)  # type: ignore[arg-type]
            error = self.assertRaises(InvalidSetting, balancer.startService)
            self.assertIn(why, str(error))


class Named(Peer):
    """
    A server that says its name.
    """

    name = b""

    def dataReceived(self, data: bytes) -> None:
        """
        Answer.
        """
        super().dataReceived(data)
        self.write(self.name)


class Served:
    """
    Two TLS servers, C{a.example} and C{b.example}, each behind a pool of its own, at
    one listener.
    """

    def __init__(self, folder: Path) -> None:
        self.ca = folder / "ca.pem"
        self.root = Issued("root", authority=True)
        self.ca.write_bytes(self.root.pem)
        self.recorder = Records()
        self.servers: list[Server] = []
        self.balancer: Balancer

    def endpoint(self, host: str) -> IStreamServerEndpoint:
        """
        Make an endpoint that ends TLS.
        """
        own = Issued(host, self.root, [host])
        options = PrivateCertificate.loadPEM(own.keyPem + own.pem).options()
        plain = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        return wrapServerTLS(options, plain)

    async def serve(self, host: str, tls: bool) -> Server:
        """
        Start a server.
        """
        make = type("Server", (Named,), {"name": host.encode()})
        server = Server(make)
        self.servers.append(await server.listen(self.endpoint(host) if tls else None))
        return server

    def port(self) -> int:
        """
        The port of the listener.
        """
        (listener,) = self.balancer.pools["a"].listeners
        port: Any = listener.port
        number: int = port.getHost().port
        return number

    def ask(self, host: str, *protocols: str) -> bytes:
        """
        Ask a server, as a client that verifies its certificate. Called in a thread.
        """
        context = ssl.create_default_context(cafile=str(self.ca))
        if protocols:
            context.set_alpn_protocols(list(protocols))
        with (
            socket.create_connection(("127.0.0.1", self.port()), LIMIT) as plain,
            context.wrap_socket(plain, server_hostname=host) as client,
        ):
            client.sendall(b"who?")
            return client.recv(100)


@asynccontextmanager
async def served(
    folder: Path, relay: str = "fast", *, tls: bool = True, listen: Any = None
) -> AsyncIterator[Served]:
    """
    Run the servers and the balancer.

    @param tls: Whether the servers end TLS, and not the listener.
    @param listen: Makes the listener's address.
    """
    on = Served(folder)
    settings: Any = {"drainTimeout": 0, **RELAYS[relay]}
    on.balancer = Balancer(reactor, observers=[on.recorder], **settings)
    for name in "ab":
        through = {"through": "a"} if name == "b" else {}
        pool: Any = on.balancer.addPool(
            name,
            serverNames=f"{name}.example",
            **through,  # type: ignore[arg-type]
        )
        pool.add(f"127.0.0.1:{(await on.serve(f'{name}.example', tls)).number}")
    on.balancer.pools["a"].listen(listen(on) if listen else "127.0.0.1:0")
    on.balancer.startService()
    try:
        yield on
    finally:
        await on.balancer.stopService()
        for server in on.servers:
            await server.stop()


@pytest.mark.parametrize("relay", ["fast", "portable"])
@pytest_twisted.ensureDeferred
async def test_passThrough(tmp_path: Path, relay: str) -> None:
    """
    Clients reach the server that they ask for, whose certificate they verify, and one
    that no server is for gets the alert.
    """
    async with served(tmp_path, relay) as on:
        for host in ("a.example", "b.example"):
            answer = await deferToThread(on.ask, host)
            assert answer == host.encode()
        with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"):
            await deferToThread(on.ask, "c.example")
        await until(lambda: len(on.recorder.ended) == 3)
        outcomes = [each.outcome for each in on.recorder.ended]
        assert sorted(each.name for each in outcomes if each) == [
            "DONE",
            "DONE",
            "NO_ROUTE",
        ]


@pytest.mark.parametrize("relay", ["fast", "portable"])
@pytest_twisted.ensureDeferred
async def test_relay(tmp_path: Path, relay: str) -> None:
    """
    A session that was routed is on the fast relay, if any is.
    """
    async with served(tmp_path, relay) as on:
        client = await connected(on.port())
        client.write(helloOf("b.example"))
        await on.servers[1].peer()
        (session,) = on.balancer.sessions
        kind = FastRelay if relay == "fast" else PortableRelay
        assert isinstance(session.relay, kind)
        assert session.origin.pool.name == "b"
        client.reset()


@pytest_twisted.ensureDeferred
async def test_alert(tmp_path: Path) -> None:
    """
    A refused client reads the alert, and then the end, though it has sent more than its
    ClientHello.
    """
    async with served(tmp_path) as on:
        client = await connected(on.port())
        client.write(helloOf("c.example") + bytes(1000))
        await until(lambda: client.ended)
        assert bytes(client.received) == alert(UNRECOGNIZED_NAME)
        assert client.lost is None
        client.close()


@pytest.mark.parametrize("form", ["settings", "endpoint"])
@pytest_twisted.ensureDeferred
async def test_terminated(tmp_path: Path, form: str) -> None:
    """
    The same routes hold where the listener ends TLS, by its own settings or as an
    endpoint.
    """

    def listen(on: Served) -> Any:
        own = Issued("all", on.root, ["a.example", "b.example", "c.example"])
        path = tmp_path / "all.pem"
        path.write_bytes(own.keyPem + own.pem)
        if form == "settings":
            return f"127.0.0.1:0 certificate={path}"
        options = PrivateCertificate.loadPEM(own.keyPem + own.pem).options()
        plain = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        return wrapServerTLS(options, plain)

    async with served(tmp_path, tls=False, listen=listen) as on:
        for host in ("a.example", "b.example"):
            assert await deferToThread(on.ask, host) == host.encode()
        with contextlib.suppress(OSError):  # closed before or after the question
            assert await deferToThread(on.ask, "c.example") == b""
        await until(lambda: len(on.recorder.ended) == 3)
        assert Outcome.NO_ROUTE in [each.outcome for each in on.recorder.ended]
