"""
Find the ClientHello in the first bytes of a connection, however these are split.
"""

from __future__ import annotations

from iawlb.tlshello.fields import WrongHello
from iawlb.tlshello.hello import ClientHello, parseHello

MOST = 16 * 1024
"""
The most bytes, from the first of the connection on, in which a ClientHello is looked
for. A usual one has 200 to 2,000. So it also has to fit into one record of TLS, though
it may come in more.
"""

HANDSHAKE = 22
CLIENT_HELLO = 1

_RECORD = 5
"""
Bytes in front of each record: its type, its version, and its length.
"""

_MESSAGE = 4
"""
Bytes in front of a message of the handshake: its type and its length.
"""

_HTTP = (b"GET ", b"HEAD", b"POST", b"PUT ", b"OPTI", b"CONN", b"DELE", b"PRI ")


class HelloReader:
    """
    Reads the ClientHello of one connection. It is given all bytes that have come, each
    time more have, and goes on behind the records that it knows.
    """

    __slots__ = ("_message", "_place")

    def __init__(self) -> None:
        # The message so far, and the bytes of the connection that it came in.
        self._message = b""
        self._place = 0

    def read(self, data: bytes) -> ClientHello | None:
        """
        Read on.

        @param data: All bytes from the first of the connection on.
        @return: The ClientHello, or L{None} if more bytes are needed.
        @raise WrongHello: The bytes are no ClientHello.
        """
        if not self._place:
            _checkStart(data)
        while len(data) >= self._place + _RECORD:
            end = self._place + _RECORD + self._lengthOfRecord(data)
            if len(data) < end:
                # A wrong type or length need not be waited for.
                _lengthOfMessage(self._message + data[self._place + _RECORD : end])
                return None
            self._message += data[self._place + _RECORD : end]
            self._place = end
            size = _lengthOfMessage(self._message)
            if size is not None and len(self._message) >= size:
                return self._complete(size)
        _checkEnd(self._place + _RECORD)
        return None

    def _lengthOfRecord(self, data: bytes) -> int:
        """
        Check the front of the next record, and return the length of the rest.
        """
        front = data[self._place : self._place + _RECORD]
        if front[0] != HANDSHAKE:
            raise WrongHello(f"a record of type {front[0]} within the ClientHello")
        if front[1] != 3:
            raise WrongHello(f"a record of version {front[1]}.{front[2]}, not of TLS")
        length = (front[3] << 8) + front[4]
        if not length:
            raise WrongHello("an empty record within the ClientHello")
        _checkEnd(self._place + _RECORD + length)
        return length

    def _complete(self, size: int) -> ClientHello:
        """
        Read the message, whose last record has come.
        """
        message, self._message = self._message, b""
        if len(message) > size:
            # Nothing may follow before the server has answered.
            more = len(message) - size
            raise WrongHello(f"{more} bytes behind the ClientHello in its record")
        return parseHello(message[_MESSAGE:])


def _lengthOfMessage(message: bytes) -> int | None:
    """
    Check the front of the message, and return the length of the whole; L{None} if the
    front is not complete.
    """
    if message and message[0] != CLIENT_HELLO:
        raise WrongHello(f"a message of type {message[0]}, not a ClientHello (1)")
    if len(message) < _MESSAGE:
        return None
    size = _MESSAGE + int.from_bytes(message[1:_MESSAGE], "big")
    if size > MOST - _RECORD:
        raise WrongHello(f"a ClientHello of {size} bytes, of at most {MOST - _RECORD}")
    return size


def _checkEnd(due: int) -> None:
    """
    Refuse to wait for more bytes than a ClientHello may take.
    """
    if due > MOST:
        raise WrongHello(f"no complete ClientHello within {MOST} bytes")


def _checkStart(data: bytes) -> None:
    """
    Refuse what is no TLS at its first byte, and say what it looks like.
    """
    if not data or data[0] == HANDSHAKE:
        return
    if data[:4] in _HTTP:
        raise WrongHello("not TLS, but a plain HTTP request")
    if data[0] & 0x80 and data[2:3] == b"\x01":
        raise WrongHello("a ClientHello of SSL 2")
    if data.startswith(b"\0\0\0\x08\x04\xd2\x16\x2f"):
        raise WrongHello("not TLS, but a PostgreSQL client that asks for it first")
    raise WrongHello(f"not TLS: the first byte is {data[0]:#04x}, and not 0x16")
