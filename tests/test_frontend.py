"""
Where clients come in: how many, and in what steps they reach the queue.
"""

from __future__ import annotations

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.trial.unittest import SynchronousTestCase

from iawlb.core.outcome import Outcome
from iawlb.core.session import describe
from tests.doubles import Rig, SecureWire, Wire, logged


class RoomTests(SynchronousTestCase):
    """
    No more come in than there is room for.
    """

    def room(self, rig: Rig) -> int:
        """
        Ask for the room that is left.
        """
        return rig.balancer.factory.admission.room()

    def test_queueSize(self) -> None:
        """
        When as many wait as may, there is no room until a quarter has gone.
        """
        rig = Rig(queueSize=8)
        rig.balancer.pause()
        self.assertEqual(self.room(rig), 8)
        clients = rig.clients(8)
        seen = [self.room(rig)]
        for client in clients[:4]:
            client.lose(reset=True)
            seen.append(self.room(rig))
        self.assertEqual(seen, [0, 0, 2, 3, 4])

    def test_queueOfOne(self) -> None:
        """
        A queue of one place takes one at a time.
        """
        rig = Rig(queueSize=1)
        rig.balancer.pause()
        client = rig.client()
        self.assertEqual(self.room(rig), 0)
        client.lose(reset=True)
        self.assertEqual(self.room(rig), 1)

    def test_batchCounts(self) -> None:
        """
        Clients that wait for their batch have a place in the queue already.
        """
        rig = Rig(queueSize=8, acceptBatch=20)
        rig.clients(3)
        self.assertEqual(self.room(rig), 5)

    def test_maxConnections(self) -> None:
        """
        No more connections are open at a time than may be, the waiting ones and
        the served ones together.
        """
        rig = Rig(maxConnections=3, slots=1)
        first, *_ = rig.clients(3)
        self.assertEqual(self.room(rig), 0)
        rig.backends[0].wires[0].lose()
        self.assertEqual(self.room(rig), 0)
        first.lose()
        self.assertEqual(self.room(rig), 1)

    def test_turnedAway(self) -> None:
        """
        An endpoint of the program's own cannot be paused: a connection for which there
        is no room is closed, and the log says so once a second, with the number of such
        connections.
        """
        lines = logged(self)
        rig = Rig(maxConnections=1)
        rig.client()
        address = IPv4Address("TCP", "192.0.2.1", 1)
        for _ in range(5):
            self.assertIsNone(rig.balancer.factory.buildProtocol(address))
        rig.advance(1.1)
        numbers = [
            each["number"] for each in lines if "no room" in (each["log_format"] or "")
        ]
        self.assertEqual(numbers, [1, 4])


class BatchTests(SynchronousTestCase):
    """
    Clients can reach the queue several at a time.
    """

    def test_noBatching(self) -> None:
        """
        By default each client reaches the queue at once.
        """
        rig = Rig()
        rig.client()
        self.assertEqual(rig.backends[0].tries, 1)

    def test_full(self) -> None:
        """
        A batch that is full is handed over at once, in order.
        """
        rig = Rig(acceptBatch=3)
        rig.clients(2)
        self.assertEqual(rig.recorder.pulls, [])
        rig.client()
        self.assertEqual(rig.recorder.pulls, [(1, "a"), (2, "a"), (3, "a")])

    def test_delay(self) -> None:
        """
        A batch that does not fill enters the queue after a short time.
        """
        rig = Rig(acceptBatch=3, acceptDelay="20ms")
        rig.client()
        rig.clock.advance(0.01)
        rig.client()
        rig.clock.advance(0.005)
        self.assertEqual(rig.recorder.pulls, [])
        rig.clock.advance(0.01)
        self.assertEqual(rig.recorder.pulls, [(1, "a"), (2, "a")])
        rig.clients(3)
        self.assertEqual(len(rig.recorder.pulls), 5)

    def test_freeSlots(self) -> None:
        """
        A batch need not be larger than there are free slots.
        """
        rig = Rig(2, acceptBatch=10, slots=1)
        rig.client()
        self.assertEqual(rig.recorder.pulls, [])
        rig.client()
        self.assertEqual(rig.recorder.pulls, [(1, "a"), (2, "b")])
        # With none free a client may as well wait in the queue.
        rig.client()
        self.assertEqual(rig.balancer.waiting, 1)

    def test_freeSlotsUnknown(self) -> None:
        """
        A destination without a limit has slots for any batch.
        """
        rig = Rig(acceptBatch=3, slots=1)
        rig.balancer.add("tcp:127.0.0.1:9", name="b", slots=0)
        rig.client()
        self.assertEqual((rig.recorder.pulls, rig.balancer.waiting), ([], 0))

    def test_leaves(self) -> None:
        """
        A client that leaves its batch does not enter the queue.
        """
        rig = Rig(acceptBatch=3)
        rig.client().lose(reset=True)
        rig.client()
        rig.advance(0.1)
        self.assertEqual(rig.recorder.pulls, [(2, "a")])
        self.assertEqual(rig.recorder.outcomes, {1: Outcome.CLIENT_LEFT_QUEUE})

    def test_leavesDuringStop(self) -> None:
        """
        A client of a program's own endpoint that comes during the stop, and leaves
        its batch, leaves no timer behind.
        """
        rig = Rig(acceptBatch=3)
        served = rig.client()
        stopped = rig.balancer.stopService()
        rig.client().lose()
        rig.backends[0].wires[0].lose()
        served.lose()
        self.successResultOf(stopped)
        self.assertEqual(rig.clock.getDelayedCalls(), [])

    def test_stop(self) -> None:
        """
        A batch that waits when the balancer stops is served.
        """
        rig = Rig(acceptBatch=3)
        client = rig.client()
        stopped = rig.balancer.stopService()
        self.assertEqual(rig.recorder.pulls, [(1, "a")])
        rig.backends[0].wires[0].lose()
        client.lose()
        self.successResultOf(stopped)


class WaitTests(SynchronousTestCase):
    """
    Clients wait, or leave.
    """

    def setUp(self) -> None:
        """
        Have nothing pull.
        """
        self.rig = Rig(queueTimeout="3s")
        self.rig.balancer.pause()

    def test_notRead(self) -> None:
        """
        Nothing is read from a client that waits: the kernel holds what it sends.
        """
        self.assertFalse(self.rig.client().reading)

    def test_reset(self) -> None:
        """
        A client that is reset while it waits frees its place, and no destination
        ever sees it.
        """
        client = self.rig.client()
        client.lose(reset=True)
        self.assertEqual(self.rig.balancer.waiting, 0)
        self.rig.balancer.resume()
        self.assertEqual(self.rig.backends[0].tries, 0)
        self.assertEqual(self.rig.recorder.outcomes, {1: Outcome.CLIENT_LEFT_QUEUE})

    def test_halfClose(self) -> None:
        """
        A client that has ended its half keeps waiting, as its answer is still to come;
        the destination gets its bytes and its end.
        """
        client = self.rig.client()
        client.receive(b"all I say")
        client.end()
        self.assertEqual(self.rig.balancer.waiting, 1)
        self.rig.balancer.resume()
        (wire,) = self.rig.backends[0].wires
        self.assertEqual((wire.written, wire.ended), (b"all I say", True))

    def test_timeout(self) -> None:
        """
        A client that has waited for the queue timeout is closed.
        """
        client = self.rig.client()
        self.rig.advance(2.9)
        self.assertIsNone(client.closing)
        self.rig.advance(0.5)
        self.assertEqual((client.closing, self.rig.balancer.waiting), ("close", 0))
        client.lose()
        self.assertEqual(self.rig.recorder.outcomes, {1: Outcome.QUEUE_TIMEOUT})

    def secure(self) -> Wire:
        """
        Connect a client over TLS, without finishing its handshake.
        """
        protocol = self.rig.balancer.factory.buildProtocol(None)
        wire = SecureWire(protocol)
        assert protocol is not None
        protocol.makeConnection(wire)
        return wire

    def test_handshake(self) -> None:
        """
        A TLS client enters the queue when its handshake is done; bytes that it sends
        together with the handshake are kept.
        """
        wire = self.secure()
        self.assertEqual(self.rig.balancer.waiting, 0)
        wire.receive(b"early")
        wire.protocol.handshakeCompleted()
        self.assertEqual(self.rig.balancer.waiting, 1)
        self.rig.balancer.resume()
        self.assertEqual(self.rig.backends[0].wires[0].written, b"early")

    def test_leavesInHandshake(self) -> None:
        """
        A client that leaves during its handshake is recorded as such.
        """
        self.secure().lose(reset=True)
        self.assertEqual(self.rig.recorder.outcomes, {1: Outcome.CLIENT_LEFT_HANDSHAKE})

    def test_secureTimeout(self) -> None:
        """
        A TLS client that waited too long is cut off, as its own close of the
        session may never come.
        """
        wire = self.secure()
        wire.protocol.handshakeCompleted()
        self.rig.advance(3.5)
        self.assertEqual(wire.closing, "abort")


class DescribeTests(SynchronousTestCase):
    """
    Addresses in the record.
    """

    def test_kinds(self) -> None:
        """
        Each kind of address is written as a user would, and its host does not
        vary between connections of one client.
        """
        for address, text, host in (
            (IPv4Address("TCP", "192.0.2.1", 80), "192.0.2.1:80", "192.0.2.1"),
            (IPv6Address("TCP", "fe80::1%eth0", 80), "[fe80::1%eth0]:80", None),
            (UNIXAddress("/run/app.sock"), "unix:/run/app.sock", "unix"),
            (UNIXAddress(None), "unix:", "unix"),
            (UNIXAddress(b"\0app"), "unix:@app", "unix"),
            (None, "None", "None"),
        ):
            self.assertEqual(describe(address), (text, host or "fe80::1%eth0"))

    def test_hostile(self) -> None:
        """
        A client of a Unix socket chooses its own name, but can write no line of its own
        into the log with it, nor send anything to the terminal; bytes that are not
        UTF-8 are shown too.
        """
        for name, text in (
            (b"\0a\nb", r"unix:@a\nb"),
            (b"/tmp/\x1b[2J\x9b\r", r"unix:/tmp/\x1b[2J\x9b\r"),
            (b"\xff\xfe", r"unix:\xff\xfe"),
            ("/tmp/\u202eé\u2028".encode(), r"unix:/tmp/\u202eé\u2028"),
            (b"\0", "unix:@"),
            (b"\0\0", r"unix:@\x00"),
        ):
            self.assertEqual(describe(UNIXAddress(name)), (text, "unix"))
        for kind in (IPv4Address, IPv6Address):
            self.assertTrue(describe(kind("TCP", "\x1b[1m\n", 1))[0].isprintable())
