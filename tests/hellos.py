"""
ClientHellos for tests: written field by field, and those of OpenSSL.
"""

from __future__ import annotations

import ssl
import struct
from collections.abc import Iterable


def vector(width: int, data: bytes) -> bytes:
    """
    Write a length and the bytes.
    """
    return len(data).to_bytes(width, "big") + data


def extension(kind: int, data: bytes) -> bytes:
    """
    Write an extension.
    """
    return kind.to_bytes(2, "big") + vector(2, data)


def nameOf(host: bytes, kind: int = 0) -> bytes:
    """
    Write the extension with a server name.
    """
    return extension(0, vector(2, bytes([kind]) + vector(2, host)))


def protocolsOf(*names: bytes) -> bytes:
    """
    Write the extension with application protocols.
    """
    return extension(16, vector(2, b"".join(vector(1, each) for each in names)))


def versionsOf(*versions: int) -> bytes:
    """
    Write the extension with the versions of TLS.
    """
    return extension(43, vector(1, b"".join(struct.pack("!H", v) for v in versions)))


def body(
    extensions: bytes | None = b"",
    *,
    version: int = 0x0303,
    random: bytes = bytes(32),
    session: bytes = b"",
    ciphers: bytes = b"\x13\x01",
    compressions: bytes = b"\0",
) -> bytes:
    """
    Write the body of a ClientHello.

    @param extensions: The extensions; L{None} for a client that has no list of them.
    """
    start = struct.pack("!H", version) + random + vector(1, session)
    start += vector(2, ciphers) + vector(1, compressions)
    return start if extensions is None else start + vector(2, extensions)


def message(content: bytes, kind: int = 1) -> bytes:
    """
    Write a message of the handshake.
    """
    return bytes([kind]) + vector(3, content)


def record(content: bytes, kind: int = 22, version: int = 0x0301) -> bytes:
    """
    Write a record.
    """
    return bytes([kind]) + struct.pack("!H", version) + vector(2, content)


def records(content: bytes, places: Iterable[int] = ()) -> bytes:
    """
    Write a message in several records, split at the given places.
    """
    cuts = [0, *sorted({each for each in places if 0 < each < len(content)})]
    ends = [*cuts[1:], len(content)]
    return b"".join(
        record(content[start:end]) for start, end in zip(cuts, ends, strict=True)
    )


def helloOf(host: str | None = None, *protocols: str) -> bytes:
    """
    Write the ClientHello of a client that asks for a host, with Python's own TLS.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(list(protocols))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        context.wrap_bio(incoming, outgoing, server_hostname=host).do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError("a handshake without a server")  # pragma: no cover
