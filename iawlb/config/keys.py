"""
Which settings stand in which section of the file, and by what keys. All is made from
the tables of settings.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import Field, fields
from typing import Any, TypeAlias

from iawlb.processsettings import ProcessSettings
from iawlb.setting import nearest, optionName
from iawlb.settings import DestinationSettings, ListenerSettings, Settings

Keys: TypeAlias = Mapping[str, "Field[Any]"]

MANY = 8
"""
The largest number of keys that a message lists.
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
    key: each for key, each in _keys(DestinationSettings).items() if key != "name"
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

_OTHER_NAMES = {
    # The names in other programs and on our command line, and ours.
    "algorithm": "policy",
    "backend": "destinations",
    "backends": "destinations",
    "balance": "policy",
    "bind": "listen",
    "dest": "destinations",
    "destination": "destinations",
    "frontend": "listen",
    "host": "address",
    "listener": "listen",
    "listeners": "listen",
    "maxconn": "slots",
    "port": "listen",
    "server": "destinations",
    "servers": "destinations",
    "target": "destinations",
    "targets": "destinations",
    "timeout-client": "idle-timeout",
    "timeout-connect": "connect-timeout",
    "timeout-queue": "queue-timeout",
    "timeout-server": "idle-timeout",
    "upstream": "destinations",
    "upstreams": "destinations",
    "url": "address",
}

_ELSEWHERE: dict[str, list[str]] = {}
"""
The sections in which each key may stand.
"""
for _where, _known in (
    ("[global]", GLOBAL),
    ("[defaults]", POOL),
    ("[pools.NAME]", (*POOL, "listen", "destinations")),
    *((f"[{section}]", known) for section, known in PROCESS.items()),
):
    for _key in _known:
        _ELSEWHERE.setdefault(_key, []).append(_where)


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


def explainKey(key: str, known: Iterable[str]) -> str:
    """
    Return what to write for a key that does not exist in a section.

    @param known: The keys that do.
    """
    known = list(known)
    if key in _ELSEWHERE:
        return f"is not set here: write it in {_either(_ELSEWHERE[key])}"
    meant = _OTHER_NAMES.get(key) or nearest(key, [*known, *_ELSEWHERE])
    if meant in known:
        return f"there is no such key: write {meant}"
    if meant in _ELSEWHERE:
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
    if {"listen", "destinations", *_OTHER_NAMES} & {*value}:
        return f"there is no such section: write [pools.{key}]"
    near = nearest(key, SECTIONS)
    right = f"write [{near}]" if near else f"there is {', '.join(SECTIONS)}"
    return f"there is no such section: {right}"


def _either(places: list[str]) -> str:
    """
    Return a list of sections as a choice, in words.
    """
    first = ", ".join(places[:-1])
    return f"{first} or {places[-1]}" if first else places[-1]
