"""
A line in which a client that opens many connections does not keep the others waiting.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from hashlib import blake2b

from twisted.internet.interfaces import IAddress

from iawlb.core.destination import Destination
from iawlb.core.line import Line
from iawlb.core.session import Session
from iawlb.networks import packedAddress, sourceOf

SUB_LINES = 256
"""
The number of lines that the sessions of a fair line are spread over: as many as one
byte of a hash has values.
"""

CHOICES = 3
"""
The number of these lines of which each source uses the shortest.
"""

SALT = os.urandom(16)
"""
Keeps others from working out which sources share a line.
"""


def sourceOfAddress(address: IAddress | None, mask: tuple[int, int]) -> bytes | None:
    """
    Return the network of a client's address; L{None} for a client without an IP
    address, such as one of a Unix socket.

    @param mask: How many bits of an IPv4 address, and of an IPv6 address, make a
        network.
    """
    found = packedAddress(address)
    return None if found is None else sourceOf(found, mask)


class FairLine(Line):
    """
    A line that is fair to the networks that clients come from (shuffle sharding).

    Each session waits in one of L{SUB_LINES} lines, which are served in turns, one
    session each. A source may use L{CHOICES} of these lines, which a hash of its
    network gives it; a new session joins the shortest of them. So a source with 5,000
    sessions fills three lines and gets three turns in each round. A source with one
    session nearly always has a line without these, and is served within a round.
    However many sources there are, memory grows with the waiting sessions only: a line
    without any is dropped.

    Sessions that come back after a failed connect have had their turn, and are served
    before all others, the oldest first.

    As a L{Line}, it keeps all its sessions by their age, too.
    """

    __slots__ = ("_mask", "_returned", "_salt", "_turns", "_where")

    def __init__(
        self,
        destination: Destination | None = None,
        mask: tuple[int, int] = (32, 56),
        salt: bytes = SALT,
    ) -> None:
        """
        @param mask: How many bits of an IPv4 address, and of an IPv6 address, make a
            network.
        @param salt: See L{SALT}.
        """
        super().__init__(destination)
        self._mask = mask
        self._salt = salt
        # The lines that hold sessions, by their numbers, the next to be served first;
        # and which of them each session is in.
        self._turns: OrderedDict[int, Line] = OrderedDict()
        self._where: dict[Session, int] = {}
        self._returned = Line()

    def add(self, session: Session) -> None:
        """
        Add a session: to the shortest of its source's lines, or before all of them if
        it comes back.
        """
        number = -1 if session.tries else self._shortest(session)
        self._where[session] = number
        if number < 0:
            line = self._returned
        elif number in self._turns:
            line = self._turns[number]
        else:
            line = self._turns[number] = Line()
        line.add(session)
        super().add(session)

    def _shortest(self, session: Session) -> int:
        """
        Return the number of the shortest line that the source of a session may use.
        """
        source = sourceOfAddress(session.address, self._mask) or b""
        shortest, least = -1, -1
        for number in blake2b(source, digest_size=CHOICES, key=self._salt).digest():
            line = self._turns.get(number)
            if line is None:
                return number
            if shortest < 0 or len(line) < least:
                shortest, least = number, len(line)
        return shortest

    def remove(self, session: Session) -> None:
        """
        Remove a session that is in the line. If it was the next to be served, its line
        has had its turn.
        """
        hadTurn = self.first() is session
        number = self._where.pop(session)
        if number < 0:
            self._returned.remove(session)
        else:
            line = self._turns[number]
            line.remove(session)
            if not line:
                del self._turns[number]
            elif hadTurn:
                self._turns.move_to_end(number)
        super().remove(session)

    def first(self) -> Session | None:
        """
        Return the session that is served next, without removing it, or L{None} if the
        line is empty.
        """
        if self._returned:
            return self._returned.first()
        line = next(iter(self._turns.values()), None)
        return None if line is None else line.first()

    def oldest(self) -> Session | None:
        """
        Return the session that entered the queue first, or L{None} if the line is
        empty.
        """
        return super().first()
