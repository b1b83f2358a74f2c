"""
Tests for the validators of what checks ask of a destination.
"""

from __future__ import annotations

import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from iawlb.checkvalidators import (
    Way,
    check,
    covers,
    escaped,
    expected,
    method,
    patternOf,
    place,
    statuses,
    unescaped,
    wayOf,
)
from iawlb.commandvalidators import LONGEST, commandLine
from iawlb.errors import InvalidSetting
from iawlb.settings import DestinationSettings, Settings
from tests.test_settings import repeatable


class ValueTests(SynchronousTestCase):
    """
    What is read, and what is refused.
    """

    def refused(self, read: Any, *values: object) -> None:
        """
        Check that a validator refuses values with one line each.
        """
        for value in values:
            error = self.assertRaises(InvalidSetting, read, value)
            self.assertNotIn("\n", str(error))

    def test_ways(self) -> None:
        """
        A check is one word, with a path or a user behind it where that makes sense.
        """
        for text, way in (
            ("off", None),
            ("tcp", Way("tcp")),
            ("http", Way("http", "", "/")),
            ("http:/health?full=1", Way("http", "", "/health?full=1")),
            ("https://web.example/up", Way("https", "web.example", "/up")),
            ("http://web:81", Way("http", "web:81", "/")),
            ("postgresql", Way("postgresql", "", "iawlb")),
            ("postgresql:lb", Way("postgresql", "", "lb")),
            ("redis", Way("redis")),
        ):
            self.assertEqual(check(text), text)
            self.assertEqual(wayOf(text), way)

    def test_wrongWays(self) -> None:
        """
        Other words, and details of a wrong form, are refused.
        """
        self.refused(
            check,
            *("", "on", "yes", "TCP", "tcp:80", "http:", "http:health", "http:///"),
            *("http:/a b", "http:/a\r\nX: y", "postgresql:", "postgresql:a b"),
            *("http://a b/", "http:/\x7f", "redis:pw", None, 3, b"tcp", "x" * 5000),
        )

    def test_function(self) -> None:
        """
        A function is taken as it is.
        """
        self.assertIs(check(len), len)

    def test_places(self) -> None:
        """
        A place is a port, an address or the path of a Unix socket; or nothing.
        """
        for text in ("", "9001", "web:9001", "[::1]:9001", "127.0.0.1:1", "/run/x"):
            self.assertEqual(place(text), text)
        self.assertEqual(place(9001), "9001")
        self.refused(
            place,
            *("web", "0", "65536", "web:0", "::1:9001", "[x]:1", "a b:1", "/a b"),
            *(True, None, 0, -1, "tcp:web:9001", "/"),
        )

    def test_statuses(self) -> None:
        """
        Statuses are numbers and classes of numbers.
        """
        self.assertEqual(statuses("200, 3xx"), ("200", "3xx"))
        self.assertEqual(statuses(["204"]), ("204",))
        self.assertEqual(statuses(200), ("200",))
        self.refused(
            statuses, "", "20", "600", "xx2", "2XX", [], None, ["2xx", 5], True
        )
        error = self.assertRaises(InvalidSetting, statuses, ["200", "999"])
        self.assertEqual(str(error), "'999' is not a status, such as 200 or 2xx")
        known = statuses("204,3xx")
        seen = [each for each in (200, 204, 299, 300, 399, 404) if covers(known, each)]
        self.assertEqual(seen, [204, 300, 399])

    def test_methods(self) -> None:
        """
        A method is a word of capital letters.
        """
        self.assertEqual(method("HEAD"), "HEAD")
        self.refused(method, "get", "", "GET /", "G" * 21, None, "GÉT")

    def test_escapes(self) -> None:
        """
        Escapes stand for bytes; what is none is refused.
        """
        text = r"PING\r\n\t\s\\\x00\xff"
        self.assertEqual(escaped(text), text)
        self.assertEqual(unescaped(text), b"PING\r\n\t \\\x00\xff")
        self.assertEqual(unescaped("é"), "é".encode())
        self.refused(escaped, "\\", r"\q", r"\x1", "a\nb", 7, None)

    @repeatable
    @given(st.binary(max_size=40))
    def test_everyByte(self, data: bytes) -> None:
        """
        Any bytes that a program gives are kept, as text that can be written anywhere.
        """
        text = escaped(data)
        self.assertTrue(text.isascii() and text.isprintable())
        self.assertEqual(unescaped(text), data)
        self.assertEqual(escaped(text), text)
        self.assertIsNotNone(patternOf(expected(data)).search(b"x" + data + b"y"))

    def test_patterns(self) -> None:
        """
        What is expected is text, or a regular expression.
        """
        self.assertTrue(patternOf(expected("a.c")).search(b"xa.cx"))
        self.assertFalse(patternOf(expected("a.c")).search(b"abc"))
        self.assertTrue(patternOf(expected("re:^a.c$")).search(b"abc"))
        given = expected(re.compile(rb"^\+PONG"))
        self.assertEqual(given, r"re:^\+PONG")
        self.refused(expected, "re:(", re.compile("text"), "re:a\nb", 5)

    def test_commands(self) -> None:
        """
        A command is a list, or is split as a shell would split it.
        """
        self.assertEqual(commandLine("check -H 'a b'"), ("check", "-H", "a b"))
        self.assertEqual(commandLine(["check", ""]), ("check", ""))
        self.assertEqual(commandLine(""), ())
        wrong: Any = ("'a", "a\nb", "a" * (LONGEST + 1), "''", "a\0b")
        self.refused(commandLine, *wrong, [""], ["a", 1], ["a\0"], 7, ["a"] * 1001)


class SettingsTests(SynchronousTestCase):
    """
    The settings together.
    """

    def test_command(self) -> None:
        """
        A command check needs its program.
        """
        error = self.assertRaises(
            InvalidSetting, DestinationSettings, healthCheck="command"
        )
        self.assertEqual(
            str(error), "healthCheck: command needs a program: set check-command too"
        )
        DestinationSettings(healthCheck="command", checkCommand=("true",))

    def test_pool(self) -> None:
        """
        A pool may name the check alone, and each destination its own program.
        """
        self.assertEqual(Settings(healthCheck="command").checkCommand, ())
