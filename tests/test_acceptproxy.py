"""
Tests for clients whose connection begins with a PROXY header.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.logger import formatEvent
from twisted.trial.unittest import SynchronousTestCase

from iawlb.core.outcome import Outcome
from iawlb.core.session import Session
from iawlb.errors import InvalidSetting
from iawlb.observe.formats import formatNamed
from iawlb.proxyprotocol.tlvs import SSL
from iawlb.proxyvalidators import Trusted, trusted
from iawlb.relay.fast import FastRelay
from iawlb.settings import ListenerSettings, Settings
from tests.doubles import Rig, Wire, logged, session
from tests.net import Echo, Peer, until
from tests.proxyheaders import CHECKED, FOUR, RIGHT, TRUNCATED, WRONG, tlv, two
from tests.rig import RELAYS, rig
from tests.stage import stage

LINE = b"PROXY TCP4 203.0.113.9 198.51.100.7 56324 443\r\n"


class SettingTests(SynchronousTestCase):
    """
    Who is trusted.
    """

    def test_read(self) -> None:
        """
        Networks and words are given as a list or with commas.
        """
        for given in ("10.0.0.0/8, unix", ["10.0.0.0/8", "unix"]):
            settings = ListenerSettings(acceptProxy=given)  # type: ignore[arg-type]
            self.assertEqual(settings.acceptProxy, ("10.0.0.0/8", "unix"))
        self.assertEqual(Settings().acceptProxy, ())

    def test_wrong(self) -> None:
        """
        What is no network is named, with what would be right.
        """
        for wrong, says in (
            ("10.0.0.0/33", "acceptProxy: '10.0.0.0/33' is not a network: write"),
            ("yes", "or an address; or the word all or unix"),
            (5, "acceptProxy: 5 is not a list of networks"),
        ):
            error = self.assertRaises(
                InvalidSetting, ListenerSettings, acceptProxy=wrong
            )
            self.assertIn(says, str(error))

    def test_trusts(self) -> None:
        """
        A client is trusted by its own address; clients of Unix sockets, and of
        transports without an address, by the words.
        """
        four = IPv4Address("TCP", "10.1.2.3", 5)
        mapped = IPv6Address("TCP", "::ffff:10.1.2.3", 5)
        other = IPv4Address("TCP", "192.0.2.1", 5)
        path = UNIXAddress(None)
        for given, those in (
            ("", []),
            ("10.0.0.0/8", [four, mapped]),
            ("unix", [path]),
            ("unix,192.0.2.1", [other, path]),
            ("0.0.0.0/0", [four, mapped, other]),
            ("all", [four, mapped, other, path, None]),
        ):
            found = trusted(given)
            for each in (four, mapped, other, path, None):
                self.assertIs(found.trusts(each), each in those, (given, each))
        self.assertFalse(Trusted().trusts(None))


class MemoryTests(SynchronousTestCase):
    """
    Clients over any transport.
    """

    def rig(self, **settings: Any) -> Rig:
        """
        Make a balancer all of whose clients begin with a header.
        """
        return Rig(**{"acceptProxy": "all", **settings})

    def test_right(self) -> None:
        """
        Each right header, however long, is taken off. The session enters the queue when
        its header is there, and is known by what it says; what comes behind it goes to
        the destination.
        """
        for name, (whole, ends) in RIGHT.items():
            on = self.rig()
            client = on.client()
            client.receive(whole[:-1])
            self.assertEqual((on.backends[0].tries, on.balancer.waiting), (0, 0))
            self.assertTrue(client.reading)
            client.receive(whole[-1:] + b"hello")
            (wire,) = on.backends[0].wires
            self.assertEqual(wire.written, b"hello", name)
            (one,) = on.balancer.sessions
            peer = IPv4Address("TCP", "192.0.2.1", 1234)
            if ends is None:
                self.assertEqual((one.address, one.info), (peer, None), name)
            else:
                assert one.info is not None
                self.assertEqual([one.address, one.local], ends, name)
                self.assertEqual(one.info.peer, peer, name)

    def test_byteByByte(self) -> None:
        """
        A header may come byte by byte.
        """
        for name, (whole, _) in RIGHT.items():
            on = self.rig()
            client = on.client()
            for byte in whole[:300]:
                client.receive(bytes([byte]))
            client.receive(whole[300:])
            client.receive(b"hello")
            self.assertEqual(on.backends[0].wires[0].written, b"hello", name)

    def test_wrong(self) -> None:
        """
        A client whose first bytes are no header is closed, and nothing of it reaches a
        destination. This is counted.
        """
        events = logged(self)
        on = self.rig()
        for number, (name, data) in enumerate(WRONG.items(), 1):
            client = on.client()
            client.receive(data)
            client.receive(b"more")
            self.assertEqual(client.closing, "close", name)
            client.lose()
            self.assertIs(on.recorder.outcomes[number], Outcome.WRONG_HEADER, name)
        self.assertEqual(on.backends[0].tries, 0)
        self.assertEqual(on.balancer._pool.headers.wrong, len(WRONG))
        on.clock.advance(1)
        lines = [formatEvent(each) for each in events if "refused" in formatEvent(each)]
        self.assertEqual(len(lines), 2, "once a second")
        self.assertEqual(
            lines[0],
            "embedded: 192.0.2.1:1234 refused: wrong PROXY header: it begins with "
            "'GET / HTTP/1.1\\r\\n' (1 times)",
        )

    def test_truncated(self) -> None:
        """
        A client that ends or is lost within its header has left; nothing reaches a
        destination.
        """
        on = self.rig()
        number = 0
        for name, part in TRUNCATED.items():
            for leave in (Wire.end, Wire.lose):
                number += 1
                client = on.client()
                if part:
                    client.receive(part)
                leave(client)
                if client.connected:
                    self.assertEqual(client.closing, "close", name)
                    client.lose()
                found = on.recorder.outcomes[number]
                self.assertIs(found, Outcome.CLIENT_LEFT_HEADER, name)
        self.assertEqual(on.backends[0].tries, 0)
        self.assertEqual(on.balancer._pool.headers.incomplete, number)

    def test_late(self) -> None:
        """
        A client whose header is not complete in time is closed, however it sends.
        """
        on = self.rig(proxyTimeout=3)
        silent, slow = on.clients(2)
        for byte in LINE[:29]:
            slow.receive(bytes([byte]))
            on.clock.advance(0.1)
        self.assertEqual((silent.closing, slow.closing), (None, None))
        on.clock.advance(0.2)
        for number, each in enumerate((silent, slow), 1):
            self.assertEqual(each.closing, "close")
            each.lose()
            self.assertIs(on.recorder.outcomes[number], Outcome.HEADER_TIMEOUT)
        self.assertEqual(on.balancer._pool.headers.incomplete, 2)

    def test_whatFollowsIsNotTimed(self) -> None:
        """
        The time-out ends with the header.
        """
        on = self.rig(proxyTimeout=3)
        client = on.client()
        client.receive(LINE)
        on.clock.advance(20)
        self.assertIsNone(client.closing)
        self.assertEqual(on.balancer._pool.headers.read, 1)

    def test_others(self) -> None:
        """
        The client of another network has no header: what looks like one is the
        client's, and goes to the destination.
        """
        on = self.rig(acceptProxy="10.0.0.0/8")
        on.client("192.0.2.1").receive(LINE)
        self.assertEqual(on.backends[0].wires[0].written, LINE)
        on.client("10.1.2.3").receive(LINE + b"x")
        self.assertEqual(on.backends[0].wires[1].written, b"x")
        clients = [each.client for each in on.balancer.sessions]
        self.assertEqual(clients, ["192.0.2.1:1234", "203.0.113.9:56324"])

    def test_tlvs(self) -> None:
        """
        What the header says besides is at hand, for hooks and for the headers that
        destinations get: name, protocol and unique id among what is known.
        """
        on = self.rig(sendProxy="v2", proxyTlvs="unique-id,authority,alpn,ssl")
        on.client().receive(CHECKED)
        (one,) = on.balancer.sessions
        info = one.info
        assert info is not None
        self.assertEqual(
            (info.serverName, info.protocol, info.uniqueId),
            ("example.org", "h2", b"7F000001:C7B8_3C8A"),
        )
        tlvs = dict(info.tlvs)
        sent = on.backends[0].wires[0].written
        for kind in (1, 2, 5, SSL):
            self.assertIn(tlv(kind, tlvs[kind]), sent)

    def test_longNames(self) -> None:
        """
        What is too long for the name of a server or of a protocol is none.
        """
        on = self.rig()
        on.client().receive(two(body=FOUR + tlv(1, b"x" * 256) + tlv(2, b"x" * 256)))
        (one,) = on.balancer.sessions
        assert one.info is not None
        self.assertEqual((one.info.serverName, one.info.protocol), (None, None))
        self.assertEqual(len(one.info.tlvs), 2)

    def test_source(self) -> None:
        """
        The policy source keeps clients of a header apart, although one proxy has sent
        them.
        """
        on = self.rig(number=2, policy="source")
        for number in range(20):
            on.client().receive(LINE.replace(b"113.9", b"113.%d" % number))
            on.client().receive(LINE.replace(b"113.9", b"113.%d" % number))
        served: dict[str, set[str | None]] = {}
        for each in on.balancer.sessions:
            served.setdefault(each.clientHost, set()).add(each.destination)
        self.assertTrue(all(len(those) == 1 for those in served.values()), served)
        self.assertEqual(len(set().union(*served.values())), 2)

    def test_halfClose(self) -> None:
        """
        A client that ends its half behind its header and question is answered.
        """
        on = self.rig()
        client = on.client()
        client.receive(LINE + b"question")
        client.end()
        (wire,) = on.backends[0].wires
        self.assertEqual((wire.written, wire.ended), (b"question", True))
        wire.receive(b"answer")
        self.assertEqual(client.written, b"answer")

    def test_firstByte(self) -> None:
        """
        With C{take-slot first-byte} the first byte is that behind the header.
        """
        on = self.rig(takeSlot="first-byte")
        client = on.client()
        client.receive(LINE)
        self.assertEqual(on.backends[0].tries, 0)
        client.receive(b"x")
        self.assertEqual(on.backends[0].wires[0].written, b"x")


class LogTests(SynchronousTestCase):
    """
    What log lines say of a client.
    """

    def one(self, header: bytes = CHECKED) -> Session:
        """
        Make a session with a header.
        """
        on = Rig(acceptProxy="all")
        client = on.client()
        client.receive(header)
        (one,) = on.balancer.sessions
        one.ended, one.outcome = 1.0, Outcome.DONE
        return one

    def test_json(self) -> None:
        """
        JSON has the proxy, the TLVs by name, and the unique id.
        """
        found = json.loads(formatNamed("json")(self.one(), 1.0, "end"))
        self.assertEqual(found["client"], "127.0.0.1:51128")
        self.assertEqual(found["proxy"], "192.0.2.1:1234")
        self.assertEqual(found["tlvs"]["authority"], "example.org")
        self.assertEqual(found["uniqueId"], "7F000001:C7B8_3C8A")

    def test_unset(self) -> None:
        """
        Without a header, or without TLVs, the fields are null, or C{-}.
        """
        plain = session(1)
        plain.ended, plain.outcome = 1.0, Outcome.DONE
        for one in (plain, self.one(LINE)):
            found = json.loads(formatNamed("json")(one, 1.0, "end"))
            self.assertEqual((found["tlvs"], found["uniqueId"]), (None, None))
            line = formatNamed("{tlvs} {uniqueId:>3}")(one, 1.0, "end")
            self.assertEqual(line, "- -\n")
        self.assertEqual(formatNamed("{proxy}")(plain, 1.0, "end"), "-\n")

    def test_template(self) -> None:
        """
        In templates each TLV is one word, and nothing that the proxy sent can break the
        line or leave its quotes.
        """
        body = FOUR + tlv(0xEA, b'\1a "b"\n\\') + tlv(2, b"x y")
        line = formatNamed('"{tlvs}"')(self.one(two(body=body)), 1.0, "end")
        escaped = r'"ea=\\x01a\x20\"b\"\\n\\ authority=x\x20y"' + "\n"
        self.assertEqual(line, escaped)


LISTENERS = ("tcp4", "tcp6", "unix")


@pytest.mark.parametrize("family", LISTENERS)
@pytest.mark.parametrize("relay", RELAYS)
@pytest_twisted.ensureDeferred
async def test_overSockets(relay: str, family: str, tmp_path: Path) -> None:
    """
    Over sockets of each kind, in pieces, the header is taken off, and the bytes behind
    it are passed both ways, on the fast relay if it applies.
    """
    trust = "127.0.0.0/8,::1,unix"
    async with rig(relay, family, tmp_path, Echo, acceptProxy=trust) as running:
        client = await running.client()
        for start in range(0, len(CHECKED), 7):
            client.write(CHECKED[start : start + 7])
            await until(lambda: running.balancer.sessions)
        client.write(b"hello")
        assert await client.got(5) == b"hello"
        assert running.session.client == "127.0.0.1:51128"
        if relay == "fast":
            assert isinstance(running.session.relay, FastRelay)
        client.end()
        assert await running.outcome() is Outcome.DONE
        assert client.received == b"hello"


@pytest.mark.parametrize("relay", RELAYS)
@pytest_twisted.ensureDeferred
async def test_wrongOverSockets(relay: str, tmp_path: Path) -> None:
    """
    A wrong header, and one that is cut off by an end or a reset, end their session
    alone.
    """
    async with rig(relay, "tcp4", tmp_path, Echo, acceptProxy="all") as running:
        wrong, cut, gone, right = [await running.client() for _ in range(4)]
        wrong.write(WRONG["v1 999"] + b"hello")
        assert await running.outcome(1) is Outcome.WRONG_HEADER
        await wrong.closed()
        cut.write(LINE[:-1])
        cut.end()
        assert await running.outcome(2) is Outcome.CLIENT_LEFT_HEADER
        gone.write(LINE[:-1])
        gone.reset()
        assert await running.outcome(3) is Outcome.CLIENT_LEFT_HEADER
        right.write(LINE + b"hello")
        right.end()
        assert await right.got(5) == b"hello"
        await until(lambda: right.ended)
        assert len(running.server.peers) == 1


@pytest.mark.parametrize("relay", RELAYS)
@pytest_twisted.ensureDeferred
async def test_longLocal(relay: str, tmp_path: Path) -> None:
    """
    A C{LOCAL} header that is longer than all that can be looked at is skipped.
    """
    async with rig(relay, "tcp4", tmp_path, Echo, acceptProxy="all") as running:
        client = await running.client()
        client.write(RIGHT["v2 local, the longest"][0] + b"hello")
        assert await client.got(5) == b"hello"


async def asked(client: Peer) -> None:
    """
    A client sends a header and a question, ends its half, and gets the whole answer.
    """
    client.write(LINE + b"hello")
    client.end()
    await until(lambda: client.ended)
    assert client.received == b"hello"


@pytest_twisted.ensureDeferred
async def test_prefix(tmp_path: Path) -> None:
    """
    Clients of a listener behind C{haproxy:} begin with a header, all of them, or those
    that the listener names. Their half-close is passed on.
    """
    listeners = (
        "haproxy:tcp:0:interface=127.0.0.1",
        f"haproxy:unix:{tmp_path}/in.sock",
        "haproxy:tcp:0:interface=127.0.0.1 accept-proxy=10.0.0.0/8",
    )
    async with stage(*listeners) as on:
        await on.serve("a", Echo)
        for listener in (0, 1):
            await asked(await on.client(listener=listener))
        client = await on.client(listener=2)
        client.write(LINE)
        assert await client.got(len(LINE)) == LINE


@pytest_twisted.ensureDeferred
async def test_manySlow() -> None:
    """
    Clients that never complete their header hold neither a slot nor a place in the
    queue: others are served meanwhile.
    """
    async with stage("127.0.0.1:0", acceptProxy="all", slots=1) as on:
        await on.serve("a", Echo)
        for _ in range(100):
            slow = await on.client()
            slow.write(LINE[:20])
        for _ in range(3):
            await asked(await on.client())
        assert on.balancer.waiting == 0
