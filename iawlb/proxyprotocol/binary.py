"""
Reading version 2 of the PROXY protocol.
"""

from __future__ import annotations

import struct
from socket import AF_INET6, inet_ntoa, inet_ntop
from typing import Literal

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress

from iawlb.proxyprotocol.crc32c import crc32c
from iawlb.proxyprotocol.header import Header, Tlv, WrongHeader, shown
from iawlb.proxyprotocol.tlvs import (
    CRC32C,
    LONGEST_ID,
    MOST,
    NOOP,
    SSL,
    UNIQUE_ID,
    readSsl,
    split,
)

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"

FIXED = 16
"""
The number of bytes before the addresses.
"""

LOCAL, PROXY = 0x20, 0x21
"""
Version and command: the sender speaks for itself, or for a client.
"""

UNSPEC = 0x00

ADDRESSES = {
    UNSPEC: 0,
    0x11: 12,
    0x12: 12,
    0x21: 36,
    0x22: 36,
    0x31: 216,
    0x32: 216,
}
"""
The number of bytes of both addresses, by family and transport: none; IPv4, IPv6 and
Unix sockets, each by streams or datagrams.
"""


class BinaryReader:
    """
    Reads a header of version 2, which may come in pieces. The bytes of a header that
    gives no addresses are not kept.

    @ivar header: The header, once it is complete.
    """

    def __init__(self) -> None:
        self.header: Header | None = None
        self._begun = bytearray()
        # How many bytes are missing, as far as is known.
        self._missing = FIXED
        self._keeps = True

    def feed(self, data: bytes) -> int:
        """
        Read more bytes.

        @return: How many of the bytes belong to the header.
        @raise WrongHeader: The bytes so far cannot become a header.
        """
        taken = 0
        if len(self._begun) < FIXED:
            taken = self._take(data, 0)
            self._checkFixed()
            if self._missing:
                return taken
            self._missing = self._length()
        taken += self._take(data, taken)
        if not self._missing:
            self.header = _read(bytes(self._begun)) if self._keeps else Header(2)
        return taken

    def _take(self, data: bytes, place: int) -> int:
        """
        Take of the bytes from a place on as many as are missing.

        @return: How many were taken.
        """
        piece = data[place : place + self._missing]
        self._missing -= len(piece)
        if self._keeps:
            self._begun += piece
        return len(piece)

    def _checkFixed(self) -> None:
        """
        Check the first bytes, as far as they have come.
        """
        begun = self._begun
        if not SIGNATURE.startswith(begun[: len(SIGNATURE)]):
            raise WrongHeader(f"it begins with {shown(begun)}")
        if len(begun) > 12 and begun[12] not in (LOCAL, PROXY):
            if begun[12] >> 4 != 2:
                raise WrongHeader(f"its version is {begun[12] >> 4}, not 2")
            raise WrongHeader(f"its command is {begun[12] & 15}, not 0 or 1")
        if len(begun) > 13 and begun[12] == PROXY and begun[13] not in ADDRESSES:
            raise WrongHeader(
                f"its family {begun[13] >> 4} with transport {begun[13] & 15} is none "
                "of the protocol's"
            )

    def _length(self) -> int:
        """
        Return how many bytes follow the fixed ones.
        """
        begun = self._begun
        length: int = struct.unpack_from("!H", begun, 14)[0]
        # The receiver is to skip what a sender adds that speaks for itself, whatever
        # that is, and addresses of no family.
        self._keeps = begun[12] == PROXY and begun[13] != UNSPEC
        if self._keeps and length < ADDRESSES[begun[13]]:
            raise WrongHeader(
                f"its length is {length}, but its addresses need {ADDRESSES[begun[13]]}"
            )
        return length


def _read(whole: bytes) -> Header:
    """
    Read a complete header that gives addresses.
    """
    family = whole[13]
    behind = FIXED + ADDRESSES[family]
    source, destination = _addresses(family, whole[FIXED:behind])
    tlvs: list[Tlv] = []
    checked = False
    for kind, place, value in split(whole[behind:]):
        if kind == CRC32C:
            if checked:
                raise WrongHeader("it has two checksums")
            checked = True
            _checkSum(whole, behind + place, value)
        elif kind == UNIQUE_ID and len(value) > LONGEST_ID:
            raise WrongHeader(
                f"its unique id has {len(value)} bytes; at most {LONGEST_ID} are right"
            )
        elif kind == SSL:
            readSsl(value)
        if kind != NOOP:
            tlvs.append((kind, value))
            if len(tlvs) > MOST:
                raise WrongHeader(f"it has more than {MOST} TLVs")
    return Header(2, source, destination, tuple(tlvs))


def _checkSum(whole: bytes, place: int, value: bytes) -> None:
    """
    Check the header against its checksum, which is reckoned as if it were zero itself.
    """
    if len(value) != 4:
        raise WrongHeader(f"its checksum has {len(value)} bytes, not 4")
    blank = whole[:place] + bytes(4) + whole[place + 4 :]
    if crc32c(blank) != int.from_bytes(value, "big"):
        raise WrongHeader("its checksum (CRC32C) is wrong")


def _addresses(family: int, block: bytes) -> tuple[IAddress, IAddress]:
    """
    Read the client's address, and that which it connected to.
    """
    if family >> 4 == 3:
        return _unix(block[:108]), _unix(block[108:])
    kind: Literal["TCP", "UDP"] = "TCP" if family & 15 == 1 else "UDP"
    if family >> 4 == 1:
        one, other, *ports = struct.unpack("!4s4sHH", block)
        return (
            IPv4Address(kind, inet_ntoa(one), ports[0]),
            IPv4Address(kind, inet_ntoa(other), ports[1]),
        )
    one, other, *ports = struct.unpack("!16s16sHH", block)
    return (
        IPv6Address(kind, inet_ntop(AF_INET6, one), ports[0]),
        IPv6Address(kind, inet_ntop(AF_INET6, other), ports[1]),
    )


def _unix(block: bytes) -> UNIXAddress:
    """
    Read the name of a Unix socket: a path up to a zero byte, or an abstract name, which
    begins with one.
    """
    abstract = block.startswith(b"\0")
    name = block.rstrip(b"\0") if abstract else block.partition(b"\0")[0]
    return UNIXAddress(name or None)
