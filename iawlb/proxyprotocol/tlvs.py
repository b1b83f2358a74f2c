"""
The types and values (TLVs) that version 2 of the PROXY protocol adds to the addresses.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from iawlb.proxyprotocol.header import Tlv, WrongHeader

ALPN = 0x01
AUTHORITY = 0x02
CRC32C = 0x03
NOOP = 0x04
UNIQUE_ID = 0x05
SSL = 0x20
SSL_VERSION = 0x21
SSL_NAME = 0x22
SSL_CIPHER = 0x23

LONGEST_ID = 128
"""
The number of bytes that the unique id of a connection has at most.
"""

LONGEST_NAME = 255
"""
The number of bytes that the name of a server, or of a protocol, has at most: HAProxy
refuses a longer C{AUTHORITY}.
"""

MOST = 1000
"""
The number of types and values that a header has at most, without those that only pad.
Each is an object in memory, of which 64 KiB could make 20,000.
"""

MOST_SHOWN = 255
"""
The number of bytes of a value that are shown to people.
"""

NAMES = {
    ALPN: "alpn",
    AUTHORITY: "authority",
    CRC32C: "crc32c",
    UNIQUE_ID: "unique-id",
    SSL: "ssl",
    0x30: "netns",
}
"""
What the types are called in the log. Others are called by their number in hexadecimal.
"""

SSL_NAMES = {
    SSL_VERSION: "ssl-version",
    SSL_NAME: "ssl-cn",
    SSL_CIPHER: "ssl-cipher",
    0x24: "ssl-sig-alg",
    0x25: "ssl-key-alg",
    0x26: "ssl-group",
    0x27: "ssl-sig-scheme",
    0x28: "ssl-client-cert",
}
"""
The same for the types within C{SSL}.
"""

BY_TLS = 0x01
HAS_CERTIFICATE = 0x02


def joined(tlvs: Iterable[Tlv]) -> bytes:
    """
    Write types and values as they stand in a header.

    @raise struct.error: A value is longer than 65,535 bytes.
    """
    return b"".join(
        struct.pack("!BH", kind, len(value)) + value for kind, value in tlvs
    )


def split(block: bytes, within: str = "the header") -> Iterator[tuple[int, int, bytes]]:
    """
    Read types and values.

    @param within: What the block is, for messages.
    @return: For each its type, the place of its value in the block, and the value.
    @raise WrongHeader: The last one is longer than the block.
    """
    place, end = 0, len(block)
    while place < end:
        if end - place < 3:
            raise WrongHeader(f"a TLV is cut off at the end of {within}")
        kind, length = struct.unpack_from("!BH", block, place)
        place += 3
        if length > end - place:
            raise WrongHeader(
                f"TLV {kind:#04x} is {length} bytes long, but {end - place} are left "
                f"in {within}"
            )
        yield kind, place, block[place : place + length]
        place += length


@dataclass(frozen=True, slots=True)
class Ssl:
    """
    What the sender says of the client's TLS.

    @ivar secure: Whether the client connected by TLS.
    @ivar certified: Whether the client has shown a certificate, in this connection or
        in the session that was resumed.
    @ivar verified: Whether that certificate was found right.
    @ivar parts: Type and value of the rest: version, cipher, name and so on.
    """

    secure: bool
    certified: bool
    verified: bool
    parts: tuple[Tlv, ...] = ()

    def text(self, kind: int) -> str | None:
        """
        Return the text of a part, or L{None} if the sender did not give it.
        """
        for each, value in self.parts:
            if each == kind:
                return value.decode("utf-8", "backslashreplace")
        return None


def readSsl(value: bytes) -> Ssl:
    """
    Read the value of a TLV of type C{SSL}.

    @raise WrongHeader: It is too short, or a part is longer than what is left.
    """
    if len(value) < 5:
        raise WrongHeader(f"the SSL TLV has {len(value)} bytes: it needs at least 5")
    client, verify = struct.unpack_from("!BI", value)
    certified = bool(client & 0x06)
    parts = split(value[5:], "the SSL TLV")
    return Ssl(
        bool(client & BY_TLS),
        certified,
        certified and verify == 0,
        tuple((kind, part) for kind, _, part in parts),
    )


def named(tlvs: Iterable[Tlv]) -> Iterator[tuple[str, str]]:
    """
    Name types and values for people.

    @return: Names and texts. Bytes that are not ASCII are written as C{\\xff}.
    """
    for kind, value in tlvs:
        if kind == SSL:
            yield from _namedSsl(value)
        elif kind == CRC32C:
            yield NAMES[kind], value.hex()
        else:
            name = NAMES.get(kind) or f"{kind:02x}"
            yield name, _shown(value)


def _shown(value: bytes) -> str:
    """
    Write a value for people; of a long one the beginning.
    """
    text = value[:MOST_SHOWN].decode("ascii", "backslashreplace")
    return text if len(value) <= MOST_SHOWN else f"{text}..."


def _namedSsl(value: bytes) -> Iterator[tuple[str, str]]:
    ssl = readSsl(value)
    flags = ("tls", ssl.secure), ("cert", ssl.certified), ("verified", ssl.verified)
    yield NAMES[SSL], "+".join(name for name, true in flags if true) or "no"
    for kind, part in ssl.parts:
        name = SSL_NAMES.get(kind) or f"ssl-{kind:02x}"
        yield name, _shown(part)
