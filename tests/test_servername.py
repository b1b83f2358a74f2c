"""
Tests for finding out the name that a TLS client asks for, without ending TLS.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import pytest_twisted
from twisted.trial.unittest import SynchronousTestCase

from iawlb.core.outcome import Outcome
from iawlb.core.session import Session
from iawlb.relay.fast import FastRelay
from tests.doubles import Rig, SecureWire, Wire
from tests.hellos import helloOf
from tests.net import Peer
from tests.rig import RELAYS, rig

SNI: dict[str, Any] = {"policy": "source", "affinity": "sni"}


class MemoryTests(SynchronousTestCase):
    """
    Clients over any transport.
    """

    def setUp(self) -> None:
        """
        Run a balancer that binds by name.
        """
        self.rig = Rig(**SNI)
        self.addCleanup(self.rig.balancer.stopService)
        self.client = self.rig.client()

    @property
    def wires(self) -> list[Wire]:
        """
        The connections to the destination.
        """
        return self.rig.backends[0].wires

    def session(self) -> Session:
        """
        Return the only session.
        """
        (session,) = self.rig.balancer.sessions
        return session

    def test_name(self) -> None:
        """
        A client enters the queue when its ClientHello is there, however it is split;
        the name is known then, and the destination gets every byte.
        """
        hello = helloOf("shop.example", "h2")
        for byte in hello:
            self.assertEqual(self.wires, [])
            self.client.receive(bytes([byte]))
        info = self.session().info
        assert info is not None
        self.assertEqual(info.serverName, "shop.example")
        self.assertEqual(info.protocols, ("h2",))
        self.assertEqual(self.wires[0].written, hello)

    def test_noName(self) -> None:
        """
        A client that asks for no name is served.
        """
        hello = helloOf()
        self.client.receive(hello)
        self.assertEqual(self.wires[0].written, hello)

    def test_noTls(self) -> None:
        """
        So is a client that does not speak TLS.
        """
        self.client.receive(b"GET / HTTP/1.0\r\n\r\n")
        self.assertEqual(self.wires[0].written, b"GET / HTTP/1.0\r\n\r\n")

    def test_ends(self) -> None:
        """
        A client that ends its half in the middle of its ClientHello is passed on; one
        that has sent nothing has left.
        """
        self.client.receive(helloOf("shop.example")[:50])
        self.client.end()
        self.assertEqual(len(self.wires[0].written), 50)
        other = self.rig.client()
        other.end()
        other.lose()
        self.assertIs(self.rig.recorder.outcomes[2], Outcome.CLIENT_LEFT_HANDSHAKE)

    def test_secure(self) -> None:
        """
        The name is known where another endpoint ends TLS, too.
        """
        for number, name in enumerate((b"shop.example", None), 1):
            protocol = self.rig.balancer.factory.buildProtocol(None)
            assert protocol is not None
            wire = SecureWire(protocol)
            handle = Mock()
            handle.get_servername.return_value = name
            self.patch(wire, "getHandle", lambda handle=handle: handle)
            protocol.makeConnection(wire)
            protocol.handshakeCompleted()
            self.assertEqual(len(self.wires), number)
        found = [
            each.info and each.info.serverName for each in self.rig.balancer.sessions
        ]
        self.assertEqual(found, [None, "shop.example", None])

    def test_tooLate(self) -> None:
        """
        A client that does not send its ClientHello in time is closed.
        """
        self.client.receive(b"\x16\x03\x01")
        self.rig.advance(11)
        self.client.lose()
        self.assertIs(self.rig.recorder.outcomes[1], Outcome.HANDSHAKE_TIMEOUT)
        self.assertEqual(self.wires, [])

    def test_live(self) -> None:
        """
        The setting holds for the next client, also when the balancer runs already.
        """
        pool = self.rig.balancer._pool
        pool.configure(replace(pool.settings, affinity="address"))
        self.rig.client()
        self.assertEqual(len(self.wires), 1)
        pool.configure(replace(pool.settings, affinity="sni"))
        self.rig.client()
        self.assertEqual(len(self.wires), 1)


@pytest.mark.parametrize("relay", RELAYS)
@pytest_twisted.ensureDeferred
async def test_sockets(relay: str, tmp_path: Path) -> None:
    """
    By both relays the destination gets the ClientHello as it was, and the fast relay
    stays in use.
    """
    async with rig(relay, "tcp4", tmp_path, **SNI) as on:
        hello = helloOf("shop.example")
        client: Peer = await on.client()
        client.write(hello[:7])
        client.write(hello[7:])
        server = await on.server.peer()
        assert await server.got(len(hello)) == hello
        assert isinstance(on.session.relay, FastRelay) is (relay == "fast")
        assert on.session.info is not None
        assert on.session.info.serverName == "shop.example"
        server.write(b"answer")
        assert await client.got(6) == b"answer"
