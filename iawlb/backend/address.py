"""
Turn the address that a user has typed into an endpoint.

A short form is turned into the endpoint string it stands for; every other string goes
to Twisted's own parser, except that of a TLS listener. C{9001}, C{:9001}, C{host:9001},
C{[::1]:9001} and C{/run/app.sock} are the short forms.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    clientFromString,
    serverFromString,
)
from twisted.internet.interfaces import IStreamClientEndpoint, IStreamServerEndpoint

from iawlb.backend.binding import GroupEndpoint, SixEndpoint
from iawlb.backend.checks import checkHost, checkPath, checkPort
from iawlb.backend.held import (
    isStored,
    storedEndpoint,
    unitEndpoint,
    whereTcp,
    whereUnix,
)
from iawlb.backend.hints import hint, quoted
from iawlb.backend.names import NameEndpoint
from iawlb.backend.places import Place, reaches
from iawlb.backend.shortforms import destinationWords, listenWords
from iawlb.backend.socketconnector import PlainEndpoint, Target, targetOf
from iawlb.backend.strings import BACKLOG_PLACES, Words, parsed, split
from iawlb.backend.tlslistener import Certificates, certificatesOf, checkOwn, serverOf
from iawlb.errors import InvalidSetting
from iawlb.settings import ListenerSettings

_PLAIN = ListenerSettings()


@dataclass(frozen=True, slots=True)
class Listen:
    """
    An address to listen on.

    @ivar text: The endpoint string.
    @ivar path: The path of a Unix socket that has to be removed first when it is stale,
        or L{None}.
    @ivar certificates: What clients are shown, if the listener is to end TLS.
    @ivar proxied: Whether all clients begin with a header of the PROXY protocol.
    """

    text: str
    endpoint: IStreamServerEndpoint
    path: str | None
    certificates: Certificates | None
    proxied: bool


def parseListen(
    reactor: Any, text: str, backlog: int, settings: ListenerSettings = _PLAIN
) -> Listen:
    """
    Read the address of a listener.

    @param backlog: The length of the kernel's backlog, if the address does not give
        one.
    @param settings: The settings of the listener.
    @raise InvalidSetting: The address cannot be listened on; the message says why, or
        what to write.
    """
    try:
        return _readListen(reactor, text, backlog, settings)
    except InvalidSetting as error:
        raise _explained(error, text, True) from error.__cause__


def _explained(error: InvalidSetting, text: str, listening: bool) -> InvalidSetting:
    """
    Return the error with a hint of what to write instead, where that can be guessed.
    """
    better = hint(text, listening)
    return error if better is None else InvalidSetting(f"{quoted(text)} {better}")


def _readListen(
    reactor: Any, text: str, backlog: int, settings: ListenerSettings
) -> Listen:
    words = listenWords(text)
    # Settings behind "haproxy:" are those of the endpoint in it.
    proxied = words.kind == "haproxy"
    if proxied:
        if not words.args:
            raise InvalidSetting(f"{quoted(text)}: write haproxy:tcp:8080, say")
        words = words.within()
    path = None
    if words.kind in ("tcp", "tcp6", "ssl"):
        checkPort(text, words.get("port", 0), 0)
    elif words.kind == "tls":
        checkPort(text, words.get("port", 1) or "443", 0)
    place = BACKLOG_PLACES.get(words.kind)
    if place is not None and words.get("backlog", place) is None:
        words.named["backlog"] = str(backlog)
    if words.kind == "unix":
        given = words.get("address", 0)
        if not given:
            raise InvalidSetting(
                f"{quoted(text)} has no path, such as unix:/run/app.sock"
            )
        checkPath(text, given)
        if words.get("lockfile", 3) is None:
            # Twisted's lock file names a process; in a container that number is the
            # same after each restart. So ask the socket instead.
            words.named["lockfile"] = "0"
            path = None if isStored(whereUnix(given)) else given
    elif settings.mode is not None or settings.group is not None:
        raise InvalidSetting(f"{quoted(text)}: mode and group are for Unix sockets")
    endpoint = _bound(reactor, text, words, settings)
    if words.kind in ("ssl", "tls"):
        checkOwn(words, settings)
        certificates, endpoint = endpoint.certificates, endpoint.plain
    else:
        certificates = certificatesOf(reactor, text, settings)
    if proxied:
        words = Words("haproxy", (words.kind, *words.args), words.named)
    return Listen(words.joined(), endpoint, path, certificates, proxied)


def _bound(reactor: Any, text: str, words: Words, settings: ListenerSettings) -> Any:
    """
    Make the endpoint of a listener, with the settings that its socket needs before it
    listens.
    """
    if settings.mode is not None:
        words.named["mode"] = f"{settings.mode:o}"
    server = partial(_server, settings=settings)
    if settings.group is not None:
        mode = words.get("mode", 1) or "666"
        words.named["mode"] = "0"
        closed = parsed(server, reactor, text, words)
        words.named["mode"] = mode
        path = words.get("address", 0) or ""
        return GroupEndpoint(closed, path, int(mode, 8), settings.group)
    endpoint = parsed(server, reactor, text, words)
    if settings.v6only:
        host = ""
        if words.kind in _INTERFACE_PLACES:
            host = _interface(words)
        if not isIPv6Address(host):
            raise InvalidSetting(
                f"{quoted(text)}: v6only is for IPv6 listeners, such as [::]:8080"
            )
        port = int(words.get("port", int(words.kind == "tls")) or "443")
        backlog = int(words.get("backlog", BACKLOG_PLACES[words.kind]) or 0)
        made = SixEndpoint(reactor, host, port, backlog)
        where = whereTcp(host, str(port), True)
        six = storedEndpoint(reactor, where, words, made)
        if words.kind not in ("ssl", "tls"):
            return six
        endpoint.plain = six
    return endpoint


def _interface(words: Words) -> str:
    """
    Return the host that a listener's endpoint string names.
    """
    everywhere = "" if words.kind in ("tcp", "ssl") else "::"
    return words.get("interface", _INTERFACE_PLACES[words.kind]) or everywhere


def _server(reactor: Any, description: str, settings: ListenerSettings) -> Any:
    """
    Make the endpoint of a listener; for TLS, what the string says.
    """
    words = split(description)
    if words.kind in ("ssl", "tls"):
        made = serverOf(reactor, words, settings)
        made.plain = _stored(reactor, words, made.plain)
        return made
    if words.kind == "systemd":
        return unitEndpoint(reactor, words)
    return _stored(reactor, words, serverFromString(reactor, description))


def _stored(
    reactor: Any, words: Words, plain: IStreamServerEndpoint
) -> IStreamServerEndpoint:
    """
    Return an endpoint that listens with what an earlier process left, if it did.
    """
    where = None
    if words.kind == "unix":
        where = whereUnix(words.get("address", 0) or "")
    elif words.kind in _INTERFACE_PLACES:
        port = words.get("port", int(words.kind == "tls")) or "443"
        where = whereTcp(_interface(words), port, False)
    return storedEndpoint(reactor, where, words, plain)


def parseDestination(
    reactor: Any, text: str, timeout: float
) -> tuple[str, IStreamClientEndpoint]:
    """
    Read the address of a destination.

    @param timeout: The longest time that a connect may take, in seconds.
    @return: The endpoint string, and the endpoint.
    @raise InvalidSetting: The address cannot be connected to; the message says why, or
        what to write.
    """
    try:
        return _readDestination(reactor, text, timeout)
    except InvalidSetting as error:
        raise _explained(error, text, False) from error.__cause__


def _readDestination(
    reactor: Any, text: str, timeout: float
) -> tuple[str, IStreamClientEndpoint]:
    words = destinationWords(text)
    host, port = "", 0
    if words.kind in ("tcp", "tls", "ssl"):
        host = words.get("host", 0) or ""
        if not host:
            raise InvalidSetting(
                f"{quoted(text)} has no host, such as tcp:localhost:9001"
            )
        port = checkPort(text, words.get("port", 0 if "host" in words.named else 1))
        checkHost(text, host)
    if words.kind == "unix":
        given = words.get("path", 0)
        if not given:
            raise InvalidSetting(
                f"{quoted(text)} has no path, such as unix:/run/app.sock"
            )
        checkPath(text, given)
    endpoint = parsed(clientFromString, reactor, text, words)
    if words.kind == "tcp":
        endpoint = _tcp(reactor, text, host, port, words, timeout)
    elif words.kind == "unix" and words.args == (words.get("path", 0),):
        target = Target(socket.AF_UNIX, words.args[0])
        endpoint = PlainEndpoint(endpoint, target)
    return words.joined(), endpoint


def placeOf(text: str, listening: bool, v6only: bool = False) -> Place | None:
    """
    Return the place that an address names, as far as the address says.

    @param text: An address, or any other text.
    @param v6only: Whether it is a listener that takes no IPv4 clients.
    @return: The place, or L{None} if the text names none.
    """
    try:
        words = listenWords(text) if listening else destinationWords(text)
    except InvalidSetting:
        return None
    if listening and words.kind == "haproxy" and words.args:
        words = words.within()
    if words.kind == "unix":
        path = words.get("address" if listening else "path", 0)
        return Place("", 0, path) if path else None
    if not listening and words.kind in ("tcp", "tls", "ssl"):
        host, port = words.get("host", 0), words.get("port", "host" not in words.named)
    elif listening and words.kind in ("tcp", "tcp6", "ssl", "tls"):
        host = _interface(words)
        port = words.get("port", int(words.kind == "tls")) or "443"
    else:
        return None
    if not port or not port.isdecimal():
        return None
    return Place(host or "", int(port), v6only=v6only)


def sameDestination(one: str, other: str) -> bool:
    """
    Return whether two addresses are the same destination's, in whichever form each is
    written.
    """
    return one == other or _canonical(one) == _canonical(other)


@lru_cache(maxsize=8192)
def _canonical(text: str) -> str:
    """
    Return the endpoint string of a destination's address; the text itself, if it is no
    address.
    """
    try:
        return destinationWords(text).joined()
    except InvalidSetting:
        return text


def checkCircle(destination: str, listener: str, v6only: bool = False) -> None:
    """
    Check that a destination does not lead to a listener of the same balancer: each
    client would be forwarded for ever.

    @param v6only: Whether the listener takes no IPv4 clients.
    @raise InvalidSetting: The destination leads to the listener.
    """
    there = placeOf(destination, listening=False)
    here = placeOf(listener, listening=True, v6only=v6only)
    if there is not None and here is not None and reaches(there, here):
        raise InvalidSetting(
            f"{quoted(destination)} leads back to the listener {quoted(listener)}: "
            "give the address of a server"
        )


def _tcp(
    reactor: Any, text: str, host: str, port: int, words: Words, timeout: float
) -> IStreamClientEndpoint:
    """
    Make the endpoint of a TCP destination: a literal address needs no resolver, a name
    is looked up ahead.
    """
    local = words.named.get("bindAddress")
    if local is not None and not (isIPAddress(local) or isIPv6Address(local)):
        raise InvalidSetting(
            f"{quoted(text)}: bindAddress {quoted(local)} is not an IP address"
        )
    bind = None if local is None else (local, 0)
    own = words.named.get("timeout")
    if own is not None:
        timeout = min(timeout, float(own))
    if timeout <= 0:
        raise InvalidSetting(f"{quoted(text)}: the timeout must be more than 0")
    # All plain sockets have the same time-out.
    plain = own is None
    if isIPv6Address(host):
        six = TCP6ClientEndpoint(reactor, host, port, timeout, bind)
        try:
            target = targetOf(IPv6Address("TCP", host, port), port, bind)
        except OSError as error:
            scope = host.partition("%")[2]
            raise InvalidSetting(
                f"{quoted(text)}: this machine has no network interface {quoted(scope)}"
            ) from error
        return PlainEndpoint(six, target) if plain else six
    if isIPAddress(host):
        four = TCP4ClientEndpoint(reactor, host, port, timeout, bind)
        target = targetOf(IPv4Address("TCP", host, port), port, bind)
        return PlainEndpoint(four, target) if plain else four
    return NameEndpoint(reactor, host, port, timeout, bind, plain)


_INTERFACE_PLACES = {"tcp": 1, "tcp6": 2, "ssl": 4, "tls": 3}
"""
The position of the interface among the arguments of each kind of server endpoint.
"""
