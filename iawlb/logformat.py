"""
The formats and the places that an access log can have: their names, and the fields that
a template may name.
"""

from __future__ import annotations

import re
from string import Formatter

from iawlb.errors import InvalidSetting
from iawlb.setting import nearest
from iawlb.validators import shaped

FORMATS = ("text", "tcplog", "halog", "json")
"""
The formats that have a name.
"""

LONGEST_TEMPLATE = 2000
"""
The largest number of characters of a template.
"""

FIELDS = {
    "time": (
        "WORD",
        "when the client was accepted, ISO 8601 in UTC, with milliseconds",
    ),
    "event": ("WORD", "what the line is about: end, connect or interval"),
    "id": ("INTEGER", "the session's number, from 1 since the start"),
    "pool": ("WORD", "the pool's name"),
    "listener": ("WORD", "the name of the listener that accepted the client"),
    "client": ("WORD", "the client's address"),
    "destination": ("WORD", "the destination that served it, or that was tried last"),
    "code": ("WORD", "how it ended, as two letters; unset while it runs"),
    "text": ("WORD", "how it ended, in words; unset while it runs"),
    "waited": ("SECONDS", "from the accept until the last pull from the queue"),
    "connect": ("SECONDS", "the last connect; unset if none succeeded"),
    "total": ("SECONDS", "from the accept until the end, or until now"),
    "bytesIn": ("INTEGER", "bytes passed from the client to the destination"),
    "bytesOut": ("INTEGER", "bytes passed from the destination to the client"),
    "tries": ("INTEGER", "how many times a destination has pulled it"),
    "ahead": ("INTEGER", "how many waited before it when it entered the queue"),
    "sessions": ("INTEGER", "sessions of the whole process at that moment"),
    "poolSessions": ("INTEGER", "sessions of the pool"),
    "destinationSessions": ("INTEGER", "sessions that the destination served"),
    "sni": ("WORD", "the name of the server that the client asked for over TLS"),
    "alpn": ("WORD", "the application protocol that was agreed upon over TLS"),
    "tls": ("WORD", "the version and the cipher of TLS that the balancer ended"),
    "tlsClient": ("WORD", "the common name in the client's certificate"),
    "proxy": (
        "WORD",
        "the address of the proxy, if a PROXY header has named the client",
    ),
    "tlvs": ("WORD", "what else that header said, as name=value with spaces between"),
    "uniqueId": (
        "WORD",
        "the connection's unique id, received or sent in a PROXY header",
    ),
}
"""
The fields of a line: what each holds, and its meaning. C{json} has all of them, in this
order.
"""

_SAMPLES: dict[str, str | int | float] = {"WORD": "x", "INTEGER": 1, "SECONDS": 1.5}
_RIGHT = {
    "WORD": ">20 for instance, as for text",
    "INTEGER": ">8 for instance, as for a whole number",
    "SECONDS": ".3f for instance, as for a number",
}


def parseTemplate(template: str) -> list[tuple[str, str | None, str]]:
    """
    Read a template, such as C{{client} {total:.3f}}.

    @return: The parts: a text, and the name and format of the field behind it, or
        L{None} if the text is the last part.
    @raise InvalidSetting: The template is wrong.
    """
    if len(template) > LONGEST_TEMPLATE:
        raise InvalidSetting(
            f"the template is longer than {LONGEST_TEMPLATE} characters"
        )
    if not template.replace("\t", "").isprintable():
        raise InvalidSetting(
            f"{template[:40]!r} holds a line break or what cannot be printed: a line "
            "has one session"
        )
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise InvalidSetting(
            f"{template!r} is not a template: {error}; write {{{{ for a brace"
        ) from None
    for _, name, spec, conversion in parts:
        if name is not None:
            _checkField(name, spec or "", conversion)
    return [(text, name, spec or "") for text, name, spec, _ in parts]


def _checkField(name: str, spec: str, conversion: str | None) -> None:
    """
    Check a field of a template.

    @raise InvalidSetting: There is no such field, or it cannot be written so.
    """
    if name not in FIELDS:
        meant = nearest(name, FIELDS) if name else None
        right = f"write {{{meant}}}" if meant else f"there are {', '.join(FIELDS)}"
        raise InvalidSetting(f"{{{name[:40]}}} is not a field of a log line: {right}")
    if conversion is not None:
        raise InvalidSetting(f"{{{name}!{conversion}}} is not known: write {{{name}}}")
    kind = FIELDS[name][0]
    # A width of millions would fill the memory.
    known = re.search(r"[{}]|\d{4}", spec) is None
    try:
        format(_SAMPLES[kind], spec if known else "invalid")
    except ValueError:
        raise InvalidSetting(
            f"{{{name}:{spec[:40]}}}: {spec[:40]!r} is not a format of {name}: write "
            f"{_RIGHT[kind]}"
        ) from None


@shaped({"enum": list(FORMATS)}, {"type": "string", "pattern": "[{]"})
def logFormat(value: object) -> str:
    """
    Read a format: the name of one, or a template.

    @raise InvalidSetting: It is neither.
    """
    if isinstance(value, str) and "{" in value:
        parseTemplate(value)
        return value
    return _oneOf(
        value, FORMATS, "or a template such as '{client} {destination} {total:.3f}'"
    )


@shaped(
    {"enum": ["-", "stdout", "syslog"]},
    {"type": "string", "pattern": "^(/|syslog:/|udp:)"},
)
def logTarget(value: object) -> str:
    """
    Read a place to write to: C{-} for where the other log lines go, C{stdout}, a path,
    C{syslog}, C{syslog:/path} or C{udp:host:port}.

    @raise InvalidSetting: It is none of these.
    """
    if isinstance(value, str) and value.isprintable():
        if value.startswith("/") or re.fullmatch("syslog:/.+", value):
            return value
        match = re.fullmatch(r"udp:(?:\[([^\[\]\s]+)\]|([^:\s]+)):(\d{1,5})", value)
        if match is not None and 0 < int(match[3]) < 65536:
            return value
        if value.startswith("udp:"):
            raise InvalidSetting(f"{value!r} is not a place: write udp:host:514")
        if value.startswith("syslog:"):
            raise InvalidSetting(f"{value!r} is not a place: write syslog:/dev/log")
        if "/" in value or "." in value:
            raise InvalidSetting(f"{value!r} is not a place: write the path from / on")
    return _oneOf(
        value, ("-", "stdout", "syslog"), "/path, syslog:/path or udp:host:514"
    )


def _oneOf(value: object, words: tuple[str, ...], others: str) -> str:
    if isinstance(value, str) and value in words:
        return value
    meant = nearest(value, words) if isinstance(value, str) else None
    right = f": write {meant}" if meant else ""
    raise InvalidSetting(f"{value!r} is not one of {', '.join(words)}, {others}{right}")
