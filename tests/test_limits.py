"""
Tests for the limit of open files.
"""

from __future__ import annotations

import resource
from resource import RLIM_INFINITY

from twisted.trial.unittest import SynchronousTestCase

from iawlb.errors import InvalidSetting
from iawlb.frontend.limits import (
    KEPT_BACK,
    MOST_FILES,
    PER_SESSION,
    connectionLimit,
    raiseFileLimit,
)


class LimitTests(SynchronousTestCase):
    """
    With a limit that the test plays.
    """

    def limit(self, soft: int, hard: int) -> None:
        """
        Play a limit of open files.
        """
        self.limits = (soft, hard)
        self.patch(resource, "getrlimit", lambda of: self.limits)
        self.patch(resource, "setrlimit", self.change)

    def change(self, of: int, limits: tuple[int, int]) -> None:
        """
        The limit is changed.
        """
        self.assertEqual(of, resource.RLIMIT_NOFILE)
        self.limits = limits

    def test_raised(self) -> None:
        """
        As many files as the system allows may be open, with no need for
        C{ulimit}; the system's own limit is left as it is.
        """
        for soft, hard, raised in (
            (1024, 4096, 4096),
            (4096, 4096, 4096),
            (1024, 1_000_000_000, MOST_FILES),
            (1024, RLIM_INFINITY, MOST_FILES),
            (RLIM_INFINITY, RLIM_INFINITY, RLIM_INFINITY),
            (MOST_FILES + 5, RLIM_INFINITY, MOST_FILES + 5),
        ):
            self.limit(soft, hard)
            raiseFileLimit()
            self.assertEqual(self.limits, (raised, hard))

    def test_asManyAsFilesAllow(self) -> None:
        """
        By default the number of connections is what the limit of open files allows,
        less the files that the balancer itself needs.
        """
        self.limit(1024, 1024)
        most = connectionLimit(0)
        self.assertEqual(most, 496)
        self.assertTrue(most * PER_SESSION + KEPT_BACK <= 1024)
        self.assertEqual(connectionLimit(100), 100)
        self.assertEqual(connectionLimit(most), most)

    def test_noLimit(self) -> None:
        """
        Where files have no limit, connections still have one.
        """
        for soft in (RLIM_INFINITY, 1_000_000_000):
            self.limit(soft, RLIM_INFINITY)
            self.assertEqual(connectionLimit(0), (MOST_FILES - 32) // 2)

    def test_few(self) -> None:
        """
        However few files may be open, one connection is served.
        """
        self.limit(16, 16)
        self.assertEqual(connectionLimit(0), 1)

    def test_tooMany(self) -> None:
        """
        More connections than files allow are refused with the sum, and with what
        would be right.
        """
        self.limit(1024, 1024)
        error = self.assertRaises(InvalidSetting, connectionLimit, 497)
        self.assertEqual(
            str(error),
            "maxConnections: 497 connections need 2 x 497 + 32 = 1026 open files, and "
            "the limit is 1024: allow more (ulimit -n) or ask for at most 496",
        )
