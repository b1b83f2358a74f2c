"""
What a header of the PROXY protocol says.
"""

from __future__ import annotations

from dataclasses import dataclass

from twisted.internet.interfaces import IAddress

Tlv = tuple[int, bytes]
"""
A type and its value, as version 2 adds them behind the addresses.
"""


class WrongHeader(Exception):
    """
    Bytes that are no header of the PROXY protocol; the text says what is wrong.
    """


@dataclass(frozen=True, slots=True)
class Header:
    """
    A header of the PROXY protocol.

    @ivar version: 1 or 2.
    @ivar source: The client's address. L{None} if the header gives none: the sender
        speaks for itself (C{LOCAL}) or does not know (C{UNKNOWN}, C{UNSPEC}), and the
        connection's own addresses are right.
    @ivar destination: The address that the client connected to, or L{None}.
    @ivar tlvs: Type and value of what version 2 adds, in the order of the header. Those
        of type C{NOOP} are left out.
    """

    version: int
    source: IAddress | None = None
    destination: IAddress | None = None
    tlvs: tuple[Tlv, ...] = ()


def shown(data: bytes | bytearray) -> str:
    """
    Write bytes of a wrong header for people: printable, and not many.
    """
    text = repr(bytes(data[:24]))[1:]
    return f"{text}..." if len(data) > 24 else text
