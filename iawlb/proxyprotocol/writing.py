"""
Writing headers of the PROXY protocol.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress

from iawlb.proxyprotocol.binary import FIXED, LOCAL, PROXY, SIGNATURE, UNSPEC
from iawlb.proxyprotocol.crc32c import crc32c
from iawlb.proxyprotocol.header import Tlv
from iawlb.proxyprotocol.tlvs import CRC32C, joined

UNKNOWN = b"PROXY UNKNOWN\r\n"
"""
What version 1 says when the sender speaks for itself, or the client has no address.
"""

LOCAL_HEADER = struct.pack("!12sBBH", SIGNATURE, LOCAL, UNSPEC, 0)
"""
The same of version 2. It is as short as can be: some receivers trip over what may
follow.
"""

START_FOUR = struct.pack("!12sBBH", SIGNATURE, PROXY, 0x11, 12)
PACK_FOUR = struct.Struct("!16s4s4sHH").pack
"""
The beginning of version 2 for addresses of IPv4 alone; and what puts it together with
both hosts and both ports.
"""

_FOUR = struct.Struct("!12sBBH4s4sHH")
_SIX = struct.Struct("!12sBBH16s16sHH")
_MAPPED = bytes(10) + b"\xff\xff"
_Ends = tuple[int, bytes, bytes, int, int]


def localHeader(version: str) -> bytes:
    """
    Return the header of a connection that is the sender's own, such as a probe.

    @param version: C{v1} or C{v2}.
    """
    return UNKNOWN if version == "v1" else LOCAL_HEADER


def textHeader(source: IAddress | None, destination: IAddress | None) -> bytes:
    """
    Write a header of version 1. It is that of an unknown client if the client's address
    is not an IP address.

    @param source: The client's address.
    @param destination: The address that the client connected to; L{None} if that is not
        known.
    """
    ends = _ends(source, destination)
    if ends is None:
        return UNKNOWN
    family, one, other, port, otherPort = ends
    word = "TCP4" if family == AF_INET else "TCP6"
    hosts = f"{inet_ntop(family, one)} {inet_ntop(family, other)}"
    return f"PROXY {word} {hosts} {port} {otherPort}\r\n".encode()


def binaryHeader(
    source: IAddress | None,
    destination: IAddress | None,
    tlvs: Iterable[Tlv] = (),
    checked: bool = False,
) -> bytes:
    """
    Write a header of version 2. It is that of the sender itself, without anything
    added, if the client's address is not an IP address.

    @param source: The client's address.
    @param destination: The address that the client connected to; L{None} if that is not
        known.
    @param tlvs: What to add.
    @param checked: Whether to add a checksum, too.
    """
    ends = _ends(source, destination)
    if ends is None:
        return LOCAL_HEADER
    added = joined(tlvs)
    if checked:
        added += joined([(CRC32C, bytes(4))])
    shape, family = (_FOUR, 0x11) if ends[0] == AF_INET else (_SIX, 0x21)
    length = shape.size - FIXED + len(added)
    header = shape.pack(SIGNATURE, PROXY, family, length, *ends[1:]) + added
    return header[:-4] + crc32c(header).to_bytes(4, "big") if checked else header


def _ends(source: IAddress | None, destination: IAddress | None) -> _Ends | None:
    """
    Write both addresses as those of one family: IPv4 if both can be, else IPv6.

    @return: The family, both hosts and both ports; or L{None} if the client has no IP
        address.
    """
    if isinstance(source, IPv4Address) and isinstance(destination, IPv4Address):
        try:
            return (
                AF_INET,
                inet_pton(AF_INET, source.host),
                inet_pton(AF_INET, destination.host),
                source.port & 0xFFFF,
                destination.port & 0xFFFF,
            )
        except OSError:
            return None  # an embedding program's own, such as a name
    one = _host(source)
    if one is None:
        return None
    other = _host(destination)
    if other is None:
        other = _MAPPED + bytes(4) if one.startswith(_MAPPED) else bytes(16)
    family = AF_INET6
    if one.startswith(_MAPPED) and other.startswith(_MAPPED):
        family, one, other = AF_INET, one[12:], other[12:]
    return family, one, other, _port(source), _port(destination)


def _host(address: IAddress | None) -> bytes | None:
    """
    Return the bytes of an IP address as those of an IPv6 address.
    """
    try:
        if isinstance(address, IPv4Address):
            return _MAPPED + inet_pton(AF_INET, address.host)
        if isinstance(address, IPv6Address):
            return inet_pton(AF_INET6, address.host.partition("%")[0])
    except OSError:
        return None  # an embedding program's own, such as a name
    return None


def _port(address: IAddress | None) -> int:
    if isinstance(address, IPv4Address | IPv6Address):
        return address.port & 0xFFFF
    return 0
