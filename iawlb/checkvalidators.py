"""
Validators for what checks ask of a destination, and what these values stand for.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from iawlb.errors import InvalidSetting
from iawlb.listvalidators import itemsOf
from iawlb.validators import shaped

WAYS = (
    "tcp",
    "tls",
    "http",
    "https",
    "send",
    "postgresql",
    "redis",
    "agent",
    "command",
)
"""
What a check can be, besides C{off}.
"""

LONGEST = 4096
"""
The most characters of one of these values.
"""

_ESCAPES = {"r": "\r", "n": "\n", "t": "\t", "\\": "\\", "s": " "}

PATTERN = "re:"
"""
What stands before a regular expression.
"""


class Way(NamedTuple):
    """
    What a check is.

    @ivar word: One of L{WAYS}.
    @ivar host: The name that is asked for, with C{http}; empty if none is given.
    @ivar detail: The path that is asked for, or the name of the user.
    """

    word: str
    host: str = ""
    detail: str = ""


def wayOf(text: str) -> Way | None:
    """
    Read the text of a check, such as C{tcp}, C{http:/health}, C{http://web/health} or
    C{postgresql:name}.

    @return: L{None} for C{off}.
    @raise InvalidSetting: The text is none of these.
    """
    word, colon, detail = text.partition(":")
    if text == "off":
        return None
    if word in ("http", "https"):
        match = re.fullmatch(r"(?://([^/\s]{1,255}))?(/(?!/)[!-~]*)?", detail)
        if match is not None and (detail or not colon):
            return Way(word, match[1] or "", match[2] or "/")
        raise InvalidSetting(
            f"{text!r} is not a check: write {word}:/path or {word}://name/path"
        )
    if word == "postgresql":
        if re.fullmatch(r"[^\s:]{1,63}", detail or "iawlb") and (detail or not colon):
            return Way(word, detail=detail or "iawlb")
        raise InvalidSetting(f"{text!r} is not a check: write {word}:USER")
    if word not in WAYS or colon:
        raise InvalidSetting(
            f"{text!r} is not a check: write off, tcp, tls, http:/path, https:/path, "
            "send, postgresql, redis, agent or command"
        )
    return Way(word)


@shaped({"type": "string", "maxLength": LONGEST})
def check(value: object) -> Any:
    """
    Read how a destination is checked: text, or a function.

    @raise InvalidSetting: The value is neither, or the text is no check.
    """
    if callable(value):
        return value
    text = _text(value, "a check")
    wayOf(text)
    return text


@shaped(
    {"type": "integer", "minimum": 1, "maximum": 65535},
    {"type": "string", "maxLength": 300},
)
def place(value: object) -> str:
    """
    Read a port, or an address: C{9001}, C{host:9001}, C{[::1]:9001} or the path of a
    Unix socket. Empty text is none.

    @raise InvalidSetting: The value is none of these.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    text = _text(value, "an address")
    match = re.fullmatch(
        r"(?:(?:[\w.-]{1,255}|\[[\da-fA-F:.]{2,45}\]):)?(\d{1,5})", text, re.ASCII
    )
    if match is not None and 0 < int(match[1]) < 65536:
        return text
    if not text or re.fullmatch(r"/[!-~]{1,107}", text):
        return text
    raise InvalidSetting(
        f"{text!r} is not a port or an address: write 9001, host:9001 or /run/app.sock"
    )


_WORD = re.compile(r"[1-5](?:xx|\d\d)")


@shaped(
    {"type": "array", "items": {"type": "string"}, "maxItems": 100},
    {"type": "string", "maxLength": LONGEST},
)
def statuses(value: object) -> tuple[str, ...]:
    """
    Read statuses of HTTP: C{200}, or C{2xx} for all from 200 to 299; several in a list,
    or with commas.

    @raise InvalidSetting: The value is none of these.
    """
    one = isinstance(value, int) and not isinstance(value, bool)
    words = [value] if one else itemsOf(value)
    if words is not None and 0 < len(words) <= 100:
        found = tuple(str(each).strip() for each in words)
        for each in found:
            if not _WORD.fullmatch(each):
                # The list may be long, and one item of it is wrong.
                raise InvalidSetting(
                    f"{each[:60]!r} is not a status, such as 200 or 2xx"
                )
        return found
    raise InvalidSetting(f"{value!r} are not statuses: write 200, or 2xx,3xx")


def covers(known: tuple[str, ...], status: int) -> bool:
    """
    Return whether a status is one of those of L{statuses}.
    """
    return str(status) in known or f"{status // 100}xx" in known


@shaped({"type": "string", "pattern": "^[A-Z]{1,20}$"})
def method(value: object) -> str:
    """
    Read a method of HTTP.

    @raise InvalidSetting: The value is no word of capital letters.
    """
    if isinstance(value, str) and re.fullmatch(r"[A-Z]{1,20}", value, re.ASCII):
        return value
    raise InvalidSetting(f"{value!r} is not a method: write GET, HEAD or OPTIONS, say")


@shaped({"type": "string", "maxLength": LONGEST})
def escaped(value: object) -> str:
    r"""
    Read text that stands for bytes: C{\r}, C{\n}, C{\t}, C{\s} (a space), C{\\} and
    C{\xff} stand for what they do elsewhere, and other characters for their UTF-8. In
    Python it may be bytes.

    @raise InvalidSetting: The text holds another escape.
    """
    if isinstance(value, bytes):
        value = "".join(
            chr(each) if 32 < each < 127 and each != 92 else f"\\x{each:02x}"
            for each in value
        )
    text = _text(value, "text")
    unescaped(text)
    return text


def unescaped(text: str) -> bytes:
    """
    Return the bytes that a text with escapes stands for.

    @raise InvalidSetting: The text holds an unknown escape.
    """
    found = bytearray()
    rest = text
    while rest:
        before, slash, rest = rest.partition("\\")
        found += before.encode()
        if not slash:
            break
        match = re.match(r"x([0-9a-fA-F]{2})", rest)
        if match is not None:
            found.append(int(match[1], 16))
            rest = rest[3:]
        elif rest[:1] in _ESCAPES and rest:
            found += _ESCAPES[rest[0]].encode()
            rest = rest[1:]
        else:
            raise InvalidSetting(
                rf"'\{rest[:1]}' in {text!r} is no escape: write \r, \n, \t, \s, \\ or "
                r"\xff"
            )
    return bytes(found)


@shaped({"type": "string", "maxLength": LONGEST})
def expected(value: object) -> Any:
    r"""
    Read what an answer has to hold: text as in L{escaped}, or a regular expression
    behind C{re:}. In Python it may be bytes, or a compiled expression of bytes.

    @raise InvalidSetting: The value is none of these.
    """
    if isinstance(value, re.Pattern):
        pattern = value.pattern
        if not isinstance(pattern, bytes):
            raise InvalidSetting(f"{pattern!r} must be a pattern of bytes: rb'...'")
        value = PATTERN + pattern.decode("latin-1")
    if isinstance(value, str) and value.startswith(PATTERN):
        text = _text(value, "a pattern")
        patternOf(text)
        return text
    return escaped(value)


def patternOf(text: str) -> re.Pattern[bytes]:
    """
    Return the expression that finds in an answer what L{expected} asks for.

    @raise InvalidSetting: It is wrong.
    """
    if not text.startswith(PATTERN):
        return re.compile(re.escape(unescaped(text)))
    wanted = text.removeprefix(PATTERN)
    try:
        return re.compile(wanted.encode())
    except re.error as error:
        raise InvalidSetting(
            f"{wanted!r} is not a regular expression: {error}"
        ) from None


def _text(value: object, what: str) -> str:
    if not isinstance(value, str) or len(value) > LONGEST:
        raise InvalidSetting(f"{value!r:.60} is not {what}")
    if "\0" in value or "\n" in value or "\r" in value:
        raise InvalidSetting(f"{value!r:.60} is not {what} of one line")
    return value
