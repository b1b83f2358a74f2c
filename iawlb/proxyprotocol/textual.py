"""
Reading version 1 of the PROXY protocol, a line of text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress

from iawlb.proxyprotocol.header import Header, WrongHeader, shown

START = b"PROXY "

LONGEST = 107
"""
The number of bytes that a line has at most, its end (CR LF) included.
"""

_END = "its line has a CR or LF that is not its end, CR LF"


class TextReader:
    """
    Reads a header of version 1, which may come in pieces.

    @ivar header: The header, once it is complete.
    """

    def __init__(self) -> None:
        self.header: Header | None = None
        self._line = bytearray()

    def feed(self, data: bytes) -> int:
        """
        Read more bytes.

        @return: How many of the bytes belong to the header.
        @raise WrongHeader: The bytes so far cannot become a header.
        """
        line = self._line
        taken = data.find(b"\n") + 1 or len(data)
        line += data[: min(taken, LONGEST + 1)]
        if not START.startswith(line[: len(START)]):
            raise WrongHeader(f"it begins with {shown(line)}")
        ended = line.endswith(b"\n")
        if len(line) > LONGEST or (len(line) == LONGEST and not ended):
            raise WrongHeader(f"its line is longer than {LONGEST} bytes")
        if ended:
            if line.find(b"\r") != len(line) - 2:
                raise WrongHeader(_END)
            self.header = _read(bytes(line[:-2]))
        elif b"\r" in line[:-1]:
            raise WrongHeader(_END)
        return taken


def _read(line: bytes) -> Header:
    """
    Read a whole line, without its end.
    """
    _, kind, *rest = line.split(b" ")
    if kind == b"UNKNOWN":
        return Header(1)
    if kind not in (b"TCP4", b"TCP6"):
        raise WrongHeader(f"{shown(kind)} is none of TCP4, TCP6 and UNKNOWN")
    if len(rest) != 4:
        raise WrongHeader(
            f"{kind.decode()} needs two addresses and two ports, a space before each"
        )
    family = AF_INET if kind == b"TCP4" else AF_INET6
    hosts = [_host(family, word) for word in rest[:2]]
    ports = [_port(word) for word in rest[2:]]
    make: Callable[[str, int], IAddress] = (
        partial(IPv4Address, "TCP")
        if family == AF_INET
        else partial(IPv6Address, "TCP")
    )
    return Header(1, make(hosts[0], ports[0]), make(hosts[1], ports[1]))


def _host(family: int, word: bytes) -> str:
    """
    Read an IP address, and write it as the kernel does.
    """
    try:
        # This refuses leading zeros, names, and all short forms of IPv4.
        return inet_ntop(family, inet_pton(family, word.decode("ascii")))
    except (OSError, ValueError):
        name = "IPv4" if family == AF_INET else "IPv6"
        raise WrongHeader(f"{shown(word)} is not an {name} address") from None


def _port(word: bytes) -> int:
    """
    Read a port, which has no leading zeros.
    """
    if not re.fullmatch(rb"0|[1-9][0-9]{0,4}", word) or int(word) > 65535:
        raise WrongHeader(f"{shown(word)} is not a port from 0 to 65535")
    return int(word)
