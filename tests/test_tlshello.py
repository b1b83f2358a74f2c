"""
Tests for L{iawlb.tlshello}.
"""

from __future__ import annotations

import contextlib
import ssl

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from iawlb.tlshello.alert import (
    DECODE_ERROR,
    NO_APPLICATION_PROTOCOL,
    UNRECOGNIZED_NAME,
    alert,
)
from iawlb.tlshello.fields import WrongHello
from iawlb.tlshello.hello import ClientHello, parseHello
from iawlb.tlshello.reader import MOST, HelloReader
from tests.hellos import (
    body,
    extension,
    helloOf,
    message,
    nameOf,
    protocolsOf,
    record,
    records,
    vector,
    versionsOf,
)

LABELS = st.from_regex(r"[a-z0-9_-]{1,20}", fullmatch=True)
HOSTS = st.lists(LABELS, min_size=1, max_size=5).map(".".join)
PROTOCOLS = st.lists(
    st.text(st.characters(max_codepoint=255), min_size=1, max_size=20), max_size=5
)


@st.composite
def hellos(draw: st.DrawFn) -> tuple[bytes, ClientHello]:
    """
    Draw the body of a valid ClientHello, and what is to be read in it.
    """
    host = draw(st.none() | HOSTS)
    protocols = draw(PROTOCOLS)
    versions = draw(st.lists(st.sampled_from([0x0301, 0x0303, 0x0304]), max_size=4))
    parts = [extension(99, draw(st.binary(max_size=40)))]
    if host is not None:
        parts.append(nameOf(host.encode()))
    if protocols:
        parts.append(protocolsOf(*(each.encode("latin-1") for each in protocols)))
    if versions:
        parts.append(versionsOf(*versions))
    shuffled = draw(st.permutations(parts))
    content = body(
        b"".join(shuffled),
        random=draw(st.binary(min_size=32, max_size=32)),
        session=draw(st.binary(max_size=32)),
        ciphers=bytes(2 * draw(st.integers(1, 40))),
    )
    return content, ClientHello(host, tuple(protocols), tuple(versions) or (0x0303,))


def readAll(data: bytes) -> ClientHello | None:
    """
    Read bytes that have come at once.
    """
    return HelloReader().read(data)


class HelloTests(SynchronousTestCase):
    """
    What a ClientHello says.
    """

    def test_openssl(self) -> None:
        """
        The name, the protocols and the versions that OpenSSL offers are read.
        """
        found = readAll(helloOf("WWW.Example.org", "h2", "http/1.1"))
        assert found is not None
        self.assertEqual(found.serverName, "www.example.org")
        self.assertEqual(found.protocols, ("h2", "http/1.1"))
        self.assertIn(0x0304, found.versions)
        found = readAll(helloOf())
        assert found is not None
        self.assertEqual((found.serverName, found.protocols), (None, ()))

    def test_noExtensions(self) -> None:
        """
        A client of TLS 1.2 may have no extensions.
        """
        found = parseHello(body(None))
        self.assertEqual(found, ClientHello(None, (), (0x0303,)))

    def test_dot(self) -> None:
        """
        A host's name may end with a dot, which is left out.
        """
        self.assertEqual(parseHello(body(nameOf(b"a.b."))).serverName, "a.b")

    def test_unknownVersions(self) -> None:
        """
        Numbers that are no version of TLS are left out of the list of versions.
        """
        content = body(versionsOf(0x3A3A, 0x0304, 0x0303, 0x7F17))
        self.assertEqual(parseHello(content).versions, (0x0304, 0x0303))

    @given(hellos(), st.lists(st.integers(1, 800), max_size=8), st.data())
    def test_split(
        self, hello: tuple[bytes, ClientHello], cuts: list[int], data: st.DataObject
    ) -> None:
        """
        However a ClientHello is split, in records and in what comes at a time, the same
        is read, and only when it is complete. Bytes behind it are left alone.
        """
        whole = records(message(hello[0]), cuts)
        stream = whole + data.draw(st.binary(max_size=20))
        reader = HelloReader()
        came = 0
        while came < len(whole):
            more = data.draw(st.integers(1, len(whole) - came))
            came += more
            found = reader.read(stream[:came] if came < len(whole) else stream)
            self.assertEqual(found, hello[1] if came == len(whole) else None)

    def test_byteByByte(self) -> None:
        """
        A ClientHello may come byte by byte, in records of a byte each.
        """
        content = message(body(nameOf(b"a.example") + protocolsOf(b"h2")))
        whole = records(content, range(len(content)))
        reader = HelloReader()
        for size in range(len(whole)):
            self.assertIsNone(reader.read(whole[:size]))
        found = reader.read(whole)
        self.assertEqual(found, ClientHello("a.example", ("h2",), (0x0303,)))

    @given(st.binary(max_size=300))
    @example(b"")
    def test_anyBytes(self, data: bytes) -> None:
        """
        Bytes of any kind are a ClientHello, the beginning of one, or refused with a
        reason, also when each length around them is right.
        """
        for stream in (data, record(data), record(message(data))):
            try:
                readAll(stream)
            except WrongHello as error:
                self.assertTrue(str(error))

    @given(hellos(), st.integers(0, 10_000), st.integers(0, 255))
    def test_anyChange(
        self, hello: tuple[bytes, ClientHello], place: int, value: int
    ) -> None:
        """
        A ClientHello with one byte changed is read, waited for, or refused with a
        reason.
        """
        stream = bytearray(record(message(hello[0])))
        stream[place % len(stream)] = value
        try:
            readAll(bytes(stream))
        except WrongHello as error:
            self.assertTrue(str(error))

    @given(hellos())
    def test_cut(self, hello: tuple[bytes, ClientHello]) -> None:
        """
        A ClientHello that ends within any field is refused, though the lengths of its
        record and message say so.
        """
        content, valid = hello[0], []
        for size in range(len(content)):
            with contextlib.suppress(WrongHello):
                valid.append(parseHello(content[:size]))
        # What ends in front of the extensions is valid.
        self.assertEqual(valid, [ClientHello(None, (), (0x0303,))])


class MalformedTests(SynchronousTestCase):
    """
    Everything that is wrong is refused, and the message names it.
    """

    def refused(self, stream: bytes, why: str) -> None:
        """
        Check that bytes are refused, and why.
        """
        self.assertIn(why, str(self.assertRaises(WrongHello, readAll, stream)))

    def test_start(self) -> None:
        """
        What is no TLS is refused at its first bytes.
        """
        for stream, why in (
            (b"GET / HTTP/1.1\r\n", "not TLS, but a plain HTTP request"),
            (b"PRI * HTTP/2.0\r\n", "not TLS, but a plain HTTP request"),
            (b"S", "not TLS: the first byte is 0x53, and not 0x16"),
            (b"\x80\x2e\x01\x03\x01", "a ClientHello of SSL 2"),
            (b"\0\0\0\x08\x04\xd2\x16\x2f", "a PostgreSQL client"),
            (b"\x17\x03\x03\0\x01", "the first byte is 0x17"),
            (b"\x15\x03\x03\0\x02", "the first byte is 0x15"),
        ):
            self.refused(stream, why)

    def test_records(self) -> None:
        """
        A record that cannot be one of a ClientHello is refused.
        """
        content = message(body(extension(99, bytes(100))))
        for stream, why in (
            (b"\x16\x02\x00\0\x10", "a record of version 2.0, not of TLS"),
            (record(b""), "an empty record"),
            (record(content[:9]) + record(b""), "an empty record"),
            (record(content[:9]) + record(b"\0", 23), "a record of type 23 within"),
            (b"\x16\x03\x01\x40\x01", "no complete ClientHello within 16384 bytes"),
            (b"\x16\x03\x01\xff\xff", "no complete ClientHello within 16384 bytes"),
            (record(content + b"\0"), "1 bytes behind the ClientHello in its record"),
        ):
            self.refused(stream, why)

    def test_messages(self) -> None:
        """
        A message that is no ClientHello, or too long, is refused as soon as that can be
        seen.
        """
        self.refused(record(message(b"", 2)), "a message of type 2, not a ClientHello")
        self.refused(record(b"\x02" + bytes(90))[:6], "a message of type 2")
        self.refused(record(b"\x01\xff\xff\xff")[:9], "a ClientHello of 16777219 bytes")
        self.refused(record(b"\x01\0\x40\0" + bytes(90))[:9], "of 16388 bytes, of at")

    def test_most(self) -> None:
        """
        A ClientHello is not looked for beyond the first 16 KiB, however small its
        records are. The largest one that fits is read.
        """
        content = message(body(extension(99, bytes(9000))))
        stream = records(content, range(len(content)))
        reader = HelloReader()
        with self.assertRaisesRegex(WrongHello, "no complete ClientHello within 16384"):
            for size in range(0, len(stream), 500):
                self.assertIsNone(reader.read(stream[:size]))
                self.assertLess(size, MOST)
        size = MOST - 5 - len(message(body(extension(99, b""))))
        largest = record(message(body(extension(99, bytes(size)))))
        self.assertEqual(len(largest), MOST)
        self.assertTrue(readAll(largest))

    def test_bodies(self) -> None:
        """
        Each field of a ClientHello is checked.
        """
        name, protocols = nameOf(b"a.example"), protocolsOf(b"h2")
        for content, why in (
            (b"", "ends within the version: 2 bytes are due, and 0 are left"),
            (body(version=0x0203), "the ClientHello is of version 0x0203"),
            (body(session=bytes(33)), "the session's id has 33 bytes, more than 32"),
            (body(ciphers=b""), "0 bytes are no list of ciphers"),
            (body(ciphers=b"\x13\x01\x13"), "3 bytes are no list of ciphers"),
            (body(compressions=b""), "the compression methods lack"),
            (body(compressions=b"\x01"), "the compression methods lack"),
            (body() + b"\0", "1 bytes too many at the end of the ClientHello"),
            (body(b"\0"), "ends within an extension's type"),
            (body(b"\0\x63\0\x05abc"), "ends within extension 99: 5 bytes are due"),
            (body(name + name), "extension 0 comes twice"),
            (body(extension(41, b"") + name), "extension 0 comes behind 41, the last"),
        ):
            self.refused(record(message(content)), why)
        self.assertTrue(parseHello(body(name + protocols + extension(41, b"x"))))

    def test_extensions(self) -> None:
        """
        The extensions that are read are checked to their ends.
        """
        for content, why in (
            (extension(0, b""), "ends within the length of the list of names"),
            (extension(0, vector(2, b"")), "ends within a name's type"),
            (extension(0, vector(2, b"\0\0\x01a") + b"x"), "1 bytes too many"),
            (extension(0, vector(2, b"\0\0\x09a")), "ends within the host's name"),
            (nameOf(b"a", 1), "a server name of type 1"),
            (extension(0, vector(2, b"\0\0\x01a\0\0\x01b")), "more than one server"),
            (nameOf(b""), "b'' is not the name of a host"),
            (nameOf(b"a\0b"), "b'a\\x00b' is not the name of a host"),
            (nameOf(b"a..b"), "is not the name of a host"),
            (nameOf(b".a"), "is not the name of a host"),
            (nameOf(b"::1"), "is not the name of a host"),
            (nameOf("ü.example".encode()), "is not the name of a host"),
            (nameOf(b"*.example"), "is not the name of a host"),
            (nameOf(b"a" * 64), "is not the name of a host"),
            (nameOf(b".".join([b"a" * 50] * 5)), "is not the name of a host"),
            (extension(16, vector(2, b"")), "an empty list of application protocols"),
            (protocolsOf(b"h2", b""), "an application protocol without a name"),
            (extension(16, vector(2, b"\x05h2")), "ends within a protocol"),
            (extension(16, b"\0\x03\x02h2x"), "1 bytes too many"),
            (extension(43, b"\0"), "0 bytes are no list of versions"),
            (extension(43, b"\x03\x03\x04\x03"), "3 bytes are no list of versions"),
            (extension(43, b"\x04\x03\x04"), "ends within the list of versions"),
        ):
            self.refused(record(message(body(content))), why)


class AlertTests(SynchronousTestCase):
    """
    The alert that a refused client gets.
    """

    def test_understood(self) -> None:
        """
        A client understands the alert as the server's refusal.
        """
        for number, why in (
            (UNRECOGNIZED_NAME, "unrecognized name"),
            (NO_APPLICATION_PROTOCOL, "no application protocol"),
            (DECODE_ERROR, "decode error"),
        ):
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            context = ssl.create_default_context()
            client = context.wrap_bio(incoming, outgoing, server_hostname="a.example")
            self.assertRaises(ssl.SSLWantReadError, client.do_handshake)
            incoming.write(alert(number))
            error = self.assertRaises(ssl.SSLError, client.do_handshake)
            self.assertIn(why, str(error).lower().replace("_", " "))
