"""
The options of the command line, made from the tables of settings, and the help about
them.
"""

from __future__ import annotations

import textwrap
from dataclasses import fields

from iawlb.processsettings import ProcessSettings
from iawlb.setting import optionName
from iawlb.settings import Settings

_DESCRIPTION = """\
Connections wait in one queue; each destination's worker takes the next one when
it has a free slot, connects, and relays bytes until both sides are done.

  twistd -n iawlb 8080 9001 9002
  twistd -n iawlb --listen tcp:8080 --dest tcp:localhost:9001 \\
      --dest 'unix:/run/app.sock name=app slots=4'
  twistd -n iawlb 8080 --demo 3

An ADDRESS is a port, host:port, [v6]:port, /path of a Unix socket, or any
endpoint string of Twisted's with its options. Settings follow it: name=, and
for a destination also slots= and weight=.
"""

_OWN_OPTIONS = (
    ("config=FILE", "read pools and settings from a file, see docs/configuration.md"),
    ("listen=ADDRESS", "where to accept connections; may be given several times"),
    ("dest=ADDRESS", "where to forward them; may be given several times"),
    ("demo=N", "add N slow HTTP servers that answer with their name, to try it"),
    ("check", "check everything, open nothing; exit status 0 or 1"),
    ("version", "print the version"),
    ("help", "print this"),
)

OPTIONS = [*fields(Settings), *fields(ProcessSettings)]
"""
The settings that are options.
"""

OPTION_NAMES = {each.name: optionName(each) for each in OPTIONS}
"""
The options of the settings, by their names in Python.
"""

FLAGS = [optionName(each) for each in OPTIONS if not each.metadata["unit"]]
"""
The options that take no value.
"""

_WIDTH = 79
_COLUMN = 26


def _entry(option: str, text: str) -> str:
    """
    Return the lines of one option in the help.
    """
    lines = textwrap.wrap(text, _WIDTH - _COLUMN, break_on_hyphens=False)
    head = f"  --{option}"
    if len(head) >= _COLUMN:
        return head + "".join(f"\n{' ' * _COLUMN}{line}" for line in lines)
    return head.ljust(_COLUMN) + f"\n{' ' * _COLUMN}".join(lines)


def helpText() -> str:
    """
    Return the help: 80 columns, grouped, each option with its default.
    """
    parts = ["", _DESCRIPTION]
    parts.extend(_entry(*each) for each in _OWN_OPTIONS)
    group = ""
    for each in OPTIONS:
        if each.metadata["group"] != group:
            group = each.metadata["group"]
            parts.append(f"\n{group}:")
        text = f"{each.metadata['text']} (default {each.metadata['shown']})"
        unit = each.metadata["unit"]
        value = f"={unit}" if unit else ""
        parts.append(_entry(f"{optionName(each)}{value}", text))
    return "\n".join(parts) + "\n"
