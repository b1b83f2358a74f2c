"""
Tests for reading and writing headers of the PROXY protocol.
"""

from __future__ import annotations

import contextlib
import ipaddress

from hypothesis import given
from hypothesis import strategies as some
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress
from twisted.trial.unittest import SynchronousTestCase

from iawlb.proxyprotocol.crc32c import crc32c
from iawlb.proxyprotocol.header import Header, Tlv, WrongHeader
from iawlb.proxyprotocol.reading import HeaderReader
from iawlb.proxyprotocol.tlvs import SSL, Ssl, named, readSsl
from iawlb.proxyprotocol.writing import (
    LOCAL_HEADER,
    UNKNOWN,
    binaryHeader,
    localHeader,
    textHeader,
)
from tests.proxyheaders import (
    CHECKED,
    CHECKED_TEXT,
    FOUR,
    RIGHT,
    TRUNCATED,
    WRONG,
    tlv,
    two,
)

BEHIND = b"\0PROXY TCP4 is what the client says\r\n"


def read(data: bytes, *cuts: int) -> tuple[Header | None, bytes]:
    """
    Read a header that comes in pieces.

    @param cuts: Where the pieces end.
    @return: The header, if it is complete, and the bytes behind it.
    """
    reader = HeaderReader()
    start = 0
    for end in [*sorted(cuts), len(data)]:
        piece = data[start:end]
        taken = reader.feed(piece)
        start += taken
        if reader.header is not None:
            return reader.header, data[start:]
        assert taken == len(piece)
    return None, b""


class RightTests(SynchronousTestCase):
    """
    Headers as they should be.
    """

    def test_whole(self) -> None:
        """
        Each right header gives its addresses, and leaves the client's bytes behind it.
        """
        for name, (whole, ends) in RIGHT.items():
            header, behind = read(whole + BEHIND)
            assert header is not None, name
            said = [header.source, header.destination]
            self.assertEqual(said, [None, None] if ends is None else ends, name)
            self.assertEqual(header.version, 1 if name.startswith("v1") else 2)
            self.assertEqual(behind, BEHIND, name)

    def test_byteByByte(self) -> None:
        """
        A header that comes byte by byte says the same as one that comes at once.
        """
        for name, (whole, _) in RIGHT.items():
            if len(whole) > 1000:
                continue
            split = read(whole + BEHIND, *range(1, len(whole) + 9))
            self.assertEqual(split, read(whole + BEHIND), name)

    def test_splitAnywhere(self) -> None:
        """
        It may be split at each of its bytes.
        """
        for name, (whole, _) in RIGHT.items():
            for cut in range(min(len(whole), 300)):
                self.assertEqual(read(whole + b"x", cut), read(whole + b"x"), name)

    @given(some.sampled_from(sorted(RIGHT)), some.lists(some.integers(0, 70_000)))
    def test_splitIntoMany(self, name: str, cuts: list[int]) -> None:
        """
        It may come in pieces of any sizes.
        """
        whole = RIGHT[name][0] + BEHIND
        self.assertEqual(read(whole, *cuts), read(whole))

    def test_incomplete(self) -> None:
        """
        No part of a right header is taken for a header or refused: the rest may come.
        """
        for name, part in TRUNCATED.items():
            self.assertEqual(read(part), (None, b""), name)

    def test_nothing(self) -> None:
        """
        No bytes are the beginning of any header.
        """
        reader = HeaderReader()
        self.assertEqual(reader.feed(b""), 0)
        self.assertIsNone(reader.header)
        reader.feed(UNKNOWN)
        self.assertEqual(reader.header, Header(1))

    def test_tlvs(self) -> None:
        """
        Types and values are read in their order, without those that only pad.
        """
        body = FOUR + tlv(0xEA, b"\1vpce") + tlv(4, b"pad") + tlv(1, b"") + tlv(1, b"x")
        header, _ = read(two(body=body))
        assert header is not None
        self.assertEqual(header.tlvs, ((0xEA, b"\1vpce"), (1, b""), (1, b"x")))

    def test_namedTlvs(self) -> None:
        """
        What HAProxy says of a client that came by TLS can be read by people.
        """
        header, _ = read(CHECKED)
        assert header is not None
        self.assertEqual(dict(named(header.tlvs)), CHECKED_TEXT)

    def test_namesOfOthers(self) -> None:
        """
        What has no name is called by its number, and bytes that are no text are
        escaped.
        """
        parts = bytes.fromhex("06000000002f0001ff")
        self.assertEqual(
            list(named([(0xEA, b"\1vpce-1"), (0x30, b"blue"), (SSL, parts)])),
            [
                ("ea", "\1vpce-1"),
                ("netns", "blue"),
                ("ssl", "cert+verified"),
                ("ssl-2f", "\\xff"),
            ],
        )

    def test_longTexts(self) -> None:
        """
        Of a long value, such as a certificate, only the beginning is shown.
        """
        parts = bytes(5) + tlv(0x28, b"x" * 256)
        for each in ((2, b"x" * 256), (SSL, parts)):
            *_, (_, text) = named([each])
            self.assertEqual(text, "x" * 255 + "...")

    def test_ssl(self) -> None:
        """
        A certificate counts as verified only if one was shown.
        """
        parts = tlv(0x22, "Zoë".encode())
        self.assertEqual(
            readSsl(b"\x03\0\0\0\0" + parts),
            Ssl(True, True, True, ((0x22, "Zoë".encode()),)),
        )
        self.assertEqual(readSsl(b"\x07\0\0\0\1"), Ssl(True, True, False))
        self.assertEqual(readSsl(b"\x01\0\0\0\0"), Ssl(True, False, False))
        self.assertEqual(readSsl(b"\x01\0\0\0\0" + parts).text(0x22), "Zoë")
        self.assertIsNone(readSsl(b"\x01\0\0\0\0" + parts).text(0x21))

    def test_namesOfNoTls(self) -> None:
        """
        A client that came without TLS is shown as such.
        """
        self.assertEqual(list(named([(SSL, bytes(5))])), [("ssl", "no")])


class WrongTests(SynchronousTestCase):
    """
    Everything else.
    """

    def test_number(self) -> None:
        """
        The table of wrong headers has all that was promised.
        """
        self.assertGreaterEqual(len(WRONG), 72)

    def test_refused(self) -> None:
        """
        Each wrong header is refused, with the reason in one printable line.
        """
        for name, data in WRONG.items():
            with self.assertRaises(WrongHeader, msg=name) as caught:
                read(data + BEHIND)
            reason = str(caught.exception)
            self.assertTrue(reason.isprintable() and len(reason) < 120, reason)

    def test_refusedByteByByte(self) -> None:
        """
        A wrong header is refused for the same reason, however it comes.
        """
        for name, data in WRONG.items():
            reasons = set()
            for cuts in ([], list(range(len(data)))):
                with self.assertRaises(WrongHeader, msg=name) as caught:
                    read(data + BEHIND, *cuts)
                reasons.add(str(caught.exception).partition(" begins")[0])
            self.assertEqual(len(reasons), 1, reasons)

    def test_atOnce(self) -> None:
        """
        A client that speaks another protocol is refused at its first byte.
        """
        for first in range(256):
            reader = HeaderReader()
            if first in b"P\r":
                self.assertEqual(reader.feed(bytes([first])), 1)
            else:
                with self.assertRaises(WrongHeader):
                    reader.feed(bytes([first]))

    def test_reasons(self) -> None:
        """
        The reason names the bad part, and what would be right.
        """
        reasons = {
            "no header": "it begins with 'GET / HTTP/1.1\\r\\n'",
            "v1 999": "'999.1.1.1' is not an IPv4 address",
            "v1 IPv6 in brackets": "'[::1]' is not an IPv6 address",
            "v1 port 65536": "'65536' is not a port from 0 to 65535",
            "v1 108 bytes": "its line is longer than 107 bytes",
            "v1 another family": "'UDP4' is none of TCP4, TCP6 and UNKNOWN",
            "v1 one port": "TCP4 needs two addresses and two ports, a space before "
            "each",
            "v1 LF alone": "its line has a CR or LF that is not its end, CR LF",
            "v1 CR alone": "its line has a CR or LF that is not its end, CR LF",
            "v2 version 3": "its version is 3, not 2",
            "v2 command 2": "its command is 2, not 0 or 1",
            "v2 family 4": "its family 4 with transport 1 is none of the protocol's",
            "v2 length 11": "its length is 11, but its addresses need 12",
            "v2 one byte of a TLV": "a TLV is cut off at the end of the header",
            "v2 a TLV of one byte too many": "TLV 0x04 is 3 bytes long, but 2 are left "
            "in the header",
            "v2 a wrong checksum": "its checksum (CRC32C) is wrong",
            "v2 a checksum of three bytes": "its checksum has 3 bytes, not 4",
            "v2 a unique id of 129 bytes": "its unique id has 129 bytes; at most 128 "
            "are right",
            "v2 an SSL TLV of four bytes": "the SSL TLV has 4 bytes: it needs at "
            "least 5",
            "v2 an SSL TLV whose part is too long": "TLV 0x21 is 9 bytes long, but 3 "
            "are left in the SSL TLV",
        }
        for name, reason in reasons.items():
            with self.assertRaises(WrongHeader) as caught:
                read(WRONG[name])
            self.assertEqual(str(caught.exception), reason, name)

    def test_twoChecksums(self) -> None:
        """
        A header with two checksums is wrong: none of them could be right.
        """
        right = binaryHeader(IPv4Address("TCP", "1.2.3.4", 5), None, checked=True)
        body = right[16:] + tlv(3, bytes(4))
        checked = bytearray(two(body=body))
        checked[31:35] = bytes(4)
        checked[31:35] = crc32c(checked).to_bytes(4, "big")
        with self.assertRaisesRegex(WrongHeader, "it has two checksums"):
            read(bytes(checked))

    def test_eachBitOfAChecked(self) -> None:
        """
        A header with a checksum is refused, or not yet complete, when any of its bits
        is another.
        """
        for place in range(len(CHECKED) * 8):
            other = bytearray(CHECKED)
            other[place // 8] ^= 1 << place % 8
            with contextlib.suppress(WrongHeader):
                header, _ = read(bytes(other))
                # Changed, it may have no addresses, or its checksum may be none.
                checked = header and header.source and 3 in dict(header.tlvs)
                self.assertFalse(checked, place)

    @given(some.binary(max_size=300), some.lists(some.integers(0, 300)))
    def test_anyBytes(self, data: bytes, cuts: list[int]) -> None:
        """
        Whatever comes, in whatever pieces, it is a header, a part of one, or refused.
        """
        for start in (b"", b"PROXY ", b"PROXY TCP4 ", two()[:12], two()[:14]):
            with contextlib.suppress(WrongHeader):
                read(start + data, *cuts)

    @given(some.sampled_from(sorted(RIGHT)), some.data())
    def test_changed(self, name: str, data: some.DataObject) -> None:
        """
        The same with one byte of a right header changed, removed or doubled.
        """
        whole = RIGHT[name][0]
        place = data.draw(some.integers(0, len(whole) - 1))
        piece = data.draw(some.binary(max_size=2))
        with contextlib.suppress(WrongHeader):
            read(whole[:place] + piece + whole[place + 1 :] + BEHIND)


_PORTS = some.integers(0, 65535)
_FOURS = some.builds(
    lambda host, port: IPv4Address("TCP", str(host), port),
    some.ip_addresses(v=4),
    _PORTS,
)
_SIXES = some.builds(
    lambda host, port: IPv6Address("TCP", str(host), port),
    some.ip_addresses(v=6),
    _PORTS,
)
_TLVS = some.lists(
    some.tuples(some.integers(0xE0, 0xF7), some.binary(max_size=300)), max_size=5
)


def same(one: IAddress | None, other: IAddress | None) -> bool:
    """
    Whether two addresses are the same, as IPv4 or as mapped IPv6.
    """
    ends: list[object] = []
    for each in (one, other):
        assert isinstance(each, IPv4Address | IPv6Address)
        host = ipaddress.ip_address(each.host)
        mapped = getattr(host, "ipv4_mapped", None)
        ends.append((mapped or host, each.port))
    return bool(ends[0] == ends[1])


class WrittenTests(SynchronousTestCase):
    """
    Headers that are sent.
    """

    @given(_FOURS | _SIXES, _FOURS | _SIXES, _TLVS, some.booleans())
    def test_read(
        self,
        source: IPv4Address | IPv6Address,
        destination: IPv4Address | IPv6Address,
        tlvs: list[Tlv],
        checked: bool,
    ) -> None:
        """
        What is written for two addresses of any family says just these, and is right.
        """
        written = binaryHeader(source, destination, tlvs, checked)
        for data in (textHeader(source, destination), written):
            header, behind = read(data + b"x")
            assert header is not None
            self.assertTrue(same(header.source, source), (header, source))
            self.assertTrue(same(header.destination, destination), header)
            self.assertEqual(type(header.source), type(header.destination))
            self.assertEqual(behind, b"x")
        header, _ = read(written)
        assert header is not None
        self.assertEqual([each for each in header.tlvs if each[0] != 3], tlvs)
        self.assertEqual(len(header.tlvs), len(tlvs) + checked)

    def test_bytes(self) -> None:
        """
        The bytes are those of the protocol's description.
        """
        source = IPv4Address("TCP", "192.0.2.1", 56324)
        destination = IPv4Address("TCP", "198.51.100.7", 443)
        self.assertEqual(textHeader(source, destination), RIGHT["v1 IPv4"][0])
        self.assertEqual(binaryHeader(source, destination), RIGHT["v2 IPv4"][0])
        six = (
            IPv6Address("TCP", "2001:db8::1", 1),
            IPv6Address("TCP", "2001:db8::2", 65535),
        )
        self.assertEqual(binaryHeader(*six), RIGHT["v2 IPv6"][0])
        self.assertEqual(
            textHeader(*six), b"PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n"
        )

    def test_dualStack(self) -> None:
        """
        An IPv4 client of a listener for both families is sent as the IPv4 client that
        it is.
        """
        source = IPv6Address("TCP", "::ffff:192.0.2.1", 5)
        destination = IPv6Address("TCP", "::ffff:192.0.2.2", 6)
        self.assertEqual(
            textHeader(source, destination), b"PROXY TCP4 192.0.2.1 192.0.2.2 5 6\r\n"
        )

    def test_linkLocal(self) -> None:
        """
        The interface of a link-local client means nothing elsewhere, and is left out.
        """
        source = IPv6Address("TCP", "fe80::1%eth0", 5)
        self.assertEqual(textHeader(source, None), b"PROXY TCP6 fe80::1 :: 5 0\r\n")

    def test_unknownDestination(self) -> None:
        """
        A client is known although the address that it connected to is not.
        """
        for source, line in (
            (IPv4Address("TCP", "192.0.2.1", 5), b"TCP4 192.0.2.1 0.0.0.0 5 0"),
            (IPv6Address("TCP", "::1", 5), b"TCP6 ::1 :: 5 0"),
        ):
            for other in (None, UNIXAddress(b"/run/x"), IPv4Address("TCP", "name", 1)):
                if isinstance(other, IPv4Address) and isinstance(source, IPv4Address):
                    continue
                written = textHeader(source, other)
                self.assertEqual(
                    written.partition(b" 5 ")[0] + b" 5 0", b"PROXY " + line
                )

    def test_noAddress(self) -> None:
        """
        A client of a Unix socket, or of another program's transport, has no address
        that the protocol could carry. HAProxy says the same of such clients.
        """
        for source in (
            None,
            UNIXAddress(b"/run/x"),
            IPv4Address("TCP", "name", 1),
            IPv6Address("TCP", "name", 1),
        ):
            to = IPv4Address("TCP", "1.2.3.4", 5)
            self.assertEqual(textHeader(source, to), b"PROXY UNKNOWN\r\n")
            self.assertEqual(binaryHeader(source, to, [(5, b"x")], True), LOCAL_HEADER)

    def test_local(self) -> None:
        """
        The header of the sender's own connections is read as such.
        """
        self.assertEqual(localHeader("v1"), b"PROXY UNKNOWN\r\n")
        self.assertEqual(localHeader("v2"), two(0x20, 0, b""))
        for version, number in (("v1", 1), ("v2", 2)):
            self.assertEqual(read(localHeader(version)), (Header(number), b""))

    def test_checksum(self) -> None:
        """
        The checksum is CRC32C.
        """
        self.assertEqual(crc32c(b"123456789"), 0xE3069283)
