"""
Tests that the documentation of the command says what the command takes.
"""

from __future__ import annotations

import re
import shlex

import click
import pytest

from iawlb.command.main import COMMANDS, iawlb
from tests.test_docs import DOCS, PAGES, blocks


def _lines() -> list[str]:
    """
    List the uses of the command that are shown on all pages.
    """
    found = []
    for page in PAGES:
        shells = "\n".join(blocks(page, "sh"))
        for block in blocks(page, "console"):
            typed = re.findall(r"^\$ (.*)$", block, re.MULTILINE)
            shells = "\n".join([shells, *typed])
        for line in shells.replace("\\\n", " ").splitlines():
            for part in re.split(r"&&|[|;]", line):
                if re.match(r"\s*iawlb [a-z]", part):
                    found.append(part.strip().partition(" > ")[0])
    return found


@pytest.mark.parametrize("line", sorted(set(_lines())))
def test_isTaken(line: str) -> None:
    """
    Every use of the command that is shown is one that it takes.
    """
    words = [each for each in shlex.split(line, comments=True)[1:] if each != "&"]
    context = click.Context(iawlb)
    command = iawlb.get_command(context, words[0])
    assert command is not None, line
    command.make_context(words[0], words[1:], parent=context)


def test_allAreDescribed() -> None:
    """
    Each command is described.
    """
    page = (DOCS / "command.md").read_text()
    for name in COMMANDS:
        assert f"iawlb {name}" in page or f"`{name} " in page, name
