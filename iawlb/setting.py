"""
How a setting is declared, named, split from an address, and checked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import Field, field, fields
from difflib import get_close_matches
from typing import Any

from iawlb.errors import InvalidSetting
from iawlb.validators import Validator


def setting(
    default: Any,
    read: Validator,
    unit: str,
    group: str,
    text: str,
    *,
    scope: str = "pool",
    live: bool = True,
    key: str = "",
    remote: bool = True,
    inherits: bool = True,
) -> Any:
    """
    Declare a setting.

    @param default: The default, as a user would write it.
    @param read: The validator, which also turns text into the value.
    @param unit: The name of the value in the help, such as C{TIME}; empty for an option
        without a value, which stands for C{yes}.
    @param group: The heading of the setting in the help.
    @param text: The meaning, without the default.
    @param scope: C{pool} if each pool may have its own value, C{global} if the whole
        balancer has one, C{python} if only a program in Python can give it, as the
        value is a function.
    @param live: Whether the value can be changed while the balancer runs.
    @param key: The setting's name in a configuration file, if that is another than on
        the command line.
    @param remote: Whether a request to the admin server may set it. Who may send
        requests is not to run programs, nor to read files, by that.
    @param inherits: Whether a destination or listener without its own value has that of
        the pool's setting of the same name, if there is one.
    """
    return field(
        default=read(default),
        metadata={
            "shown": str(default),
            "read": read,
            "unit": unit,
            "group": group,
            "text": text,
            "scope": scope,
            "live": live,
            "key": key,
            "remote": remote,
            "inherits": inherits,
        },
    )


class Validated:
    """
    A base for dataclasses that reads each field with its validator.
    """

    __slots__ = ()

    def __post_init__(self) -> None:
        for each in fields(self):  # type: ignore[arg-type]  # children are dataclasses
            try:
                value = each.metadata["read"](getattr(self, each.name))
            except InvalidSetting as error:
                raise InvalidSetting(f"{each.name}: {error}") from None
            object.__setattr__(self, each.name, value)


MANY = 5
"""
The largest number of settings that a message lists.
"""


SHOWN = 40
"""
The number of characters of a name that a message shows.
"""


def optionName(of: Field[Any]) -> str:
    """
    Return a setting's name on the command line, such as C{connect-timeout} for
    C{connectTimeout}.
    """
    return asOption(of.name)


def asOption(name: str) -> str:
    """
    Return the name on the command line of a setting by its name in Python.
    """
    return re.sub("[A-Z]", lambda match: "-" + match[0].lower(), name)


def byOption(error: InvalidSetting) -> str:
    """
    Return a message that begins with a setting's name in Python, such as C{tlsMin:},
    with the name on the command line and in the file: C{tls-min:}.
    """
    name, colon, why = str(error).partition(":")
    # Names have letters alone; anything else in front of a colon is not one.
    return f"{asOption(name) if name.isalpha() else name}{colon}{why}"


def _inPython(option: str) -> str:
    """
    Return the name in Python of a setting that is written as on the command line.
    """
    return re.sub("-([a-z])", lambda match: match[1].upper(), option)


def splitSettings(text: str) -> tuple[str, dict[str, str]]:
    """
    Split an address from the settings behind it, as in C{tcp:localhost:9001 name=a
    slots=4}.

    @return: The address, and the settings as they were written, by their names in
        Python: C{send-proxy=v2} is C{sendProxy}.
    @raise InvalidSetting: A setting is given twice, or not as C{slots=4}.
    """
    given: dict[str, str] = {}
    # Only the settings are cut off, from the end: a path may hold spaces.
    address = text.strip()
    while len(words := address.rsplit(maxsplit=1)) == 2 and re.match(
        r"[A-Za-z][\w-]*=", words[1]
    ):
        address = words[0]
        key, _, value = words[1].partition("=")
        if _inPython(key) in given:
            raise InvalidSetting(f"{key} is given twice")
        match = re.search(r"[,;]([\w-]+=.*)", value)
        if match is not None:
            raise InvalidSetting(
                f"{words[1]!r} holds two settings: write a space before {match[1]!r}"
            )
        given[_inPython(key)] = value
    match = re.search(
        r"\s(slots|weight|(?:name|mode|group|v6only)(?=\s*[:=]))[\s:=]+(\w+)$", address
    )
    if match is not None:
        raise InvalidSetting(
            f"{match[0].strip()!r} is not a setting: write {match[1]}={match[2]}"
        )
    return address, given


LIKE = 0.6
"""
How like a known word a wrong word is, from 0 to 1, for a message to name that one.
"""

SURE = 0.78
"""
The same for words of a long list, of which one is like any word by chance.
"""

LONG = 7
"""
The number of words beyond which a list is long.
"""


def nearest(word: str, known: Iterable[str], like: float | None = None) -> str | None:
    """
    Return the known word that a wrong word is most like, such as C{connectTimeout} for
    C{connect_timout}, or L{None} if there is none.

    @param like: How like it has to be, from 0 to 1; by default that of the list.
    """

    def plain(each: str) -> str:
        return re.sub(r"[\W_]", "", each).lower()

    words = {plain(each): each for each in known}
    if like is None:
        like = SURE if len(words) > LONG else LIKE
    found = get_close_matches(plain(word), words, 1, like)
    return words[found[0]] if found else None


def checkNames(
    given: Iterable[str], kind: type[Any], of: str, behind: bool = False
) -> None:
    """
    Refuse settings that do not exist.

    @param given: The names of settings, in Python.
    @param kind: The dataclass that declares the settings.
    @param of: The object that has these settings, for people.
    @param behind: Whether the settings were written behind an address, where they are
        spelt as on the command line.
    @raise InvalidSetting: A setting is not declared; the message says which was meant,
        or lists the declared ones.
    """
    spelt = asOption if behind else str
    known = [spelt(each.name) for each in fields(kind)]
    for key in map(spelt, given):
        if key not in known:
            meant = nearest(key, known)
            if meant is not None:
                right = f": write {meant}"
            elif len(known) <= MANY:
                right = f", which has {', '.join(known)}"
            else:
                right = "; docs/reference.md lists them"
            raise InvalidSetting(f"{key[:SHOWN]!r} is not a setting of {of}{right}")
