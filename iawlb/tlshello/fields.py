"""
Read numbers and vectors of bytes, as TLS writes them, and nothing beyond their end.
"""

from __future__ import annotations

from iawlb.errors import IawlbError


class WrongHello(IawlbError, ValueError):
    """
    What a client has sent is no ClientHello; the message names the bad part.
    """


class Fields:
    """
    The fields of a message or of a part of one, read from the front.
    """

    __slots__ = ("_data", "_end", "_name", "_place")

    def __init__(self, data: bytes, name: str) -> None:
        """
        @param name: What the bytes are, for messages.
        """
        self._data = data
        self._name = name
        self._place = 0
        self._end = len(data)

    def __bool__(self) -> bool:
        """
        Whether any byte is left.
        """
        return self._place < self._end

    def take(self, size: int, what: str) -> bytes:
        """
        Read some bytes.

        @param what: The field, for messages.
        @raise WrongHello: Fewer bytes are left.
        """
        place = self._place + size
        if place > self._end:
            raise WrongHello(
                f"{self._name} ends within {what}: {size} bytes are due, and "
                f"{self._end - self._place} are left"
            )
        data = self._data[self._place : place]
        self._place = place
        return data

    def number(self, width: int, what: str) -> int:
        """
        Read a number of so many bytes.

        @raise WrongHello: Fewer bytes are left.
        """
        return int.from_bytes(self.take(width, what), "big")

    def vector(self, width: int, what: str) -> bytes:
        """
        Read a length of so many bytes, and as many bytes as it says.

        @raise WrongHello: Fewer bytes are left.
        """
        return self.take(self.number(width, f"the length of {what}"), what)

    def finish(self) -> None:
        """
        Check that all bytes were read.

        @raise WrongHello: Some are left.
        """
        if self:
            left = self._end - self._place
            raise WrongHello(f"{left} bytes too many at the end of {self._name}")


def only(data: bytes, width: int, name: str, what: str) -> bytes:
    """
    Read a vector that is all there is.

    @param name: What the bytes are, for messages.
    @raise WrongHello: The vector is shorter or longer than the bytes.
    """
    fields = Fields(data, name)
    found = fields.vector(width, what)
    fields.finish()
    return found
