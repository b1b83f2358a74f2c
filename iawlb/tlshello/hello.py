"""
The ClientHello, the first message of a TLS client: what it asks for, read strictly and
without decrypting anything.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from iawlb.tlshello.fields import Fields, WrongHello, only

SERVER_NAME, ALPN, PRE_SHARED_KEY, VERSIONS = 0, 16, 41, 43
"""
The numbers of the extensions that are read.
"""

_HOST = re.compile(rb"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")
_LONGEST_HOST = 253


@dataclass(frozen=True, slots=True)
class ClientHello:
    """
    What a TLS client asks for.

    @ivar serverName: The host name that the client wants (SNI), in lower case and
        without a dot at its end; L{None} if it names none.
    @ivar protocols: The application protocols that the client offers (ALPN), in its
        order. Bytes beyond ASCII are the characters of the same numbers.
    @ivar versions: The versions of TLS that the client can speak, as TLS numbers them,
        C{0x0303} being 1.2 and C{0x0304} 1.3. A client that lists none has given the
        newest.
    """

    serverName: str | None = None
    protocols: tuple[str, ...] = ()
    versions: tuple[int, ...] = ()


def parseHello(body: bytes) -> ClientHello:
    """
    Read the body of a ClientHello, which is behind the type and the length of the
    message.

    @raise WrongHello: A part is malformed; the message names the part.
    """
    fields = Fields(body, "the ClientHello")
    version = fields.number(2, "the version")
    if version >> 8 != 3:
        raise WrongHello(f"the ClientHello is of version {version:#06x}, not of TLS")
    fields.take(32, "the random bytes")
    session = fields.vector(1, "the session's id")
    if len(session) > 32:
        raise WrongHello(f"the session's id has {len(session)} bytes, more than 32")
    ciphers = fields.vector(2, "the ciphers")
    if not ciphers or len(ciphers) % 2:
        raise WrongHello(f"{len(ciphers)} bytes are no list of ciphers")
    if 0 not in fields.vector(1, "the compression methods"):
        raise WrongHello("the compression methods lack the one that is none")
    # Clients of TLS 1.2 and before may have no extensions at all.
    found = _extensions(fields) if fields else {}
    versions: tuple[int, ...] = (version,)
    if VERSIONS in found:
        versions = _versions(found[VERSIONS])
    name, protocols = found.get(SERVER_NAME), found.get(ALPN)
    return ClientHello(
        None if name is None else _serverName(name),
        () if protocols is None else _protocols(protocols),
        versions,
    )


def _extensions(fields: Fields) -> dict[int, bytes]:
    """
    Read the extensions, which are the rest of a ClientHello.
    """
    inner = Fields(fields.vector(2, "the extensions"), "the list of extensions")
    fields.finish()
    found: dict[int, bytes] = {}
    while inner:
        kind = inner.number(2, "an extension's type")
        if kind in found:
            raise WrongHello(f"extension {kind} comes twice")
        if PRE_SHARED_KEY in found:
            raise WrongHello(
                f"extension {kind} comes behind {PRE_SHARED_KEY}, the last"
            )
        found[kind] = inner.vector(2, f"extension {kind}")
    return found


def _serverName(data: bytes) -> str:
    """
    Read the extension with the host's name.
    """
    where = "the server name's extension"
    names = Fields(only(data, 2, where, "the list of names"), "the list of names")
    kind = names.number(1, "a name's type")
    if kind:
        raise WrongHello(f"a server name of type {kind}, not 0, a host's")
    host = names.vector(2, "the host's name")
    if names:
        raise WrongHello("more than one server name")
    if not _HOST.fullmatch(host) or len(host.rstrip(b".")) > _LONGEST_HOST:
        raise WrongHello(f"{host[:64]!r} is not the name of a host")
    return host.decode("ascii").lower().removesuffix(".")


def _protocols(data: bytes) -> tuple[str, ...]:
    """
    Read the extension with the application protocols.
    """
    where = "the extension of application protocols"
    listed = Fields(only(data, 2, where, "the list of protocols"), "the protocols")
    found = []
    while listed:
        each = listed.vector(1, "a protocol")
        if not each:
            raise WrongHello("an application protocol without a name")
        found.append(each.decode("latin-1"))
    if not found:
        raise WrongHello("an empty list of application protocols")
    return tuple(found)


def _versions(data: bytes) -> tuple[int, ...]:
    """
    Read the extension with the versions of TLS. Numbers that are no version of TLS are
    left out: clients mix such in, so that servers learn to ignore them.
    """
    listed = only(data, 1, "the extension of versions", "the list of versions")
    if not listed or len(listed) % 2:
        raise WrongHello(f"{len(listed)} bytes are no list of versions")
    pairs = zip(listed[::2], listed[1::2], strict=True)
    return tuple((high << 8) + low for high, low in pairs if high == 3)
