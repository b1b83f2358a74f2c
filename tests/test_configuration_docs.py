"""
Tests that docs/configuration.md and docs/iawlb.toml say what the reader does.
"""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from iawlb.config.document import LONGEST
from iawlb.config.keys import (
    DESTINATION,
    GLOBAL,
    LISTENER,
    POOL,
    PROCESS,
    SECTIONS,
    Keys,
)
from iawlb.config.read import readConfiguration
from iawlb.config.section import MOST
from iawlb.process.options import checkFile
from iawlb.setting import optionName
from tests.test_docs import DOCS, FENCE, blocks, table
from tests.test_schema import SCHEMA

EXAMPLE = DOCS / "iawlb.toml"
PAGE = DOCS / "configuration.md"


def options(keys: Keys) -> list[list[str]]:
    """
    List keys with their options, as the page does.
    """
    return [[key, f"--{optionName(of)}"] for key, of in keys.items()]


class ConfigurationPageTests(SynchronousTestCase):
    """
    The page and the example.
    """

    def check(self, text: str) -> list[str]:
        """
        Check a file as on the page: it is called iawlb.toml.
        """
        folder = Path(self.mktemp())
        folder.mkdir()
        here = os.getcwd()
        self.addCleanup(os.chdir, here)
        os.chdir(folder)
        Path("iawlb.toml").write_text(text)
        with mock.patch.dict(os.environ, clear=True):
            found = checkFile("iawlb.toml")
        os.chdir(here)
        return found

    def test_example(self) -> None:
        """
        The example is a configuration without a mistake, for an editor too, and uses
        every section.
        """
        self.assertEqual(self.check(EXAMPLE.read_text()), [])
        document = tomllib.loads(EXAMPLE.read_text())
        SCHEMA.validate(document)
        self.assertEqual(sorted(document), sorted(SECTIONS))
        read = readConfiguration(str(EXAMPLE), {}, {})
        self.assertEqual(list(read.pools), ["web", "sites", "api", "wiki", "db"])
        self.assertEqual(read.pools["db"].settings.idleTimeout, 0)

    def test_files(self) -> None:
        """
        Each file on the page is right, but the one that shows mistakes, which are those
        that a check finds.
        """
        shown = blocks(PAGE, "text")
        wrong = 0
        for text in blocks(PAGE, "toml"):
            mistakes = self.check(text)
            if mistakes:
                wrong += 1
                output = "\n".join(mistakes)
                self.assertTrue(any(output in each for each in shown), output)
            else:
                SCHEMA.validate(tomllib.loads(text))
        self.assertEqual(wrong, 1)

    def test_syntax(self) -> None:
        """
        The line about a file that is no TOML is the one that a check prints.
        """
        (line,) = self.check("[pools.web]\nlisten = tcp:8080\n")
        self.assertIn(line, PAGE.read_text())

    def test_keys(self) -> None:
        """
        The page lists all keys, with their options.
        """
        text = PAGE.read_text()
        rows = [
            [cell.strip().replace("`", "") for cell in line.strip("|").split("|")]
            for line in FENCE.sub("", text).splitlines()
            if line.startswith("|")
        ]
        for keys in (GLOBAL, POOL):
            for row in options(keys):
                self.assertIn(row, rows)
        for section, keys in PROCESS.items():
            for key, option in options(keys):
                self.assertIn([f"[{section}]", key, option], rows)
        pairs = [row for row in rows if len(row) == 2 and re.match("--[a-z]", row[1])]
        self.assertEqual(len(pairs), len(GLOBAL) + len(POOL))
        for heading, known in (("Listeners", LISTENER), ("Destinations", DESTINATION)):
            listed = {row[0] for row in table("configuration.md", heading)}
            self.assertEqual(listed, {"address", *known})

    def test_bounds(self) -> None:
        """
        The limits on the page are those in the code.
        """
        text = PAGE.read_text()
        self.assertIn(f"more than {MOST} mistakes", text)
        (size,) = re.findall(r"at most (\d+) MiB", text)
        self.assertEqual(int(size) * 1024 * 1024, LONGEST)
