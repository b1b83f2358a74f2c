"""
Hints: what to write in place of an option that does not exist.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from dataclasses import fields
from getopt import GetoptError

from twisted.python import usage

from iawlb.setting import SHOWN, nearest
from iawlb.settings import DestinationSettings

_OTHER_NAMES = {
    # The names in other programs, and ours.
    "algorithm": "policy",
    "backend": "dest",
    "balance": "policy",
    "bind": "listen",
    "destination": "dest",
    "forward": "dest",
    "host": "listen",
    "maxconn": "max-connections",
    "port": "listen",
    "server": "dest",
    "target": "dest",
    "to": "dest",
    "upstream": "dest",
}


MANY = 5
"""
The largest number of options that a message lists.
"""


def explain(error: GetoptError, options: usage.Options) -> str:
    """
    Return what is wrong with an option, and what to write.

    @param options: The options that were reading the command line.
    """
    known = {each.rstrip("=") for each in options.longOpt}
    name = error.opt.partition("=")[0]
    if name in known:
        # The option has a value that it does not take, or its value is
        # missing.
        if f"{name}=" in options.longOpt:
            return f"--{name} needs a value: write --{name}={_unit(name)}"
        return f"--{name} takes no value: write --{name}"
    long = f"--{name}" in error.msg
    written = f"{'--' if long else '-'}{name}"
    shown = repr(written[:SHOWN])
    if name.isdecimal():
        return f"{shown} is not a port, a number from 1 to 65535"
    parent = options.parent
    theirs = {each.rstrip("=") for each in getattr(parent, "longOpt", ())}
    if name in (theirs if long else getattr(parent, "shortOpt", "")):
        program = os.path.basename(sys.argv[0])
        return (
            f"{shown} is an option of {program} itself: write it before iawlb, as "
            f"in {program} {written} ... iawlb ..."
        )
    if name in (each.name for each in fields(DestinationSettings)):
        value = "a" if name == "name" else "2"
        return (
            f"there is no option {shown}: write it behind an address, as in "
            f"--dest 'localhost:9001 {name}={value}'"
        )
    several = sorted(each for each in known if name in re.split("-", each))
    if not several and "not a unique prefix" in error.msg:
        several = sorted(each for each in known if each.startswith(name))
    if len(several) > 1:
        return f"there is no option {shown}: write {_either(several)}"
    meant = _OTHER_NAMES.get(name) or nearest(name, sorted(known))
    if meant is None:
        return f"there is no option {shown}: --help lists those that there are"
    return f"there is no option {shown}: write --{meant}"


def refuseOtherNames(words: Iterable[str], known: Iterable[str]) -> None:
    """
    Refuse the names that options have in other programs, where they would pass for the
    beginning of one of ours: C{--server} is not C{--server-names}.

    @param known: Our options.
    @raise GetoptError: A word is such a name.
    """
    options = {each.rstrip("=") for each in known}
    for word in words:
        name = word.removeprefix("--").partition("=")[0]
        if word == "--":
            return
        if word.startswith("--") and name in _OTHER_NAMES and name not in options:
            raise GetoptError(f"option --{name} not recognized", name)


def explainWord(word: str, options: usage.Options) -> str | None:
    """
    Return what to write for an option that was typed without its dashes, as in
    C{listen=8080}, or L{None}.
    """
    name, equals, _ = word.partition("=")
    own = {each.name for each in fields(DestinationSettings)}
    if equals and f"{name}=" in options.longOpt and name not in own:
        return f"{word[:SHOWN]!r} is an option without dashes: write --{name}=..."
    return None


def _unit(name: str) -> str:
    return "ADDRESS" if name in ("listen", "dest") else "VALUE"


def _either(names: list[str]) -> str:
    """
    Return a list of options as a choice, in words.
    """
    written = [f"--{each}" for each in names]
    if len(written) > MANY:
        return f"{', '.join(written[:MANY])} or one of the others that --help lists"
    return f"{', '.join(written[:-1])} or {written[-1]}"
