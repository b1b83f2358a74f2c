"""
Clients whose connection begins with a header of the PROXY protocol.
"""

from __future__ import annotations

from iawlb.core.outcome import Outcome
from iawlb.core.session import Session
from iawlb.frontend.steps import Arriving, Step
from iawlb.proxyprotocol.header import Header, WrongHeader
from iawlb.proxyprotocol.reading import HeaderReader
from iawlb.proxyprotocol.tlvs import ALPN, AUTHORITY, LONGEST_NAME, UNIQUE_ID
from iawlb.proxyvalidators import Trusted


class HeaderCounts:
    """
    Counts of the headers of a pool's clients.

    @ivar read: Those that were right.
    @ivar wrong: Those that were refused.
    @ivar incomplete: Those of clients that left or took too long.
    """

    __slots__ = ("incomplete", "read", "wrong")

    def __init__(self) -> None:
        self.read = 0
        self.wrong = 0
        self.incomplete = 0

    @property
    def byResult(self) -> dict[str, int]:
        """
        The counts by name.
        """
        return {
            "read": self.read,
            "wrong": self.wrong,
            "incomplete": self.incomplete,
        }


class ProxyHeader(Step):
    """
    Reads the header of clients that are trusted, takes it off, and has the session
    known by what it says. Other clients have none: whether one is there is never
    guessed.
    """

    late = Outcome.HEADER_TIMEOUT
    gone = Outcome.CLIENT_LEFT_HEADER

    def __init__(self, timeout: float, trusted: Trusted, counts: HeaderCounts) -> None:
        """
        @param timeout: How long a header may take, in seconds; 0 is no limit.
        @param trusted: Whose headers are read.
        """
        super().__init__(timeout)
        self._trusted = trusted
        self._counts = counts

    def begin(self, arrival: Arriving) -> None:
        """
        Read the header, if the client has one.
        """
        if self._trusted.trusts(arrival.session.address):
            self._read(arrival, HeaderReader())
        else:
            arrival.proceed()

    def _read(self, arrival: Arriving, reader: HeaderReader) -> None:
        head = arrival.head
        try:
            # Each part is taken off at once. So the bytes of half a header are not
            # reported again and again, and no header is too long to be looked at.
            while reader.header is None and (found := head.peek()):
                head.skip(reader.feed(found))
        except WrongHeader as error:
            self._counts.wrong += 1
            arrival.refuse(Outcome.WRONG_HEADER, f"wrong PROXY header: {error}")
            return
        header = reader.header
        if header is not None:
            self._counts.read += 1
            _know(arrival.session, header)
            arrival.proceed()
        elif head.ended:
            self._counts.incomplete += 1
            arrival.left()
        else:
            head.wait(lambda: self._read(arrival, reader))

    def cancel(self, arrival: Arriving) -> None:
        """
        Called when the client has left, or its time is over.
        """
        self._counts.incomplete += 1


def _know(session: Session, header: Header) -> None:
    """
    Have a session known by what its header says. If the header gives no address, the
    connection is the proxy's own, and known by its own address.
    """
    if header.source is None:
        return
    info = session.learn()
    info.peer, session.address = session.address, header.source
    info.local = header.destination
    info.tlvs = header.tlvs
    for kind, value in header.tlvs:
        if kind == UNIQUE_ID:
            info.uniqueId = value
        elif len(value) > LONGEST_NAME:
            continue  # no name of a server or of a protocol
        elif kind == AUTHORITY:
            info.serverName = value.decode("ascii", "backslashreplace")
        elif kind == ALPN:
            info.protocol = value.decode("ascii", "backslashreplace")
