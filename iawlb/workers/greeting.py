"""
Destinations that are told who the client is, by a header of the PROXY protocol before
its first byte.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from errno import EPIPE
from itertools import count
from secrets import token_hex
from socket import inet_aton
from typing import Any, ClassVar

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.python.failure import Failure

from iawlb.backend.connector import Connected, DestinationConnector
from iawlb.backend.socketconnector import errorOf
from iawlb.core.clientinfo import ClientInfo
from iawlb.core.session import Session
from iawlb.proxyprotocol.header import Tlv
from iawlb.proxyprotocol.tlvs import (
    ALPN,
    AUTHORITY,
    BY_TLS,
    HAS_CERTIFICATE,
    LONGEST_NAME,
    SSL,
    SSL_CIPHER,
    SSL_NAME,
    SSL_VERSION,
    UNIQUE_ID,
    joined,
)
from iawlb.proxyprotocol.writing import (
    LOCAL_HEADER,
    PACK_FOUR,
    START_FOUR,
    binaryHeader,
    textHeader,
)
from iawlb.relay.fast import plain
from iawlb.relay.plain import PlainClient
from iawlb.relay.side import Side
from iawlb.settings import DestinationSettings
from iawlb.workers.serving import Serving, drop

_PROCESS = token_hex(6).encode()
_NUMBERS = count(1)
"""
What unique ids are made of: no two connections have the same, also after a restart.
"""

Greeting = Callable[[Session], bytes]
"""
Makes the header for a session.
"""


def greetingOf(settings: DestinationSettings) -> Greeting | None:
    """
    Return what makes the headers that a destination gets, or L{None} if it gets none.
    """
    if settings.sendProxy == "off":
        return None
    if settings.sendProxy == "v1":
        return _text
    return Greeter(settings.proxyTlvs).header if settings.proxyTlvs else _binary


def _text(session: Session) -> bytes:
    side, address = session.side, session.address
    if (
        type(side) is PlainClient
        and type(address) is IPv4Address
        and session.info is None
    ):
        # What nearly all are, in half the time. The kernel has written both hosts.
        host, port = side.handle.getsockname()
        line = f"PROXY TCP4 {address.host} {host} {address.port} {port}\r\n"
        return line.encode()
    return textHeader(address, session.local)


def _binary(session: Session) -> bytes:
    side, address = session.side, session.address
    if (
        type(side) is PlainClient
        and type(address) is IPv4Address
        and session.info is None
    ):
        host, port = side.handle.getsockname()
        return PACK_FOUR(
            START_FOUR, inet_aton(address.host), inet_aton(host), address.port, port
        )
    return binaryHeader(address, session.local)


class Greeter:
    """
    Makes headers of version 2 that say more than the addresses.
    """

    def __init__(self, words: tuple[str, ...]) -> None:
        """
        @param words: What the headers are to say.
        """
        self._checked = "crc32c" in words
        self._identified = "unique-id" in words
        self._known = [read for word, read in _KNOWN.items() if word in words]

    def header(self, session: Session) -> bytes:
        """
        Make the header for a session.
        """
        address = session.address
        if not isinstance(address, IPv4Address | IPv6Address):
            return LOCAL_HEADER
        added: list[Tlv] = []
        info = session.info
        if info is not None:
            for read in self._known:
                added += read(info)
        if self._identified:
            info = session.learn()
            if info.uniqueId is None:
                info.uniqueId = b"%s-%x" % (_PROCESS, next(_NUMBERS))
            added.append((UNIQUE_ID, info.uniqueId))
        return binaryHeader(address, session.local, added, self._checked)


def _authority(info: ClientInfo) -> Iterator[Tlv]:
    name = info.serverName
    if name is not None:
        yield AUTHORITY, name.encode()[:LONGEST_NAME]


def _alpn(info: ClientInfo) -> Iterator[Tlv]:
    protocol = info.protocol
    if protocol is not None:
        yield ALPN, protocol.encode()[:LONGEST_NAME]


def _ssl(info: ClientInfo) -> Iterator[Tlv]:
    """
    Say how the client's TLS is: ours, or else that which a header has reported.
    """
    tls = info.tls
    if tls is None:
        yield from (each for each in info.tlvs if each[0] == SSL)
        return
    parts = [(SSL_VERSION, tls.version.encode()), (SSL_CIPHER, tls.cipher.encode())]
    client, name = BY_TLS, tls.clientName
    if name is not None:
        client |= HAS_CERTIFICATE
        parts.append((SSL_NAME, name.encode()[:LONGEST_NAME]))
    yield SSL, struct.pack("!BI", client, not tls.verified) + joined(parts)


_KNOWN: dict[str, Callable[[ClientInfo], Iterator[Tlv]]] = {
    "authority": _authority,
    "alpn": _alpn,
    "ssl": _ssl,
}
"""
What is known of a client, by the words of the setting.
"""


_GREETED: dict[tuple[type[Serving], bool], type[Serving]] = {}


def greeted(kind: type[Serving], early: bool) -> type[Serving]:
    """
    Return a class of sessions that are served as a class says, and begin with a header.

    @param early: Whether the header is for the connector to send, before TLS.
    """
    key = kind, early
    if key not in _GREETED:
        name = f"Greeting{kind.__name__}"
        if early:
            _GREETED[key] = type(name, (EarlyGreetingServing, kind), {})
        else:
            members = {"_relayBehind": kind._connected}
            _GREETED[key] = type(name, (GreetingServing, kind), members)
    return _GREETED[key]


class EarlyGreetingServing(Serving):
    """
    A session with a destination that speaks TLS, and gets a header before that.
    """

    def start(self) -> None:
        """
        Begin to connect.
        """
        make = self._worker.greeting
        assert make is not None
        self.greeting = make(self._session)
        super().start()


class GreetingServing(Serving):
    """
    A session that begins with a header. The session is connected only when the header
    is sent: a destination that closes before has taken no byte of the client, so
    another one can serve it.
    """

    # What the class does that is served without a header.
    _relayBehind: ClassVar[Callable[[Any, Connected], None]]

    def _connected(self, destination: Connected) -> None:
        worker = self._worker
        make = worker.greeting
        try:
            if make is not None:
                _send(worker.connector, destination, make(self._session))
        except OSError as error:
            drop(destination)
            self._connectFailed(Failure(errorOf(error.errno or EPIPE)))
            return
        except Exception:
            # A transport from another library may raise.
            self._connect = None
            drop(destination)
            self.fail()
            return
        self._relayBehind(destination)


def _send(
    connector: DestinationConnector, destination: Connected, header: bytes
) -> None:
    """
    Send a header.

    @raise OSError: It was not sent, or not all of it.
    """
    sockets = connector.sockets
    if not isinstance(destination, Side):
        assert sockets is not None
        sockets.sendFirst(destination, header)
    elif sockets is not None and plain(destination):
        # Nothing must wait in the transport, for the fast relay to take it.
        sockets.sendFirst(destination.socket, header)
    else:
        destination.write(header)
