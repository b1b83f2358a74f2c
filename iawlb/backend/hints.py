"""
Hints: what to write in place of an address that cannot be read.
"""

from __future__ import annotations

import re

from twisted.internet.abstract import isIPv6Address

SHOWN = 60
"""
The number of characters of the user's text that a message shows.
"""

KINDS = frozenset(
    ("tcp", "tcp4", "tcp6", "udp", "unix", "ssl", "tls", "systemd", "stdio", "haproxy")
)
"""
Words in front of a colon that are a kind of endpoint and not a host, as in C{tcp:8080}.
"""

_LONGEST = 300
_PORTS = {"http": "80", "ws": "80", "https": "443", "wss": "443"}
_TLS = frozenset(("https", "wss", "tls", "ssl"))
# A port, or host:port in any short form.
_PLACE = r"(?:(?:\[[^\[\]]*\]|[\w.*-]*):)?\d{1,5}"


def quoted(text: str | None) -> str:
    """
    Quote the user's text, shortened, so that the message stays one short line.
    """
    if text is None or len(text) <= SHOWN:
        return repr(text)
    return f"{text[:SHOWN]!r}..."


def hint(text: str, listening: bool) -> str | None:
    """
    Return a hint how to write an address that could not be read.

    @param listening: Whether the address is a listener's, not a destination's.
    @return: The rest of a sentence that begins with the quoted address; or L{None} when
        there is no better message than what is wrong with the address.
    """
    if len(text) > _LONGEST or not text.isprintable():
        return None
    port = "8080" if listening else "9001"
    for guess in (_url, _several, _spaced, _endpoint, _withoutBrackets, _incomplete):
        found = guess(text, port, listening)
        if found is not None:
            return found
    return None


def _isPlace(text: str) -> bool:
    """
    Return whether a text is a port, or host:port in a short form.
    """
    return (
        re.fullmatch(_PLACE, text, re.ASCII) is not None
        and 1 <= int(text.rpartition(":")[2]) <= 65535
    )


def _url(text: str, port: str, listening: bool) -> str | None:
    """
    Return a hint for C{http://host:port/path}.
    """
    match = re.fullmatch(r"([A-Za-z][\w+.-]*)://(?:[^/@]*@)?([^/?#]+).*", text)
    if match is None:
        return None
    scheme, place = match[1].lower(), match[2]
    if not re.search(r":\d+$", place):
        place = f"{place}:{_PORTS.get(scheme, port)}"
    if not _isPlace(place):
        return "is a URL: write host:port"
    if scheme not in _TLS:
        return f"is a URL: write {quoted(place)}"
    tls = f"tls:{place}"
    if listening:
        number = place.rpartition(":")[2]
        tls = f"ssl:{number}:privateKey=key.pem:certKey=cert.pem"
    return f"is a URL: write {quoted(place)} to pass TLS on, or {tls!r}"


def _several(text: str, port: str, listening: bool) -> str | None:
    """
    Return a hint for C{a:1,b:2}, C{9001 9002}, C{9001-9003} and C{8080:9001}.
    """
    parts = re.split(r"\s*[,;\s]\s*", text)
    if len(parts) > 1 and all(_isPlace(re.sub("^tcp:", "", each)) for each in parts):
        first, second = map(quoted, parts[:2])
        return f"is several addresses: give each by itself, {first} and {second}"
    if re.fullmatch(r"(?:[\w.-]+:)?\d+-\d+", text, re.ASCII):
        return "is a range: give each port by itself"
    match = re.fullmatch(r"(\d{2,5}):(\d{2,5})", text, re.ASCII)
    if match is not None:
        return (
            f"is two ports: give the port to listen on, {match[1]}, and the "
            f"destination, {match[2]}, each by itself"
        )
    return None


def _spaced(text: str, port: str, listening: bool) -> str | None:
    """
    Return a hint for C{localhost: 9001}, C{localhost 9001} and C{localhost:9001 four}.
    """
    if " " not in text:
        return None
    for together in (re.sub(" *: *", ":", text.strip()), text.replace(" ", ":")):
        if _isPlace(together):
            return f"holds a space: write {quoted(together)}"
    address, _, rest = text.partition(" ")
    if _isPlace(re.sub("^tcp:", "", address)):
        known = "name=a" if listening else "name=a, slots=4 or weight=2"
        return f"is wrong from {quoted(rest)} on: write settings as {known}"
    return None


def _endpoint(text: str, port: str, listening: bool) -> str | None:
    """
    Return a hint for C{tcp:127.0.0.1:8080} of a listener, for C{tcp:9001} and
    C{tcp6:host:9001} of a destination, and for C{tcp:[::1]:9001} and
    C{localhost:9001:slots=4} of both.
    """
    match = re.fullmatch(r"(.+):((?:name|slots|weight)=[^:]*)", text)
    if match is not None and _isPlace(re.sub("^tcp:", "", match[1])):
        return f"has a setting behind a colon: write {quoted(' '.join(match.groups()))}"
    kind, _, place = text.partition(":")
    kind = kind.lower()
    if kind == "udp":
        return "is UDP, and only TCP and Unix sockets are forwarded"
    if kind in ("haproxy", "systemd") and not listening:
        return f"is no destination: {kind}: is for listeners"
    if not _isPlace(place):
        return None
    wrong = {"tcp4"}
    if listening:
        wrong |= set() if place.isdigit() else {"tcp", "tcp6"}
    else:
        wrong |= {"tcp6", "tcp"} if place.isdigit() or "[" in place else {"tcp6"}
    if kind not in wrong:
        return None
    return f"is not how endpoint strings are written: write {quoted(place)}"


def _withoutBrackets(text: str, port: str, listening: bool) -> str | None:
    """
    Return a hint for C{::1:9001}, which as a whole is an IPv6 address.
    """
    plain = re.sub("^tcp6?:(?=.*:.*:)", "", text, flags=re.I)
    host, _, last = plain.rpartition(":")
    host = "::" if host == ":" else host
    if re.fullmatch(r"\d{2,5}", last, re.ASCII) and isIPv6Address(host):
        return f"has an IPv6 address without brackets: write '[{host}]:{last}'"
    if isIPv6Address(plain):
        return f"has no port: write '[{plain}]:{port}'"
    return None


def _incomplete(text: str, port: str, listening: bool) -> str | None:
    """
    Return a hint for C{9001/}, C{localhost}, C{[::1]}, C{run/app.sock} and C{slots=4}.
    """
    place, slash, _ = text.partition("/")
    if slash and _isPlace(place):
        return f"has a path, but only bytes are passed: write {quoted(place)}"
    if re.fullmatch(r"\w+=[^:]*", text):
        return "is a setting: write it with its address, as 'localhost:9001 slots=4'"
    if text.startswith("/"):
        return None
    if ":" not in text and (slash or text.endswith(".sock")):
        return (
            "is not a whole path: write /run/app.sock, or unix:app.sock for one in "
            "this folder"
        )
    match = re.fullmatch(r"\[([^\[\]]*)\](:\d+)?", text)
    if match is not None and not isIPv6Address(match[1]):
        right = match[1] + (match[2] or f":{port}")
        return f"has brackets, which are for IPv6: write {quoted(right)}"
    name = text.rstrip(":;,")
    if name.lower() in KINDS:
        return None
    if (
        (match is not None and match[2] is None)
        or re.fullmatch(r"[\d.]+\.\d+", name)
        or (re.fullmatch(r"[\w.][\w.-]*", name) and re.search(r"[^\W\d_]", name))
    ):
        return f"has no port: write {quoted(f'{name}:{port}')}"
    if name != text and _isPlace(name):
        return f"ends with {text[len(name) :]!r}: write {quoted(name)}"
    return None
