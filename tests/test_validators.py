"""
Tests for what reads a single value.
"""

from __future__ import annotations

import math
from grp import getgrgid
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from iawlb.errors import InvalidSetting
from iawlb.validators import (
    LONGEST,
    count,
    duration,
    durationOr,
    durationWithin,
    fileMode,
    filePath,
    flag,
    groupOf,
    name,
    oneOf,
    positiveDuration,
    size,
)

repeatable = settings(deadline=None, derandomize=True, database=None)


class ValidatorTests(SynchronousTestCase):
    """
    Single values.
    """

    def refused(self, read: Any, *values: object) -> None:
        """
        Check that each value is refused with a message that shows it.
        """
        for value in values:
            error = self.assertRaises(InvalidSetting, read, value)
            self.assertIn(repr(value), str(error))

    def test_durations(self) -> None:
        """
        A duration is written with its unit; a bare number is seconds.
        """
        for text, seconds in {
            "0": 0.0,
            "500ms": 0.5,
            "1.5s": 1.5,
            "30": 30.0,
            "5m": 300.0,
            "1h": 3600.0,
            "168h": LONGEST,
        }.items():
            self.assertEqual(duration(text), seconds)
            self.assertEqual(duration(seconds), seconds)
        self.assertEqual(duration(7), 7.0)

    def test_notDurations(self) -> None:
        """
        A value that is no duration, is negative, or is longer than a week is refused.
        """
        words = ("", "s", "5 s", " 5s", "5s\n", "-1", "1e3", "1d", ".5", "5.", "٣s")
        self.refused(duration, *words, "169h", "999999999h")
        self.refused(duration, -1, LONGEST + 1, math.nan, math.inf, True, None, [1])

    def test_off(self) -> None:
        """
        A user who would switch a time-out off with a word gets a message to write 0,
        where the time-out can be switched off.
        """
        for word in ("off", "OFF", "none", "never", "unlimited", "inf", None):
            error = self.assertRaises(InvalidSetting, duration, word)
            self.assertIn("write 0", str(error))
            error = self.assertRaises(InvalidSetting, positiveDuration, word)
            self.assertNotIn("write 0", str(error))
            self.assertIn("more than 0", str(error))

    def test_hugeNumber(self) -> None:
        """
        A number too large for a float is refused as any other that is too large.
        """
        self.refused(duration, 10**400)
        self.refused(count(0, 9), 10**400)
        self.refused(size(0, 9), 10**400)

    def test_wordForADuration(self) -> None:
        """
        Where a word may stand for a duration, both are read, and a mistake names
        both.
        """
        read = durationOr("idle")
        self.assertEqual([read("idle"), read("2s"), read(0)], ["idle", 2.0, 0.0])
        self.refused(read, "idl", "", None, -1, "169h")
        with self.assertRaisesRegex(InvalidSetting, "500ms.*; or write idle"):
            read("soon")

    def test_durationsWithin(self) -> None:
        """
        A duration with limits is read within them, and 0 where it switches off.
        """
        read = durationWithin(1, 60, "1s to 1m")
        off = durationWithin(1, 60, "1s to 1m", off=True)
        for each in (read, off):
            self.assertEqual([each("1s"), each("1m"), each(1.5)], [1.0, 60.0, 1.5])
            self.refused(each, "999ms", 61, "x", None)
        self.refused(read, 0, "off")
        self.assertEqual(off("0"), 0.0)
        self.assertIn("write 0", str(self.assertRaises(InvalidSetting, off, "off")))
        self.assertNotIn("write 0", str(self.assertRaises(InvalidSetting, read, "off")))
        with self.assertRaisesRegex(InvalidSetting, "not 0 or a duration from 1s to"):
            off("2m")

    def test_positiveDurations(self) -> None:
        """
        A duration that cannot be switched off refuses 0, however it is written.
        """
        self.assertEqual(positiveDuration("1ms"), 0.001)
        self.refused(positiveDuration, 0, "0", "0ms", 0.0, "nothing")

    @repeatable
    @given(st.integers(0, 999_999), st.sampled_from(["ms", "s", "m", "h"]))
    def test_unitsAgree(self, number: int, unit: str) -> None:
        """
        The same time in another unit is the same setting, and all that is read is
        from nothing to a week.
        """
        scale = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}[unit]
        try:
            self.assertAlmostEqual(duration(f"{number}{unit}"), number * scale)
        except InvalidSetting:
            self.assertGreater(number * scale, LONGEST)
        else:
            self.assertLessEqual(number * scale, LONGEST)

    @repeatable
    @given(st.text(max_size=8))
    def test_anyText(self, text: str) -> None:
        """
        Whatever a user types is read or refused; nothing else happens.
        """
        for read in (duration, count(0, 99), size(0, 99), oneOf("a", "b"), name):
            try:
                read(text)
            except InvalidSetting as error:
                self.assertIn(repr(text), str(error))

    def test_counts(self) -> None:
        """
        A whole number is read within its limits, as text or as a number.
        """
        read = count(1, 20)
        self.assertEqual([read("1"), read("020"), read(7)], [1, 20, 7])
        self.refused(read, 0, 21, "0", "21", "-1", "1.0", 1.0, True, "", None, "٣")
        self.refused(read, "9" * 19)

    def test_sizes(self) -> None:
        """
        A size is bytes, or written in k or m.
        """
        read = size(1024, 1024 * 1024)
        self.assertEqual(
            [read("1k"), read("64K"), read("1m"), read("2000"), read(4096)],
            [1024, 65536, 1024 * 1024, 2000, 4096],
        )
        self.refused(read, "0", "2m", "1g", "k", "1 k", 1, True, 2048.0, None, "1.5k")

    def test_words(self) -> None:
        """
        A choice takes its words, and lists them when it is given another.
        """
        read = oneOf("hold", "refuse")
        self.assertEqual(read("hold"), "hold")
        self.refused(read, "", "Hold", None, ["hold"])
        error = self.assertRaises(InvalidSetting, read, "drop")
        self.assertIn("hold, refuse", str(error))

    def test_flags(self) -> None:
        """
        A value that is on or off is written in words, or as Python writes it.
        """
        self.assertEqual(
            [flag("yes"), flag("no"), flag(True), flag(False)],
            [True, False, True, False],
        )
        self.refused(flag, "", "Yes", "true", 1, 0, None)

    def test_names(self) -> None:
        """
        A name is printable and without spaces, so that a log line can be split at them.
        """
        for good in ("a", "web-1", "tcp:[::1]:9001", "ü", "x" * 255):
            self.assertEqual(name(good), good)
        self.refused(name, "", "a b", "a\n", "a\x00", "x" * 256, "\u2028", "\udc80")
        self.refused(name, "a\u3000b", 5, None)

    def test_filePath(self) -> None:
        """
        The path of a file begins with /, since a daemon changes its folder; it may be
        empty, for no file.
        """
        for good in ("", "/a b", "/var/lib/ü.json", "/" + "x" * 4095):
            self.assertEqual(filePath(good), good)
        self.refused(filePath, "a", "a/b", "/a\n", "\x00", "/" + "x" * 4096, 5, None)

    def test_fileMode(self) -> None:
        """
        The mode of a file is written in octal as text; as a number it is what Python
        and TOML have for 0o660.
        """
        for good in ("660", "0660", "0o660", 0o660):
            self.assertEqual(fileMode(good), 0o660)
        self.assertEqual([fileMode(None), fileMode("")], [None, None])
        self.refused(fileMode, 660, "1777", "66", "rw-rw----", "888", True, -1, 4.0)

    def test_groups(self) -> None:
        """
        A group is given by its name or number.
        """
        mine = getgrgid(0)
        for good in (mine.gr_name, "0", 0):
            self.assertEqual(groupOf(good), 0)
        self.assertEqual([groupOf(None), groupOf("")], [None, None])
        self.refused(groupOf, "no-such-group", "a\0b", -1, 2**32 - 1, True, 1.0)
