"""
Twisted's endpoint strings: split into words, joined, and parsed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from twisted.internet.endpoints import quoteStringArgument
from twisted.python.filepath import UnlistableError

from iawlb.backend.hints import quoted
from iawlb.errors import InvalidSetting

FORMS = "a port, host:port, [v6]:port, /path or a Twisted endpoint string"
"""
The forms of an address, for people.
"""

BACKLOG_PLACES = {"tcp": 2, "tcp6": 1, "unix": 2, "ssl": 5, "tls": 2}
"""
The position of the backlog among the arguments of each kind of server endpoint.
"""

_LONGEST_REASON = 90


@dataclass(frozen=True, slots=True)
class Words:
    """
    An endpoint string in its parts: C{kind:arg:arg:key=value}.
    """

    kind: str
    args: tuple[str, ...]
    named: dict[str, str]

    def joined(self) -> str:
        """
        Join the parts into an endpoint string.
        """

        def quote(value: str) -> str:
            quoted: str = quoteStringArgument(value)
            return quoted.replace("=", "\\=")

        named = [f"{quote(key)}={quote(value)}" for key, value in self.named.items()]
        return ":".join([*map(quote, (self.kind, *self.args)), *named])

    def within(self) -> Words:
        """
        Return the endpoint string within this one, whose kind is this one's first
        argument.
        """
        return Words(self.args[0].lower(), self.args[1:], self.named)

    def get(self, name: str, place: int) -> str | None:
        """
        Return an argument, by its name or its position.
        """
        if name in self.named:
            return self.named[name]
        return self.args[place] if place < len(self.args) else None


def split(text: str) -> Words:
    """
    Split an endpoint string into its parts, as C{twisted.internet.endpoints} does: a
    backslash escapes the next character.
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
        raise InvalidSetting(f"{quoted(text)} is no address: write {FORMS}")
    # Twisted accepts a kind in any case.
    return Words(args[0].lower(), tuple(args[1:]), named)


def parsed(parse: Any, reactor: Any, text: str, words: Words) -> Any:
    """
    Parse an endpoint string, by Twisted or a plugin.

    @raise InvalidSetting: The parser raised, whatever it raised: Twisted's parsers and
        those of plugins raise at least ValueError, TypeError, KeyError, OSError,
        NameError and OpenSSL's own errors.
    """
    try:
        return parse(reactor, words.joined())
    except InvalidSetting as error:
        raise InvalidSetting(f"{quoted(text)}: {error}") from error
    except Exception as error:
        raise InvalidSetting(f"{quoted(text)}: {_reason(error, words.kind)}") from error


def _reason(error: Exception, kind: str) -> str:
    """
    Return in a few words why an endpoint string could not be parsed.

    @param kind: The kind of endpoint.
    """
    if isinstance(error, UnlistableError):
        error = error.originalException
    said = str(error) or type(error).__name__
    said = re.sub(r"^[\w.]+\(\) ", "", said)  # a function of Twisted's
    if len(said) > _LONGEST_REASON:
        said = said[:_LONGEST_REASON] + "..."
    match = re.fullmatch(r"invalid literal for int\(\) with base (\d+): (.*)", said)
    if match is not None:
        return f"{match[2]} is not a number{', such as 660' * (match[1] == '8')}"
    if "Unknown endpoint type" in said:
        return f"{said}; write {FORMS}"
    if isinstance(error, NameError | ImportError):
        if kind in ("ssl", "tls"):
            return "TLS is not installed: pip install 'iawlb[tls]'"
        return f"a module is not installed ({said})"
    if isinstance(error, OSError) and error.filename is not None:
        return f"cannot read {quoted(error.filename)}: {error.strerror}"
    if isinstance(error, TypeError):
        return f"an argument is missing or unknown ({said})"
    # OpenSSL's errors are lists of tuples.
    if said.startswith("["):
        return f"not a usable certificate or key ({said})"
    return said
