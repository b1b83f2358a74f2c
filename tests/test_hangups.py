"""
Tests for L{iawlb.relay.hangups}, on sockets that no reactor knows.
"""

from __future__ import annotations

import socket
import struct

from twisted.trial.unittest import SynchronousTestCase

from iawlb.relay.hangups import Hangups, wasReset


class Watched:
    """
    A connection that is told.
    """

    def __init__(self, transport: socket.socket) -> None:
        self.transport = transport
        self.told = 0

    def fileno(self) -> int:
        """
        The descriptor of its transport.
        """
        return self.transport.fileno()

    def hungUp(self) -> None:
        """
        Count it.
        """
        self.told += 1


def reset(peer: socket.socket) -> None:
    """
    Close with a reset.
    """
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


class HangupsTests(SynchronousTestCase):
    """
    Who is told of what.
    """

    def setUp(self) -> None:
        """
        Watch nobody.
        """
        self.hangups = Hangups()

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
        A reset is told once, of the one that was reset.
        """
        (one, peer), (other, _) = self.pair(), self.pair()
        self.hangups.watch(one)
        self.hangups.watch(other)
        self.hangups.check()
        self.assertEqual((one.told, other.told), (0, 0))
        reset(peer)
        self.hangups.check()
        self.hangups.check()
        self.assertEqual((one.told, other.told), (1, 0))
        self.assertEqual(len(self.hangups), 1)

    def test_unreadBytes(self) -> None:
        """
        It is told although there are bytes to be read.
        """
        one, peer = self.pair()
        self.hangups.watch(one)
        peer.sendall(b"unread")
        reset(peer)
        self.hangups.check()
        self.assertEqual(one.told, 1)

    def test_end(self) -> None:
        """
        An end is no reset, whether of one half or of both.
        """
        one, peer = self.pair()
        self.hangups.watch(one)
        peer.sendall(b"all")
        peer.shutdown(socket.SHUT_WR)
        self.hangups.check()
        peer.close()
        self.hangups.check()
        self.assertEqual(one.told, 0)
        self.assertFalse(wasReset(one))

    def test_unixEnd(self) -> None:
        """
        A Unix socket whose peer wrote and closed still has bytes to be read.
        """
        mine, peer = socket.socketpair()
        self.addCleanup(mine.close)
        one = Watched(mine)
        self.hangups.watch(one)
        peer.sendall(b"all")
        peer.close()
        self.hangups.check()
        self.assertEqual(one.told, 0)
        self.assertFalse(wasReset(one))

    def test_forget(self) -> None:
        """
        Who is forgotten is not told.
        """
        one, peer = self.pair()
        self.hangups.watch(one)
        self.hangups.forget(one)
        self.hangups.forget(one)
        reset(peer)
        self.hangups.check()
        self.assertEqual((one.told, len(self.hangups)), (0, 0))

    def test_watchTwice(self) -> None:
        """
        To watch twice is to watch once.
        """
        one, _ = self.pair()
        self.hangups.watch(one)
        self.hangups.watch(one)
        self.assertEqual(len(self.hangups), 1)
        self.hangups.forget(one)
        self.assertEqual(len(self.hangups), 0)

    def test_noDescriptor(self) -> None:
        """
        What is no socket, or is closed, cannot be watched.
        """
        closed = socket.socket()
        closed.close()
        one = Watched(closed)
        self.hangups.watch(one)
        self.assertEqual(len(self.hangups), 0)
        self.assertFalse(wasReset(one))

    def test_tellingOneForgetsAnother(self) -> None:
        """
        When two were reset and the first of them takes the other along, that is
        not told any more.
        """
        (one, peer), (other, its) = self.pair(), self.pair()

        def both() -> None:
            self.hangups.forget(one)
            self.hangups.forget(other)

        one.hungUp = other.hungUp = both  # type: ignore[method-assign]
        self.hangups.watch(one)
        self.hangups.watch(other)
        reset(peer)
        reset(its)
        self.hangups.check()
        self.assertEqual(len(self.hangups), 0)

    def test_wasReset(self) -> None:
        """
        One connection can be asked, watched or not.
        """
        one, peer = self.pair()
        self.assertFalse(wasReset(one))
        self.hangups.watch(one)
        reset(peer)
        self.assertTrue(wasReset(one))

    def test_resetWhenSent(self) -> None:
        """
        Who has sent all is told at once, and who has not when the peer has made
        room for it.
        """
        one, peer = self.pair()
        self.hangups.resetWhenSent(one)
        self.assertEqual(one.told, 1)
        accepted = one.transport
        sent = 0
        while True:
            try:
                sent += accepted.send(bytes(65536))
            except BlockingIOError:
                break
        self.hangups.resetWhenSent(one)
        self.hangups.check()
        self.assertEqual(one.told, 1)
        while sent:
            sent -= len(peer.recv(65536))
        self.hangups.check()
        self.hangups.check()
        self.assertEqual(one.told, 2)

    def test_unixSent(self) -> None:
        """
        A Unix socket keeps what was written when it is closed, so it need not
        wait.
        """
        mine, peer = socket.socketpair()
        self.addCleanup(mine.close)
        self.addCleanup(peer.close)
        mine.send(b"all")
        one = Watched(mine)
        self.hangups.resetWhenSent(one)
        self.assertEqual(one.told, 1)

    def test_forgetUnsent(self) -> None:
        """
        Who is closed before all was sent is not told.
        """
        one, _ = self.pair()
        accepted = one.transport
        accepted.send(bytes(8 * 1024 * 1024))
        self.hangups.resetWhenSent(one)
        self.hangups.forget(one)
        accepted.close()
        self.hangups.check()
        self.assertEqual(one.told, 0)
