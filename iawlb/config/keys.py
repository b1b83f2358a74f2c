"""
Which settings stand in which section of the file, and by what keys. All is made from
the tables of settings.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import Field, fields
from typing import Any, TypeAlias

from iawlb.config.wording import pathOf
from iawlb.processsettings import ProcessSettings
from iawlb.setting import nearest, optionName
from iawlb.settings import DestinationSettings, ListenerSettings, Settings

Keys: TypeAlias = Mapping[str, "Field[Any]"]

MANY = 8
"""
The largest number of keys that a message lists.
"""

ELSEWHERE = 0.85
"""
How like a key of another section a wrong key is, from 0 to 1, for a message to name
that one.
"""


def fileKey(of: Field[Any]) -> str:
    """
    Return a setting's key in the file: its name on the command line, unless the table
    gives it another.
    """
    key: str = of.metadata.get("key") or optionName(of)
    return key


def _keys(kind: type[Any], scope: str | None = None) -> dict[str, Field[Any]]:
    return {
        fileKey(each): each
        for each in fields(kind)
        if scope is None or each.metadata["scope"] == scope
    }


GLOBAL: Keys = _keys(Settings, "global")
POOL: Keys = _keys(Settings, "pool")
LISTENER: Keys = _keys(ListenerSettings)
DESTINATION: Keys = {
    key: each
    for key, each in _keys(DestinationSettings).items()
    if key != "name" and each.metadata["scope"] != "python"
}
PROCESS: dict[str, dict[str, Field[Any]]] = {}
"""
The keys of the sections for the process.
"""
for _each in fields(ProcessSettings):
    PROCESS.setdefault(_each.metadata["section"], {})[fileKey(_each)] = _each

SECTIONS = ("global", "defaults", "pools", *PROCESS)
"""
The sections of the file.
"""

ALL: dict[str, Field[Any]] = {
    each.name: each for kind in (Settings, ProcessSettings) for each in fields(kind)
}
"""
All settings that an option or a variable of the environment can set, by their names in
Python.
"""

_OTHER_NAMES: dict[str, tuple[str, ...]] = {
    # The names in other programs and on our command line, in letters only, and ours:
    # the first that there is in the section.
    each: ours
    for names, ours in (
        ("algorithm balance lbpolicy", ("policy",)),
        (
            "backend backends dest destination dial proxypass",
            ("destinations", "address"),
        ),
        (
            "server servers target targets upstream upstreams",
            ("destinations", "address"),
        ),
        ("host url", ("address", "destinations")),
        ("bind frontend listener listeners port", ("listen", "address")),
        ("address socket", ("listen",)),
        ("maxconn maxconns poolslots", ("slots", "max-connections")),
        ("timeoutclient timeoutserver timeouttunnel proxytimeout", ("idle-timeout",)),
        ("timeoutclientfin timeoutserverfin", ("half-closed-timeout",)),
        ("timeoutconnect dialtimeout", ("connect-timeout",)),
        ("timeoutqueue", ("queue-timeout",)),
        ("maxqueue queue", ("queue-size",)),
        ("tcpka tcpkeepalive", ("keepalive-idle",)),
        ("accesslog file filepath output", ("to",)),
        ("loglevel", ("level",)),
        ("dontlognull", ("null",)),
        ("timeout", ()),  # each of ours is one of several
    )
    for each in names.split()
}

_OTHER_SECTIONS = {
    "accesslog": "log",
    "api": "admin",
    "prometheus": "metrics",
    "stats": "admin",
}

_POOLS = {
    *("backend", "backends", "frontend", "frontends", "listen", "pool"),
    *("server", "servers", "upstream", "upstreams"),
}
"""
What sections that are pools are called in other programs.
"""

_ELSEWHERE: dict[str, list[str]] = {}
"""
The sections in which each key may stand.
"""
for _where, _known in (
    ("[global]", GLOBAL),
    ("[defaults]", POOL),
    ("[pools.NAME]", (*POOL, "listen", "destinations")),
    *((f"[{section}]", known) for section, known in PROCESS.items()),
    ("the table of a listener", [key for key in LISTENER if key != "name"]),
    ("the table of a destination", DESTINATION),
):
    for _key in _known:
        _ELSEWHERE.setdefault(_key, []).append(_where)


def remote(keys: Keys) -> Keys:
    """
    Return those of some settings that a request to the admin server may set.
    """
    return {key: of for key, of in keys.items() if of.metadata["remote"]}


def processPath(option: str) -> str:
    """
    Return where a setting of the process, or of the whole balancer, stands in the file,
    such as C{admin.listen} for C{admin}.

    @param option: The setting's name on the command line, or in Python.
    """
    (path,) = (
        f"{section}.{key}"
        for section, keys in {"global": GLOBAL, **PROCESS}.items()
        for key, of in keys.items()
        if option in (optionName(of), of.name)
    )
    return path


def meantBy(key: str, known: Iterable[str]) -> str | None:
    """
    Return the key of ours that is meant by one that does not exist, or L{None}.

    @param known: The keys of the section.
    """
    known = list(known)
    ours = _OTHER_NAMES.get(_letters(key))
    if ours is not None:
        return next((each for each in (*known, *_ELSEWHERE) if each in ours), None)
    # That of another section is named only if it is meant for sure.
    return nearest(key, known) or nearest(key, _ELSEWHERE, ELSEWHERE)


def explainKey(key: str, known: Iterable[str]) -> str:
    """
    Return what to write for a key that does not exist in a section.

    @param known: The keys that do.
    """
    known = list(known)
    if key in _ELSEWHERE:
        return f"is not set here: write it in {_either(_ELSEWHERE[key])}"
    if key in SECTIONS:
        return f"is not set here: it is a section, [{key}]"
    meant = meantBy(key, known)
    if meant in known:
        return f"there is no such key: write {meant}"
    if meant is not None:
        where = _either(_ELSEWHERE[meant])
        return f"there is no such key: write {meant}, in {where}"
    if len(known) <= MANY:
        return f"there is no such key; there is {', '.join(known)}"
    return "there is no such key; docs/configuration.md lists them"


def explainSection(key: str, value: object) -> str:
    """
    Return what to write for a key at the top of the file that is no section.
    """
    if not isinstance(value, dict):
        return explainKey(key, SECTIONS)
    if _letters(key) in _POOLS:
        inner = [name for name, each in value.items() if isinstance(each, dict)]
        pool = pathOf(("pools", inner[0] if inner else "NAME"))
        return f"there is no such section: write [{pool}]"
    if {"listen", "destinations"} & {*value} or _OTHER_NAMES.keys() & {*value}:
        return f"there is no such section: write [pools.{key}]"
    near = _OTHER_SECTIONS.get(_letters(key)) or nearest(key, SECTIONS)
    right = f"write [{near}]" if near else f"there is {', '.join(SECTIONS)}"
    return f"there is no such section: {right}"


def _letters(key: str) -> str:
    return re.sub(r"[\W_]", "", key).lower()


def _either(places: list[str]) -> str:
    """
    Return a list of sections as a choice, in words.
    """
    first = ", ".join(places[:-1])
    return f"{first} or {places[-1]}" if first else places[-1]
