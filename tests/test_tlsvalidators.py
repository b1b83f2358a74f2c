"""
Tests for L{iawlb.tlsvalidators}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from iawlb.errors import InvalidSetting
from iawlb.tlsvalidators import hostName, hostPattern


class ValuesTests(SynchronousTestCase):
    """
    Values are read, or refused with what would be right.
    """

    def refused(self, read: Callable[[object], object], value: Any, why: str) -> None:
        """
        Check that a value is refused, and why.
        """
        self.assertIn(why, str(self.assertRaises(InvalidSetting, read, value)))

    def test_host(self) -> None:
        """
        The name of a host is in lower case, and has no dot at its end. It may be an IP
        address.
        """
        self.assertEqual(hostName("DB.Example.org."), "db.example.org")
        self.assertEqual(hostName("a_b"), "a_b")
        for same in ("192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1", ""):
            self.assertEqual(hostName(same), same)
        for wrong in (".", "a..b", "-a", "*.a", "a b", "a" * 64, "a.b:443", 1, None):
            self.refused(hostName, wrong, "is not the name of a host, such as")
        self.refused(hostName, ".".join(["a" * 60] * 5), "is not the name of a host")

    def test_patterns(self) -> None:
        """
        A pattern is a name, or C{*.} in front of one.
        """
        self.assertEqual(hostPattern("A.Example."), "a.example")
        self.assertEqual(hostPattern("*.b.example"), "*.b.example")
        for wrong in ("*", "*.", "a.*", "*a.b", "*.*.b", "a,", "::1", "", None):
            self.refused(hostPattern, wrong, "such as www.example.org or *.exam")
