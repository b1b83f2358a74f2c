"""
Tests for L{iawlb.relay.sends}, on sockets that no reactor knows.
"""

from __future__ import annotations

import socket
import struct

from twisted.trial.unittest import SynchronousTestCase

from iawlb.relay.sends import SendWatch, unconfirmed, unsent


class Watched:
    """
    A connection that counts its calls.
    """

    def __init__(self, transport: socket.socket) -> None:
        self.transport = transport
        self.told = 0

    def fileno(self) -> int:
        """
        Return the descriptor of its transport.
        """
        return self.transport.fileno()

    def allSent(self) -> None:
        """
        Count the call.
        """
        self.told += 1


class SendsTests(SynchronousTestCase):
    """
    When all that was written is sent.
    """

    def setUp(self) -> None:
        """
        Watch no connection.
        """
        self.sends = SendWatch()

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

    def test_whenSent(self) -> None:
        """
        A connection that has sent all is called at once; one that has not, when the
        peer has made room.
        """
        one, peer = self.pair()
        self.sends.whenSent(one)
        self.assertEqual(one.told, 1)
        accepted = one.transport
        sent = 0
        while True:
            try:
                sent += accepted.send(bytes(65536))
            except BlockingIOError:
                break
        self.sends.whenSent(one)
        self.sends.check()
        self.assertEqual(one.told, 1)
        while sent:
            sent -= len(peer.recv(65536))
        self.sends.check()
        self.sends.check()
        self.assertEqual(one.told, 2)

    def test_unixSent(self) -> None:
        """
        A Unix socket keeps what was written when it is closed, so it need not wait.
        """
        mine, peer = socket.socketpair()
        self.addCleanup(mine.close)
        self.addCleanup(peer.close)
        mine.send(b"all")
        one = Watched(mine)
        self.sends.whenSent(one)
        self.assertEqual(one.told, 1)

    def test_first(self) -> None:
        """
        The first connection that has something left to send is reported, and none
        beside it: then the checks begin.
        """
        firsts: list[None] = []
        sends = SendWatch(lambda: firsts.append(None))
        done, _ = self.pair()
        sends.whenSent(done)
        self.assertEqual(firsts, [])
        for _ in range(2):
            one, _ = self.pair()
            self.fill(one)
            sends.whenSent(one)
        self.assertEqual((len(firsts), len(sends)), (1, 2))

    def fill(self, connection: Watched) -> int:
        """
        Write until the kernel takes no more.
        """
        sent = 0
        while True:
            try:
                sent += connection.transport.send(bytes(65536))
            except BlockingIOError:
                return sent

    def test_unconfirmed(self) -> None:
        """
        Bytes that the peer has not acknowledged are counted, also when they were sent
        or the peer has reset the connection, and without the end behind them.
        """
        one, peer = self.pair()
        number = one.fileno()
        self.assertEqual(unconfirmed(number), 0)
        sent = self.fill(one)
        left = unconfirmed(number)
        self.assertTrue(0 < left < sent)
        one.transport.shutdown(socket.SHUT_WR)
        self.assertEqual(unconfirmed(number, True), left)
        self.assertTrue(unsent(number) < left)
        linger = struct.pack("ii", 1, 0)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        peer.close()
        self.assertEqual(unconfirmed(number, True), left)

    def test_forgetUnsent(self) -> None:
        """
        A connection that is closed before all was sent is not called.
        """
        one, _ = self.pair()
        accepted = one.transport
        accepted.send(bytes(8 * 1024 * 1024))
        self.sends.whenSent(one)
        self.sends.forget(one)
        accepted.close()
        self.sends.check()
        self.assertEqual(one.told, 0)
