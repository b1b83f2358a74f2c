"""
Tests for L{iawlb.relay.resets}, on sockets that no reactor knows.
"""

from __future__ import annotations

import socket
import struct

from twisted.trial.unittest import SynchronousTestCase

from iawlb.relay.resets import ResetWatch


class Watched:
    """
    A watched connection that counts its calls.
    """

    def __init__(self, transport: socket.socket) -> None:
        self.transport = transport
        self.told = 0
        self.left = 0

    def fileno(self) -> int:
        """
        Return the descriptor of its transport.
        """
        return self.transport.fileno()

    def hungUp(self) -> None:
        """
        Count the call.
        """
        self.told += 1

    def peerLeft(self) -> None:
        """
        Count.
        """
        self.left += 1


def reset(peer: socket.socket) -> None:
    """
    Close with a reset.
    """
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


class ResetsTests(SynchronousTestCase):
    """
    Which connections are reported as reset, or as left.
    """

    def setUp(self) -> None:
        """
        Make a watch without connections.
        """
        self.resets = ResetWatch()

    def pair(self) -> tuple[Watched, socket.socket]:
        """
        Connect a socket to its peer.
        """
        with socket.create_server(("127.0.0.1", 0)) as listening:
            peer = socket.create_connection(listening.getsockname())
            accepted = listening.accept()[0]
        accepted.setblocking(False)
        self.addCleanup(peer.close)
        self.addCleanup(accepted.close)
        return Watched(accepted), peer

    def test_reset(self) -> None:
        """
        A reset is reported once, for the connection that was reset.
        """
        (one, peer), (other, _) = self.pair(), self.pair()
        self.resets.watch(one)
        self.resets.watch(other)
        self.resets.check()
        self.assertEqual((one.told, other.told), (0, 0))
        reset(peer)
        self.resets.check()
        self.resets.check()
        self.assertEqual((one.told, other.told), (1, 0))
        self.assertEqual(len(self.resets), 1)

    def test_unreadBytes(self) -> None:
        """
        A reset is reported even though there are bytes to be read.
        """
        one, peer = self.pair()
        self.resets.watch(one)
        peer.sendall(b"unread")
        reset(peer)
        self.resets.check()
        self.assertEqual(one.told, 1)

    def test_end(self) -> None:
        """
        An end is no reset, whether of one half or of both.
        """
        one, peer = self.pair()
        self.resets.watch(one)
        peer.sendall(b"all")
        peer.shutdown(socket.SHUT_WR)
        self.resets.check()
        peer.close()
        self.resets.check()
        self.assertEqual(one.told, 0)
        self.assertFalse(self.resets.hasLeft(one))

    def test_unixEnd(self) -> None:
        """
        A Unix socket whose peer wrote and closed still has bytes to be read.
        """
        mine, peer = socket.socketpair()
        self.addCleanup(mine.close)
        one = Watched(mine)
        self.resets.watch(one)
        peer.sendall(b"all")
        peer.close()
        self.resets.check()
        self.assertEqual(one.told, 0)
        self.assertFalse(self.resets.hasLeft(one))

    def unix(self) -> tuple[Watched, socket.socket]:
        """
        Connect a Unix socket to its peer.
        """
        mine, peer = socket.socketpair()
        mine.setblocking(False)
        self.addCleanup(mine.close)
        self.addCleanup(peer.close)
        return Watched(mine), peer

    def test_leaves(self) -> None:
        """
        A peer that ends its half before anything was read, and has sent nothing, has
        left; this is reported once, whether the peer only ends its half or closes.
        """
        for make in (self.pair, self.unix):
            for close in (True, False):
                one, peer = make()
                self.resets.watch(one, True)
                self.assertFalse(self.resets.hasLeft(one))
                self.resets.check()
                self.assertEqual(one.left, 0)
                if close:
                    peer.close()
                else:
                    peer.shutdown(socket.SHUT_WR)
                self.assertTrue(self.resets.hasLeft(one))
                self.resets.check()
                self.resets.check()
                self.assertEqual((one.told, one.left, len(self.resets)), (0, 1, 0))

    def test_asksAndEnds(self) -> None:
        """
        A peer that has sent something before it ends its half may wait for an answer,
        so it has not left. This is found out once, and costs nothing later.
        """
        for make in (self.pair, self.unix):
            one, peer = make()
            self.resets.watch(one, True)
            peer.sendall(b"a question")
            peer.shutdown(socket.SHUT_WR)
            self.assertFalse(self.resets.hasLeft(one))
            self.resets.check()
            self.assertEqual(self.resets._poll.poll(0), [])
            self.assertFalse(self.resets.hasLeft(one))
            peer.close()
            self.resets.check()
            self.assertEqual(self.resets._poll.poll(0), [])
            # A connect begins, and is watched too.
            self.resets.watch(one, True)
            self.resets.check()
            self.assertEqual((one.told, one.left, len(self.resets)), (0, 0, 1))
            self.resets.forget(one)

    def test_asksEndsAndResets(self) -> None:
        """
        A reset is noticed after such an end too.
        """
        one, peer = self.pair()
        self.resets.watch(one, True)
        peer.sendall(b"a question")
        peer.shutdown(socket.SHUT_WR)
        self.resets.check()
        reset(peer)
        self.assertTrue(self.resets.hasLeft(one))
        self.resets.check()
        self.assertEqual((one.told, one.left, len(self.resets)), (1, 0, 0))

    def test_abortOnClose(self) -> None:
        """
        Where users say that no client ends its half to wait for an answer, each client
        that ends its half has left.
        """
        self.resets = ResetWatch(abortOnClose=True)
        for make in (self.pair, self.unix):
            one, peer = make()
            self.resets.watch(one, True)
            peer.sendall(b"a question")
            self.resets.check()
            self.assertEqual((self.resets.hasLeft(one), one.left), (False, 0))
            peer.close()
            self.assertTrue(self.resets.hasLeft(one))
            self.resets.check()
            self.assertEqual((one.told, one.left, len(self.resets)), (0, 1, 0))

    def test_relayed(self) -> None:
        """
        Once a connection is relayed, an end does not mean that the peer has left.
        """
        one, peer = self.pair()
        self.resets.watch(one, True)
        self.resets.watch(one)
        peer.close()
        self.assertFalse(self.resets.hasLeft(one))
        self.resets.check()
        self.assertEqual((one.told, one.left, len(self.resets)), (0, 0, 1))

    def test_forget(self) -> None:
        """
        A connection that is no longer watched is not called.
        """
        one, peer = self.pair()
        self.resets.watch(one)
        self.resets.forget(one)
        self.resets.forget(one)
        reset(peer)
        self.resets.check()
        self.assertEqual((one.told, len(self.resets)), (0, 0))

    def test_watchTwice(self) -> None:
        """
        Watching a connection twice is the same as once.
        """
        one, _ = self.pair()
        self.resets.watch(one)
        self.resets.watch(one)
        self.assertEqual(len(self.resets), 1)
        self.resets.forget(one)
        self.assertEqual(len(self.resets), 0)

    def test_noDescriptor(self) -> None:
        """
        An object without a socket, or with a closed one, cannot be watched.
        """
        closed = socket.socket()
        closed.close()
        one = Watched(closed)
        self.resets.watch(one)
        self.assertEqual(len(self.resets), 0)
        self.assertFalse(self.resets.hasLeft(one))

    def test_tellingOneForgetsAnother(self) -> None:
        """
        When two connections were reset and the first one's call closes the other, the
        other is not called.
        """
        (one, peer), (other, its) = self.pair(), self.pair()

        def both() -> None:
            self.resets.forget(one)
            self.resets.forget(other)

        one.hungUp = other.hungUp = both  # type: ignore[method-assign]
        self.resets.watch(one)
        self.resets.watch(other)
        reset(peer)
        reset(its)
        self.resets.check()
        self.assertEqual(len(self.resets), 0)

    def test_hasLeft(self) -> None:
        """
        One connection can be checked, watched or not.
        """
        one, peer = self.pair()
        self.assertFalse(self.resets.hasLeft(one))
        self.resets.watch(one)
        reset(peer)
        self.assertTrue(self.resets.hasLeft(one))
