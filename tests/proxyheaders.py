"""
Headers of the PROXY protocol, right and wrong, for tests of the rules, of listeners and
of other programs. Those of version 2 are put together here byte by byte, not by the
code under test.
"""

from __future__ import annotations

import socket
import struct

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress

SIGNATURE = b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a"
FOUR = socket.inet_aton("192.0.2.1") + socket.inet_aton("198.51.100.7")
FOUR += struct.pack("!HH", 56324, 443)
SIX = socket.inet_pton(socket.AF_INET6, "2001:db8::1")
SIX += socket.inet_pton(socket.AF_INET6, "2001:db8::2") + struct.pack("!HH", 1, 65535)
UNIX = b"/run/client.sock".ljust(108, b"\0") + b"/run/server.sock".ljust(108, b"\0")


def two(
    command: int = 0x21,
    family: int = 0x11,
    body: bytes = FOUR,
    length: int | None = None,
    signature: bytes = SIGNATURE,
) -> bytes:
    """
    Put a header of version 2 together.
    """
    length = len(body) if length is None else length
    return signature + struct.pack("!BBH", command, family, length) + body


def tlv(kind: int, value: bytes, length: int | None = None) -> bytes:
    """
    Put a type and a value together.
    """
    return struct.pack("!BH", kind, len(value) if length is None else length) + value


CHECKED = bytes.fromhex(
    "0d0a0d0a000d0a515549540a2111007d7f0000017f000001c7b87149030004e9cb83770100026832"
    "02000b6578616d706c652e6f726705001237463030303030313a433742385f3343384120003f0100"
    "000000210007544c5376312e332500075253413230343824000a5253412d53484132353623001654"
    "4c535f4145535f3235365f47434d5f534841333834"
)
"""
What HAProxy 2.6 sent for a client of 127.0.0.1:51128 that came by TLS to port 29001.
"""

CHECKED_TEXT = {
    "crc32c": "e9cb8377",
    "alpn": "h2",
    "authority": "example.org",
    "unique-id": "7F000001:C7B8_3C8A",
    "ssl": "tls",
    "ssl-version": "TLSv1.3",
    "ssl-key-alg": "RSA2048",
    "ssl-sig-alg": "RSA-SHA256",
    "ssl-cipher": "TLS_AES_256_GCM_SHA384",
}

_SSL = struct.pack("!BI", 1, 1) + tlv(0x21, b"TLSv1.3") + tlv(0x22, b"someone")
_TLVS = tlv(1, b"h2") + tlv(2, b"example.org") + tlv(5, b"id" * 64) + tlv(0x20, _SSL)


def _four(source: str, port: int, other: str, otherPort: int) -> list[IAddress]:
    return [IPv4Address("TCP", source, port), IPv4Address("TCP", other, otherPort)]


def _six(source: str, port: int, other: str, otherPort: int) -> list[IAddress]:
    return [IPv6Address("TCP", source, port), IPv6Address("TCP", other, otherPort)]


_ENDS = _four("192.0.2.1", 56324, "198.51.100.7", 443)

RIGHT: dict[str, tuple[bytes, list[IAddress] | None]] = {
    "v1 IPv4": (b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n", _ENDS),
    "v1 the smallest": (
        b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n",
        _four("0.0.0.0", 0, "0.0.0.0", 0),
    ),
    "v1 the largest of IPv4": (
        b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
        _four("255.255.255.255", 65535, "255.255.255.255", 65535),
    ),
    "v1 IPv6": (
        b"PROXY TCP6 2001:DB8:0:0::1 ::1 1 2\r\n",
        _six("2001:db8::1", 1, "::1", 2),
    ),
    "v1 the longest of IPv6": (
        b"PROXY TCP6 ffff:f:f:f:f:f:f:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
        b"65535 65535\r\n",
        _six("ffff:f:f:f:f:f:f:ffff", 65535, ":".join(["ffff"] * 8), 65535),
    ),
    "v1 mapped IPv4": (
        b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:198.51.100.7 1 2\r\n",
        _six("::ffff:192.0.2.1", 1, "::ffff:198.51.100.7", 2),
    ),
    "v1 unknown": (b"PROXY UNKNOWN\r\n", None),
    "v1 unknown with more": (b"PROXY UNKNOWN ff:: 1.2.3.4 any thing\r\n", None),
    "v1 the longest": (b"PROXY UNKNOWN " + b"f" * 91 + b"\r\n", None),
    "v2 IPv4": (two(), _ENDS),
    "v2 IPv6": (
        two(family=0x21, body=SIX),
        _six("2001:db8::1", 1, "2001:db8::2", 65535),
    ),
    "v2 UDP": (
        two(family=0x12),
        [
            IPv4Address("UDP", "192.0.2.1", 56324),
            IPv4Address("UDP", "198.51.100.7", 443),
        ],
    ),
    "v2 UDP by IPv6": (
        two(family=0x22, body=SIX),
        [
            IPv6Address("UDP", "2001:db8::1", 1),
            IPv6Address("UDP", "2001:db8::2", 65535),
        ],
    ),
    "v2 Unix": (
        two(family=0x31, body=UNIX),
        [UNIXAddress(b"/run/client.sock"), UNIXAddress(b"/run/server.sock")],
    ),
    "v2 Unix datagrams": (
        two(family=0x32, body=b"\0name".ljust(216, b"\0")),
        [UNIXAddress(b"\0name"), UNIXAddress(None)],
    ),
    "v2 with TLVs": (two(body=FOUR + _TLVS), _ENDS),
    "v2 with padding": (two(body=FOUR + tlv(4, b"\0" * 99)), _ENDS),
    "v2 with an empty TLV": (two(body=FOUR + tlv(0xE0, b"")), _ENDS),
    "v2 with a checksum": (CHECKED, _four("127.0.0.1", 51128, "127.0.0.1", 29001)),
    "v2 1,000 TLVs": (two(body=FOUR + tlv(0xE0, b"") * 1000 + tlv(4, b"")), _ENDS),
    "v2 the longest": (two(body=FOUR + tlv(0xEA, b"x" * (65535 - 15))), _ENDS),
    "v2 local": (two(0x20, 0, b""), None),
    "v2 local with addresses": (two(0x20), None),
    "v2 local with nonsense": (two(0x20, 0xFF, b"\xff" * 7), None),
    "v2 local, the longest": (two(0x20, 0, b"x" * 65535), None),
    "v2 of no family": (two(0x21, 0, b""), None),
    "v2 of no family with more": (two(0x21, 0, b"nonsense"), None),
}
"""
Right headers, with the client's address and that which it connected to, if the header
gives them.
"""

_LINE = b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n"

WRONG: dict[str, bytes] = {
    "no header": b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n",
    "a TLS hello": bytes.fromhex("16030100c8010000c40303"),
    "a zero byte": b"\0" + _LINE,
    "an empty line": b"\r\n" + _LINE,
    "v1 in lower case": _LINE.lower(),
    "v1 one letter in lower case": b"PROXy" + _LINE[5:],
    "v1 family in lower case": _LINE.replace(b"TCP4", b"tcp4"),
    "v1 unknown in lower case": b"PROXY unknown\r\n",
    "v1 another family": _LINE.replace(b"TCP4", b"UDP4"),
    "v1 a family of no number": _LINE.replace(b"TCP4", b"TCP"),
    "v1 no family": b"PROXY\r\n",
    "v1 an empty family": b"PROXY \r\n",
    "v1 the family alone": b"PROXY TCP4\r\n",
    "v1 a word behind unknown": b"PROXY UNKNOWN4\r\n",
    "v1 one address": b"PROXY TCP4 192.0.2.1 56324 443\r\n",
    "v1 no port": b"PROXY TCP4 192.0.2.1 198.51.100.7\r\n",
    "v1 one port": b"PROXY TCP4 192.0.2.1 198.51.100.7 56324\r\n",
    "v1 three ports": _LINE[:-2] + b" 8080\r\n",
    "v1 a space at the end": _LINE[:-2] + b" \r\n",
    "v1 two spaces": _LINE.replace(b"TCP4 ", b"TCP4  "),
    "v1 two spaces at first": _LINE.replace(b"PROXY ", b"PROXY  "),
    "v1 a tab": _LINE.replace(b" 198", b"\t198"),
    "v1 a space before": b" " + _LINE,
    "v1 LF alone": _LINE.replace(b"\r\n", b"\n"),
    "v1 CR alone": _LINE.replace(b"\r\n", b"\rhello"),
    "v1 CR twice": _LINE.replace(b"\r\n", b"\r\r\n"),
    "v1 LF before CR": _LINE.replace(b"\r\n", b"\n\r"),
    "v1 CR within": _LINE.replace(b" 443", b"\r443"),
    "v1 LF within": _LINE.replace(b" 443", b"\n443"),
    "v1 CR within unknown": b"PROXY UNKNOWN a\rb\r\n",
    "v1 LF within unknown": b"PROXY UNKNOWN a\nb\r\n",
    "v1 108 bytes": b"PROXY UNKNOWN " + b"f" * 92 + b"\r\n",
    "v1 no end": b"PROXY UNKNOWN " + b"f" * 200,
    "v1 a long family": b"PROXY " + b"T" * 200,
    "v1 999": _LINE.replace(b"192.0.2.1", b"999.1.1.1"),
    "v1 256": _LINE.replace(b"192.0.2.1", b"192.0.2.256"),
    "v1 an address of three parts": _LINE.replace(b"192.0.2.1", b"192.0.2"),
    "v1 an address of five parts": _LINE.replace(b"192.0.2.1", b"192.0.2.1.1"),
    "v1 an address of one number": _LINE.replace(b"192.0.2.1", b"3221225985"),
    "v1 leading zeros": _LINE.replace(b"192.0.2.1", b"192.000.002.001"),
    "v1 one leading zero": _LINE.replace(b"192.0.2.1", b"192.0.02.1"),
    "v1 hexadecimal": _LINE.replace(b"192.0.2.1", b"0xc0.0.2.1"),
    "v1 a name": _LINE.replace(b"192.0.2.1", b"localhost"),
    "v1 a negative part": _LINE.replace(b"192.0.2.1", b"192.0.-2.1"),
    "v1 an empty address": _LINE.replace(b"192.0.2.1", b""),
    "v1 digits that are not ASCII": _LINE.replace(b"192", "١٩٢".encode()),
    "v1 IPv6 as IPv4": _LINE.replace(b"192.0.2.1", b"2001:db8::1"),
    "v1 IPv4 as IPv6": _LINE.replace(b"TCP4", b"TCP6"),
    "v1 both families": _LINE.replace(b"TCP4 192.0.2.1", b"TCP6 2001:db8::1"),
    "v1 IPv6 of nine parts": b"PROXY TCP6 1:2:3:4:5:6:7:8:9 ::1 1 2\r\n",
    "v1 IPv6 with two gaps": b"PROXY TCP6 1::2::3 ::1 1 2\r\n",
    "v1 IPv6 of five digits": b"PROXY TCP6 12345::1 ::1 1 2\r\n",
    "v1 IPv6 with a zone": b"PROXY TCP6 fe80::1%lo ::1 1 2\r\n",
    "v1 IPv6 in brackets": b"PROXY TCP6 [::1] [::1] 1 2\r\n",
    "v1 port 65536": _LINE.replace(b"56324", b"65536"),
    "v1 port 99999": _LINE.replace(b"443", b"99999"),
    "v1 port of six digits": _LINE.replace(b"443", b"000443"),
    "v1 port with a zero": _LINE.replace(b"443", b"0443"),
    "v1 port with a sign": _LINE.replace(b"443", b"+443"),
    "v1 a negative port": _LINE.replace(b"443", b"-443"),
    "v1 a port that is a word": _LINE.replace(b"443", b"https"),
    "v1 an empty port": _LINE.replace(b"443", b""),
    "v1 a zero byte in a port": _LINE.replace(b"443", b"443\0"),
    "v2 a wrong signature": two(signature=SIGNATURE[:-1] + b"\r"),
    "v2 a signature of text": two(signature=SIGNATURE.replace(b"\0", b"0")),
    "v2 version 1": two(0x11),
    "v2 version 3": two(0x31),
    "v2 version 0": two(0x01),
    "v2 command 2": two(0x22),
    "v2 command 15": two(0x2F),
    "v2 family 4": two(family=0x41),
    "v2 family 15": two(family=0xF1),
    "v2 transport 3": two(family=0x13),
    "v2 transport 15": two(family=0x1F),
    "v2 a family without transport": two(family=0x10),
    "v2 a transport without family": two(family=0x01),
    "v2 length 0": two(body=b""),
    "v2 length 11": two(body=FOUR[:11]),
    "v2 IPv6 with the length of IPv4": two(family=0x21),
    "v2 IPv6 one byte short": two(family=0x21, body=SIX[:-1]),
    "v2 Unix one byte short": two(family=0x31, body=UNIX[:-1]),
    "v2 one byte of a TLV": two(body=FOUR + b"\x04"),
    "v2 two bytes of a TLV": two(body=FOUR + b"\x04\0"),
    "v2 a TLV of one byte too many": two(body=FOUR + tlv(4, b"ab", 3)),
    "v2 a TLV that is far too long": two(body=FOUR + tlv(0xEA, b"ab", 65535)),
    "v2 the second TLV too long": two(body=FOUR + tlv(1, b"h2") + tlv(2, b"x", 2)),
    "v2 trailing junk": two(body=FOUR + b"\0\0"),
    "v2 a wrong checksum": CHECKED.replace(b"example", b"axample"),
    "v2 a checksum of zero": two(body=FOUR + tlv(3, bytes(4))),
    "v2 a checksum of three bytes": two(body=FOUR + tlv(3, bytes(3))),
    "v2 a checksum of five bytes": two(body=FOUR + tlv(3, bytes(5))),
    "v2 a unique id of 129 bytes": two(body=FOUR + tlv(5, b"x" * 129)),
    "v2 1,001 TLVs": two(body=FOUR + tlv(0xE0, b"") * 1001),
    "v2 an SSL TLV of four bytes": two(body=FOUR + tlv(0x20, bytes(4))),
    "v2 an SSL TLV whose part is too long": two(
        body=FOUR + tlv(0x20, bytes(5) + tlv(0x21, b"TLS", 9))
    ),
}
"""
Bytes that are no header, and never can become one.
"""

TRUNCATED: dict[str, bytes] = {
    f"{name} cut at {size}": whole[:size]
    for name, whole in (("v1", _LINE), ("v2", CHECKED))
    for size in range(len(whole))
}
"""
What is left of a header that was cut off, at each of its bytes.
"""
