"""
Tests for tables and values as people read them.
"""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis.strategies import integers, lists, text
from twisted.trial.unittest import SynchronousTestCase

from iawlb.command.tables import Column, layOut
from iawlb.command.text import age, clock, plain, shorten, since, size, width

WIDE = "\N{CJK UNIFIED IDEOGRAPH-6F22}"
NOW = datetime(2026, 11, 25, 12, 0, 0, tzinfo=UTC)


class ValueTests(SynchronousTestCase):
    """
    Ages, sizes, times of day and names.
    """

    def test_ages(self) -> None:
        """
        An age has two units at most, and none of 60 seconds.
        """
        for seconds, said in (
            (0, "0.0s"),
            (0.44, "0.4s"),
            (9.97, "10s"),
            (59.6, "1m00s"),
            (192, "3m12s"),
            (3599.7, "1h00m"),
            (18_120, "5h02m"),
            (9 * 86_400 + 3 * 3600, "9d03h"),
            (-3, "0.0s"),
            (1e30, "11574d01h"),
            (None, "-"),
            ("soon", "-"),
            (float("nan"), "-"),
        ):
            self.assertEqual(age(seconds), said)

    def test_sizes(self) -> None:
        """
        A size has three digits at most.
        """
        for count, said in (
            (0, "0"),
            (999, "999"),
            (1000, "1.0k"),
            (1229, "1.2k"),
            (10_240, "10k"),
            (1023 * 1024, "1.0M"),
            (5_000_000, "4.8M"),
            (3 * 1024**4, "3.0T"),
            (1024**6, "1024P"),
            (None, "-"),
            (float("nan"), "-"),
        ):
            self.assertEqual(size(count), said)

    def test_names(self) -> None:
        """
        Characters that do not print are escaped, and a value that is not there is a
        dash.
        """
        self.assertEqual(plain("a\x1b[31m\x9b\n\u202eb"), "a\\x1b[31m\\x9b\\n\\u202eb")
        self.assertEqual(plain(None), "-")
        self.assertEqual(plain(""), "-")
        self.assertEqual(plain(True), "yes")
        self.assertEqual(plain(False), "no")
        self.assertEqual(plain(["a", 1]), "a 1")
        self.assertEqual(plain([]), "-")

    def test_times(self) -> None:
        """
        Times of day are read in UTC unless they say otherwise; what is no time is shown
        as it came.
        """
        self.assertEqual(since("2026-11-25T11:59:50Z", NOW), 10)
        self.assertEqual(since("2026-11-25T11:59:50", NOW), 10)
        self.assertEqual(since("2026-11-25T12:59:50+01:00", NOW), 10)
        self.assertEqual(since(None, NOW), None)
        self.assertRegex(clock("2026-11-25T11:59:50Z"), r"^\d\d:\d\d:\d\d$")
        self.assertEqual(clock("then\n"), "then\\n")


class WidthTests(SynchronousTestCase):
    """
    What a text takes on the terminal.
    """

    def test_wide(self) -> None:
        """
        Wide characters take two columns, marks above others none.
        """
        self.assertEqual(width("abc"), 3)
        self.assertEqual(width(WIDE * 2), 4)
        self.assertEqual(width("e\N{COMBINING ACUTE ACCENT}"), 1)

    def test_shortened(self) -> None:
        """
        A long name is cut in its middle, never within a wide character.
        """
        self.assertEqual(shorten("worker-7f9c-eu-west-1", 11), "worke..st-1")
        self.assertEqual(shorten("short", 5), "short")
        self.assertEqual(shorten("short", 3), "sho")
        self.assertEqual(shorten(WIDE * 9, 1), "")
        self.assertEqual(shorten(WIDE * 9, 7), f"{WIDE}..{WIDE}")

    @given(text(max_size=40), integers(1, 20))
    @settings(max_examples=200, deadline=None)
    def test_neverTooLong(self, name: str, columns: int) -> None:
        """
        Whatever the name, it fits.
        """
        self.assertLessEqual(width(shorten(plain(name), columns)), columns)


COLUMNS = (
    Column("NAME", importance=9, flexible=True),
    Column("N", right=True, importance=5),
    Column("NOTE", importance=1, flexible=True),
)


class TableTests(SynchronousTestCase):
    """
    Tables that fit.
    """

    def test_laidOut(self) -> None:
        """
        Names stand at the left, numbers at the right, and no line has spaces at its
        end.
        """
        rows = [["a", "1", "x"], [WIDE, "20", ""]]
        self.assertEqual(
            layOut(COLUMNS, rows, None),
            ["NAME   N  NOTE", "a      1  x", f"{WIDE}    20"],
        )

    def test_empty(self) -> None:
        """
        Without rows there are the heads.
        """
        self.assertEqual(layOut(COLUMNS, [], 80), ["NAME  N  NOTE"])

    def test_narrow(self) -> None:
        """
        Long names are shortened first, then the least important columns go, then the
        rest is shortened more.
        """
        rows = [["a" * 20 + "b" * 20, "12345678", "c" * 40]]
        for available in (60, 45, 30, 20):
            for line in layOut(COLUMNS, rows, available):
                self.assertLessEqual(len(line), available)
        self.assertIn("NOTE", layOut(COLUMNS, rows, 45)[0])
        self.assertNotIn("NOTE", layOut(COLUMNS, rows, 30)[0])
        self.assertEqual(layOut(COLUMNS, rows, 10), ["NAME", "aaaa..bbbb"])
        self.assertEqual(layOut(COLUMNS, rows, 1), ["N", "a"])

    @given(lists(text(max_size=60), min_size=1, max_size=5), integers(4, 100))
    @settings(max_examples=100, deadline=None)
    def test_alwaysFits(self, names: list[str], available: int) -> None:
        """
        Whatever the names, no line is wider than the terminal.
        """
        rows = [[plain(name), "1", plain(name)] for name in names]
        for line in layOut(COLUMNS, rows, available):
            self.assertLessEqual(width(line), available)

    def test_painted(self) -> None:
        """
        A colour changes no width.
        """
        shown = layOut(
            COLUMNS, [["a", "1", "x"]], 80, lambda head, cell: f"<{head}{cell}>"
        )
        self.assertEqual(shown[1], "<NAMEa   >  <N1>  <NOTEx>")
