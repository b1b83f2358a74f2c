"""
Tests for what the kernel says about this process.
"""

from __future__ import annotations

import math
import os
import resource
import time
from pathlib import Path
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from iawlb.observe.processfigures import FILES_A_STEP, ProcessFigures, ProcessReader


def figures(reader: ProcessReader) -> ProcessFigures:
    """
    Read the figures to the end.
    """
    found = ProcessFigures()
    for _ in reader.read(found):
        pass
    return found


class ProcessReaderTests(SynchronousTestCase):
    """
    The figures of this process, and of invented ones.
    """

    def test_thisProcess(self) -> None:
        """
        The figures are those of this process.
        """
        found = figures(ProcessReader())
        self.assertGreater(found.cpuSeconds, 0)
        self.assertGreater(found.virtualBytes, found.residentBytes)
        self.assertGreater(found.residentBytes, 1_000_000)
        self.assertLess(found.started, time.time())
        self.assertGreater(found.started, time.time() - 3600)
        with os.scandir("/proc/self/fd") as files:
            self.assertEqual(found.openFiles, len(list(files)) - 1)
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self.assertEqual(found.mostFiles, limit)

    def test_noLimit(self) -> None:
        """
        Without a limit of open files the limit is infinite.
        """
        with patch.object(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, 0)):
            self.assertEqual(figures(ProcessReader()).mostFiles, math.inf)

    def test_countedOneByOne(self) -> None:
        """
        Where the kernel does not say how many files are open, they are counted, in
        steps that do not stop the reactor for long.
        """
        folder = Path(self.mktemp())
        (folder / "fd").mkdir(parents=True)
        for number in range(2 * FILES_A_STEP):
            (folder / "fd" / str(number)).touch()

        def stat(path: Path) -> os.stat_result:
            return os.stat_result([0] * 10)

        with patch("iawlb.observe.processfigures.os.stat", stat):
            found = ProcessFigures()
            self.assertEqual(len(list(ProcessReader(folder).read(found))), 3)
        self.assertEqual(found.openFiles, 2 * FILES_A_STEP - 1)

    def test_elsewhere(self) -> None:
        """
        On a system without C{/proc} the other figures are there all the same.
        """
        reader = ProcessReader(Path(self.mktemp()))
        found = figures(reader)
        self.assertGreater(found.cpuSeconds, 0)
        self.assertEqual((found.residentBytes, found.openFiles), (0, 0))
        self.assertLess(abs(found.started - time.time()), 60)
