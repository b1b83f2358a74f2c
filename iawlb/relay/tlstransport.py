"""
TLS between a transport and the side above it.

Twisted's own (C{TLSMemoryBIOProtocol}) cannot end one half: when one peer has said that
it will send no more, the other half is cut off. It also encrypts in pieces of 16 KiB
with a write for each, and sends close_notify even in front of a reset, so that the peer
takes what was cut off for whole.
"""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol, INegotiated
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.tcp import Connection
from twisted.python.failure import Failure
from zope.interface import implementer

from iawlb.compat import unwritten
from iawlb.relay.ends import isEnd
from iawlb.relay.records import Records
from iawlb.relay.side import Side

RECORD = 16 * 1024
"""
The most bytes that a record of TLS holds.
"""

SMALL = 8 * 1024
"""
The most bytes taken from OpenSSL at a time that it has to say itself.
"""

ADDED = 64
"""
The most bytes by which encryption makes a record longer.
"""

MOST_UNREAD = 64 * 1024
"""
The most bytes that may wait to be written which OpenSSL itself answers to a peer, as to
one that asks for a renegotiation again and again; a peer for which there are more is
cut off. Relayed bytes do not count: they are held back.
"""


@implementer(IHalfCloseableProtocol, INegotiated)
class TlsTransport(Protocol):
    """
    The balancer's end of one TLS connection: the protocol of the transport below, and
    the transport of the side above. What it does not know itself, it has from the
    transport below.

    @cvar halfCloses: Whether one half can be ended, which L{Side} asks.
    @ivar transport: The transport below.
    """

    transport: Any
    halfCloses = True
    plain = False

    def __init__(self, connection: SSL.Connection, above: Side) -> None:
        """
        @param connection: OpenSSL's end of the connection, over memory, which knows
            already whether it accepts or connects.
        @param above: The side, which gets what was decrypted.
        """
        self._tls = connection
        self._above: Any = above
        self._strict = above.context.strictTls
        self._records = Records()
        self._shaken = False
        # Whether the peer has sent close_notify, and whether we have.
        self._peerEnded = False
        self._ended = False
        # Whether the connection is closed or about to be, so that nothing more is
        # decrypted.
        self._over = False
        self._why: Failure | None = None
        # How many bytes OpenSSL has answered that may still wait to be written.
        self._unread = 0

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            # The interfaces of zope.interface are those of this object alone.
            raise AttributeError(name)
        return getattr(self.transport, name)

    def logPrefix(self) -> str:
        """
        Name the connection in Twisted's own log lines.
        """
        return "iawlb"

    def getHandle(self) -> SSL.Connection:
        """
        Return OpenSSL's end of the connection.
        """
        return self._tls

    @property
    def negotiatedProtocol(self) -> bytes | None:
        """
        The application protocol that was agreed upon, or L{None}.
        """
        return self._tls.get_alpn_proto_negotiated() or None

    # What the transport below reports.

    def connectionMade(self) -> None:
        """
        Begin the handshake.
        """
        above = self._above
        if isinstance(self.transport, Connection):
            # Both the size of a read, and how much may wait to be written.
            self.transport.bufferSize = above.bufferSize
        above.makeConnection(self)
        if not self._over:
            self._shake()

    def dataReceived(self, data: bytes) -> None:
        """
        Decrypt bytes, and pass on what they hold.
        """
        if self._over or self._peerEnded:
            return
        self._records.add(data)
        tls = self._tls
        tls.bio_write(data)
        if not self._shaken:
            self._shake()
            if not self._shaken or self._over:
                return
        found, ended = [], False
        try:
            while True:
                found.append(tls.recv(RECORD))
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            ended = True
        except SSL.Error:
            self._fail()
        if found:
            self._above.dataReceived(found[0] if len(found) == 1 else b"".join(found))
        if self._over:
            return
        answered = self._flush()
        if answered:
            waiting = unwritten(self.transport) > answered
            self._unread = answered + (self._unread if waiting else 0)
        if self._unread > MOST_UNREAD:
            # The peer makes OpenSSL answer, and reads nothing.
            self.abortConnection()
        elif ended:
            self._peerEnded = True
            # The end of TCP that follows means nothing more.
            self.transport.pauseProducing()
            self._above.peerEnded()

    def readConnectionLost(self) -> None:
        """
        Called when the reactor reports the end of the peer's bytes. If the kernel says
        so too, close the connection: without close_notify, TLS cannot go on.
        """
        below = self.transport
        if not isEnd(below) or self._peerEnded:
            return
        if isinstance(below, Connection):
            below.connectionLost(Failure(ConnectionDone()))
        else:
            below.loseConnection()

    def writeConnectionLost(self) -> None:
        """
        Called when our half is closed, as we asked.
        """

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        Decide whether the connection was closed in order, and pass its end on.
        """
        cut = self._strict or not self._records.complete
        if self._why is not None:
            reason = self._why
        elif not self._over and not self._peerEnded and cut:
            reason = Failure(ConnectionLost())
        self._over = True
        above = self._above
        # No reference cycle is left for the garbage collector.
        self._above = self._why = None
        above.connectionLost(reason)

    # What the side above asks for.

    def setTcpNoDelay(self, enabled: bool) -> None:
        """
        Have the kernel send small pieces at once, if the transport below knows that.
        """
        below = self.transport
        # An accepted socket has it from the listening one.
        if not getattr(below, "plain", False) and hasattr(below, "setTcpNoDelay"):
            below.setTcpNoDelay(enabled)

    def write(self, data: bytes) -> None:
        """
        Encrypt bytes, and send them.
        """
        if self._over or self._ended:
            return
        try:
            self._tls.sendall(data)
        except SSL.Error:
            self._fail()
            return
        records = 1 + len(data) // RECORD
        self._flush(len(data) + records * ADDED)

    def loseWriteConnection(self) -> None:
        """
        Send close_notify, and the end of TCP behind it. What the peer sends is still
        read.
        """
        self._endWriting()
        lose = getattr(self.transport, "loseWriteConnection", None)
        if lose is not None:
            lose()

    def loseConnection(self) -> None:
        """
        Send what is to be written and close_notify, and close. The peer's close_notify
        is not waited for.
        """
        if not self._shaken:
            # A client that reads nothing would be waited for.
            self.abortConnection()
            return
        self._endWriting()
        self._over = True
        self.transport.loseConnection()

    def abortConnection(self) -> None:
        """
        Close at once, with a reset, and without close_notify, by which the peer would
        take what it has got for whole.
        """
        self._over = True
        self.transport.abortConnection()

    # TLS itself.

    def _shake(self) -> None:
        """
        Go on with the handshake.
        """
        try:
            self._tls.do_handshake()
        except SSL.WantReadError:
            self._flush()
        except SSL.Error:
            self._fail()
        else:
            self._shaken = True
            self._flush()
            self._above.handshakeCompleted()

    def _fail(self) -> None:
        """
        Close the connection after an error, behind the alert that tells the peer.
        """
        self._why = Failure()
        self._over = True
        self._flush()
        below = self.transport
        below.unregisterProducer()  # a paused producer would hold back the end
        below.loseConnection()

    def _flush(self, most: int = SMALL) -> int:
        """
        Send what OpenSSL has to say.

        @param most: The most bytes to take at a time.
        @return: How many bytes there were.
        """
        number = 0
        try:
            while True:
                data = self._tls.bio_read(most)
                number += len(data)
                self.transport.write(data)
                if len(data) < most:
                    return number
        except SSL.WantReadError:
            return number

    def _endWriting(self) -> None:
        """
        Send close_notify, once.
        """
        if self._ended or self._over:
            return
        self._ended = True
        try:
            self._tls.shutdown()
        except SSL.Error:
            self._fail()
        else:
            self._flush()
