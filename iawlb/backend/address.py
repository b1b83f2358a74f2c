"""
What a user types -> an endpoint.

A short form is turned into the endpoint string it stands for; every other
string goes to Twisted's own parser. C{9001}, C{:9001}, C{host:9001},
C{[::1]:9001} and C{/run/app.sock} are the short forms.
"""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass
from typing import Any

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    clientFromString,
    quoteStringArgument,
    serverFromString,
)
from twisted.internet.interfaces import IStreamClientEndpoint, IStreamServerEndpoint

from iawlb.backend.names import NameEndpoint
from iawlb.backend.socketconnector import PlainEndpoint, Target, targetOf
from iawlb.errors import InvalidSetting

LONGEST = 4096
"""
Longest address, in characters.
"""

_FORMS = "a port, host:port, [v6]:port, /path or a Twisted endpoint string"


@dataclass(frozen=True, slots=True)
class Listen:
    """
    An address to listen on.

    @ivar text: The endpoint string.
    @ivar path: The path of a Unix socket that we have to clear away when it is
        stale, or L{None}.
    """

    text: str
    endpoint: IStreamServerEndpoint
    path: str | None


@dataclass(frozen=True, slots=True)
class _Words:
    """
    An endpoint string in its parts: C{kind:arg:arg:key=value}.
    """

    kind: str
    args: tuple[str, ...]
    named: dict[str, str]

    def joined(self) -> str:
        """
        Write it as an endpoint string.
        """

        def quote(value: str) -> str:
            quoted: str = quoteStringArgument(value)
            return quoted.replace("=", "\\=")

        named = [f"{quote(key)}={quote(value)}" for key, value in self.named.items()]
        return ":".join([*map(quote, (self.kind, *self.args)), *named])

    def get(self, name: str, place: int) -> str | None:
        """
        Look an argument up, by its name or its place.
        """
        if name in self.named:
            return self.named[name]
        return self.args[place] if place < len(self.args) else None


def parseListen(reactor: Any, text: str, backlog: int) -> Listen:
    """
    Read the address of a listener.

    @param backlog: What the kernel is to hold before it is accepted, if the
        address does not say so.
    @raise InvalidSetting: It cannot be listened on; the message says why.
    """
    words = _listenWords(text)
    path = None
    if words.kind in ("tcp", "tcp6", "ssl"):
        _port(text, words.get("port", 0))
    elif words.kind == "tls":
        _port(text, words.get("port", 1) or "443")
        _certificates(text, words.get("path", 0))
    place = _BACKLOG_PLACES.get(words.kind)
    if place is not None and words.get("backlog", place) is None:
        words.named["backlog"] = str(backlog)
    if words.kind == "unix":
        given = words.get("address", 0)
        if not given:
            raise InvalidSetting(f"{text!r} has no path, such as unix:/run/app.sock")
        if words.get("lockfile", 3) is None:
            # Twisted's lock file names a process; in a container that number is
            # the same after each restart. We ask the socket instead.
            words.named["lockfile"] = "0"
            path = given
    endpoint = _parsed(serverFromString, reactor, text, words)
    if words.kind == "ssl":
        _leaveProtocolOpen(endpoint)
    return Listen(words.joined(), endpoint, path)


def _leaveProtocolOpen(endpoint: Any) -> None:
    """
    Let TLS clients in that offer protocols (ALPN), and choose none for them, as
    we do not know what is spoken behind us. Twisted 26.10 answers with an empty
    name instead, at which OpenSSL 4 ends the handshake.
    """
    from OpenSSL.SSL import NO_OVERLAPPING_PROTOCOLS

    # There is no other way to the context of an endpoint made of a string.
    context = endpoint._sslContextFactory.getContext()
    context.set_alpn_select_callback(lambda *_: NO_OVERLAPPING_PROTOCOLS)


def parseDestination(
    reactor: Any, text: str, timeout: float
) -> tuple[str, IStreamClientEndpoint]:
    """
    Read the address of a destination.

    @param timeout: Longest connect, in seconds.
    @return: The endpoint string, and the endpoint.
    @raise InvalidSetting: It cannot be connected to; the message says why.
    """
    words = _destinationWords(text)
    host, port = "", 0
    if words.kind in ("tcp", "tls", "ssl"):
        host = words.get("host", 0) or ""
        if not host:
            raise InvalidSetting(f"{text!r} has no host, such as tcp:localhost:9001")
        port = _port(text, words.get("port", 0 if "host" in words.named else 1))
        _host(text, host)
    if words.kind == "unix" and not words.get("path", 0):
        raise InvalidSetting(f"{text!r} has no path, such as unix:/run/app.sock")
    endpoint = _parsed(clientFromString, reactor, text, words)
    if words.kind == "tcp":
        endpoint = _tcp(reactor, text, host, port, words, timeout)
    elif words.kind == "unix" and words.args == (words.get("path", 0),):
        target = Target(socket.AF_UNIX, words.args[0])
        endpoint = PlainEndpoint(endpoint, target)
    return words.joined(), endpoint


def _tcp(
    reactor: Any, text: str, host: str, port: int, words: _Words, timeout: float
) -> IStreamClientEndpoint:
    """
    Make the endpoint of a TCP destination: a literal address needs no resolver,
    a name is looked up ahead.
    """
    local = words.named.get("bindAddress")
    if local is not None and not (isIPAddress(local) or isIPv6Address(local)):
        raise InvalidSetting(f"{text!r}: bindAddress {local!r} is not an IP address")
    bind = None if local is None else (local, 0)
    own = words.named.get("timeout")
    if own is not None:
        timeout = min(timeout, float(own))
    if timeout <= 0:
        raise InvalidSetting(f"{text!r}: the timeout must be more than 0")
    # Plain sockets have one time-out for all.
    plain = own is None
    if isIPv6Address(host):
        six = TCP6ClientEndpoint(reactor, host, port, timeout, bind)
        target = targetOf(IPv6Address("TCP", host, port), port, bind)
        return PlainEndpoint(six, target) if plain else six
    if isIPAddress(host):
        four = TCP4ClientEndpoint(reactor, host, port, timeout, bind)
        target = targetOf(IPv4Address("TCP", host, port), port, bind)
        return PlainEndpoint(four, target) if plain else four
    return NameEndpoint(reactor, host, port, timeout, bind, plain)


def _listenWords(text: str) -> _Words:
    """
    Read any form of a listener's address.
    """
    short = _short(text)
    if short is None:
        return _split(text)
    host, port = short
    if port is None:
        return _Words("unix", (host,), {})
    if host == "*" or not host:
        return _Words("tcp", (port,), {})
    return _Words("tcp", (port,), {"interface": host})


def _destinationWords(text: str) -> _Words:
    """
    Read any form of a destination's address.
    """
    short = _short(text)
    if short is None:
        return _split(text)
    host, port = short
    if port is None:
        return _Words("unix", (host,), {})
    return _Words("tcp", (host or "localhost", port), {})


def _short(text: str) -> tuple[str, str | None] | None:
    """
    Read a short form.

    @return: Host and port; or a path and L{None}; or L{None} if it is not one.
    """
    if not text.strip():
        raise InvalidSetting(f"{text!r} is empty: write {_FORMS}")
    if len(text) > LONGEST:
        raise InvalidSetting(f"{text[:40]!r}... is longer than {LONGEST} characters")
    if not text.isprintable():
        raise InvalidSetting(f"{text!r} holds what cannot be printed")
    if text.startswith("/"):
        return text, None
    if text.startswith("["):
        match = re.fullmatch(r"\[([^\]]*)\]:(.*)", text)
        if match is None or not isIPv6Address(match[1]):
            raise InvalidSetting(f"{text!r} is not like [::1]:9001")
        _port(text, match[2])
        return match[1], match[2]
    if isIPv6Address(text):
        raise InvalidSetting(f"{text!r} has no port: write [{text}]:9001")
    host, colon, port = text.rpartition(":")
    if ":" in host or "=" in text or "\\" in text:
        return None  # an endpoint string
    if not colon:
        if not re.fullmatch(r"[+-]?\d+", port, re.ASCII):
            raise InvalidSetting(f"{text!r} is no address: write {_FORMS}")
    elif host.lower() in _KINDS:
        return None
    _port(text, port)
    if host and host != "*":
        _host(text, host)
    return host, port


_KINDS = frozenset(("tcp", "tcp6", "unix", "ssl", "tls", "systemd", "stdio", "haproxy"))
"""
Kinds of endpoint that could be taken for a host, as in C{tcp:8080}.
"""


_BACKLOG_PLACES = {"tcp": 2, "tcp6": 1, "unix": 2, "ssl": 5, "tls": 2}
"""
Where the backlog of each kind of server endpoint stands if it has no name.
"""


def _certificates(text: str, folder: str | None) -> None:
    """
    Check the folder of a C{tls:} listener; Twisted reads it at the first
    handshake only.

    @raise InvalidSetting: There are no certificates in it.
    """
    try:
        names = os.listdir(folder or "")
    except OSError as error:
        why = f"cannot read {folder!r}: {error.strerror}"
        raise InvalidSetting(f"{text!r}: {why}") from None
    if not any(name.endswith(".pem") for name in names):
        raise InvalidSetting(f"{text!r}: there is no .pem file in {folder!r}")


def _host(text: str, host: str) -> None:
    """
    Check a host.

    @raise InvalidSetting: It is neither an IP address nor like a name.
    """
    if isIPv6Address(host):
        return
    numbers = re.fullmatch(r"[\d.]+", host) is not None
    if numbers and not isIPAddress(host):
        raise InvalidSetting(f"{text!r}: {host!r} is not an IPv4 address")
    try:
        # As the resolver will, in a thread that nobody would hear of it from.
        host.encode("idna")
        named = re.fullmatch(r"[\w.-]{1,253}", host) is not None
    except UnicodeError:
        named = False
    if not named:
        raise InvalidSetting(f"{text!r}: {host!r} is not the name or address of a host")


def _port(text: str, port: str | None) -> int:
    """
    Check a port.

    @raise InvalidSetting: It is missing, or not a number from 1 to 65535.
    """
    if not port:
        raise InvalidSetting(f"{text!r} has no port")
    if not re.fullmatch(r"\d{1,5}", port, re.ASCII) or not 1 <= int(port) <= 65535:
        raise InvalidSetting(
            f"{text!r}: {port!r} is not a port, a number from 1 to 65535"
        )
    return int(port)


def _split(text: str) -> _Words:
    """
    Part an endpoint string, as C{twisted.internet.endpoints} does: a backslash
    takes the next character as it is.
    """
    parts = [[""]]
    escaped = False
    for character in text:
        part = parts[-1]
        if not escaped and character == "\\":
            escaped = True
            continue
        if not escaped and character == ":":
            parts.append([""])
        elif not escaped and character == "=" and len(part) == 1:
            part.append("")
        else:
            part[-1] += character
        escaped = False
    args = [part[0] for part in parts if len(part) == 1]
    named = {part[0]: part[1] for part in parts if len(part) == 2}
    if not args or len(parts[0]) == 2:
        raise InvalidSetting(f"{text!r} is no address: write {_FORMS}")
    # Twisted takes a kind in any case.
    return _Words(args[0].lower(), tuple(args[1:]), named)


def _parsed(parse: Any, reactor: Any, text: str, words: _Words) -> Any:
    """
    Have Twisted or a plugin parse an endpoint string.

    @raise InvalidSetting: It raised, whatever it raised: Twisted's parsers and
        those of plugins raise at least ValueError, TypeError, KeyError, OSError,
        NameError and OpenSSL's own errors.
    """
    try:
        return parse(reactor, words.joined())
    except Exception as error:
        raise InvalidSetting(f"{text!r}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """
    Say in a few words why an endpoint string could not be parsed.
    """
    said = str(error) or type(error).__name__
    if "Unknown endpoint type" in said:
        return f"{said}; write {_FORMS}"
    if isinstance(error, NameError | ImportError):
        return f"TLS needs the extra: pip install 'iawlb[tls]' ({said})"
    if isinstance(error, OSError) and error.filename is not None:
        return f"cannot read {error.filename!r}: {error.strerror}"
    if isinstance(error, TypeError):
        return f"an argument is missing or unknown ({said})"
    if isinstance(error, LookupError):
        return f"not found ({said})"
    # OpenSSL's errors are lists of tuples.
    if said.startswith("["):
        return f"not a usable certificate or key ({said})"
    return said
