"""
Tests for reading a TOML file.
"""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from iawlb.config.document import LONGEST, Document, readDocument
from iawlb.errors import InvalidConfiguration


class DocumentTests(SynchronousTestCase):
    """
    L{readDocument}.
    """

    def setUp(self) -> None:
        """
        Name a file.
        """
        self.path = Path(self.mktemp())

    def read(self, content: bytes) -> Document:
        """
        Read a file with that content.
        """
        self.path.write_bytes(content)
        return readDocument(str(self.path))

    def wrong(self, content: bytes, *parts: str) -> None:
        """
        Check that a file is refused in one line that has these parts, and begins with
        the file's name.
        """
        self.path.write_bytes(content)
        self.refused(str(self.path), *parts)

    def refused(self, path: str, *parts: str) -> None:
        """
        Check that a path is refused in one printable line that has these parts.
        """
        error = self.assertRaises(InvalidConfiguration, readDocument, path)
        (line,) = error.mistakes
        self.assertTrue(line.isprintable(), line)
        self.assertLess(len(line), len(path) + 250)
        for part in parts:
            self.assertIn(part, line)

    def test_place(self) -> None:
        """
        A value's place is its file and line; that of one that is missing is its
        table's.
        """
        document = self.read(b"a = 1\n[b]\nc = 2\n")
        self.assertEqual(document.data, {"a": 1, "b": {"c": 2}})
        self.assertEqual(document.place(("b", "c")), f"{self.path}:3")
        self.assertEqual(document.place(("b", "missing")), f"{self.path}:2")
        self.assertEqual(document.place(("missing",)), f"{self.path}:1")
        self.assertEqual(self.read(b"").place(()), f"{self.path}:1")

    def test_marks(self) -> None:
        """
        A file may begin with the mark that some editors write, and may have Windows'
        line ends.
        """
        document = self.read(b"\xef\xbb\xbfa = 1\r\nb = 2\r\n")
        self.assertEqual(document.data, {"a": 1, "b": 2})
        self.assertEqual(document.line(("b",)), 2)

    def test_unreadable(self) -> None:
        """
        What is no file, or cannot be read, is refused at once; a pipe does not hold the
        start up.
        """
        self.refused(str(self.path), f"{self.path}: cannot be read: No such file")
        os.mkfifo(self.path)
        self.refused(str(self.path), "not a regular file")
        self.refused("/", "Is a directory")
        self.refused("/dev/null", "not a regular file")
        self.refused("/a\nb", "'/a\\nb': cannot be read: No such file")
        self.refused("", "'': cannot be read: No such file")
        self.refused("/a\0b", "cannot be read")
        self.refused("/" + "x" * 300, "too long")

    def test_size(self) -> None:
        """
        A file that is too long is not read, and one that is large is.
        """
        self.wrong(b"#" * (LONGEST + 1), f"longer than {LONGEST} bytes")
        self.assertEqual(self.read(b"#" * LONGEST).data, {})

    def test_encoding(self) -> None:
        """
        A file in another encoding is refused with the line that shows it.
        """
        self.wrong(b"a = 1\nb = 'caf\xe9'\n", ":2: the byte 0xe9 is not UTF-8")
        self.wrong("a = 1".encode("utf-16"), ":1: the byte 0xff is not UTF-8")

    def test_syntax(self) -> None:
        """
        A mistake in TOML is explained with its line, and with what to write.
        """
        for content, *parts in (
            (
                "a = 1\nb = 30s\n",
                ":2: is not TOML, column 7: write text in",
                'b = "30s"',
            ),
            ("a = least # x", 'a = "least"'),
            ("a = localhost:9001", 'a = "localhost:9001"'),
            ("a = yes", "write true"),
            ("a = Off # x", "write false"),
            ("a = \u201cx\u201d", 'write straight quotes, "'),
            ("a: 1", "write = between key and value"),
            ("[a]\n\n[a]", ":3: ", "[a] stands twice"),
            ("[a.'b c']\n[a.'b c']", ":2: ", '[a."b c"] stands twice'),
            ('[a."it\'s"]\n[a."it\'s"]', '[a."it\'s"] stands twice'),
            ("a = 1\na = 2\n", ":2: ", "'a' is given twice"),
            ("a = 1\na = 2", ":2: ", "'a' is given twice"),
            ("a = [1, 2\n", ":1: ", "a ] or a comma is missing"),
            ("a = ['x' 'y']", "a ] or a comma is missing"),
            ("a = {b = 1", "a } or a comma is missing"),
            ('a = "x\n', ":1: ", "illegal character '\\n'"),
            ("[a\n", ":1: ", "write ] behind the section"),
            ("[[a]\n", "write ]] behind the section"),
            ("a = ", "invalid value"),
            ("a = 1 b = 2", "expected newline"),
            ("\u200ba = x", "invalid statement"),
            ("[a b = 3\n", "write ] behind the section"),
            ("= 1", "invalid statement"),
            ("a = '\x00'", "'\\x00'"),
            ("\x00", "invalid statement"),
            ("a = 1\nb = 1" + "0" * 5000, ":2: a number has too many digits"),
            ("a = 1_" + "0_" * 5000 + "1", ":1: a number has too many digits"),
            ("a = " + "[" * 100_000, ": lists or tables are nested too deeply"),
            ("a = " + "x" * 100_000, "write text in quotes"),
            ("a." * 100 + "b = 1\n" + "a = 1", "given twice"),
        ):
            self.wrong(content.encode(), *parts)
