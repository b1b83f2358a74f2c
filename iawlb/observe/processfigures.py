"""
What the kernel says about this process: processor time, memory, open files.
"""

from __future__ import annotations

import math
import os
import resource
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

FILES_A_STEP = 500
"""
The number of open files that are counted in one step.
"""


@dataclass(slots=True)
class ProcessFigures:
    """
    What the kernel says about this process.

    @ivar cpuSeconds: The processor time used, user and kernel together.
    @ivar residentBytes: Memory in use; 0 if the system does not tell.
    @ivar virtualBytes: The size of the address space; 0 if the system does not tell.
    @ivar openFiles: The number of open files; 0 if the system does not tell.
    @ivar mostFiles: The largest number of open files that is allowed.
    @ivar started: When the process was started, in seconds since 1970.
    """

    cpuSeconds: float = 0.0
    residentBytes: int = 0
    virtualBytes: int = 0
    openFiles: int = 0
    mostFiles: float = 0
    started: float = 0.0


class ProcessReader:
    """
    Reads the figures of this process from the folder C{/proc/self}.
    """

    def __init__(self, folder: Path = Path("/proc/self")) -> None:
        self._folder = folder
        self._started = self._startTime()

    def read(self, found: ProcessFigures) -> Iterator[None]:
        """
        Read the figures, in steps that are short even if many thousand files are open.

        @param found: Gets the figures; they are complete after the last step.
        """
        used = resource.getrusage(resource.RUSAGE_SELF)
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        found.cpuSeconds = used.ru_utime + used.ru_stime
        found.mostFiles = math.inf if limit == resource.RLIM_INFINITY else limit
        found.started = self._started
        with suppress(OSError, ValueError):
            pages = (self._folder / "statm").read_text().split()
            size = resource.getpagesize()
            found.virtualBytes = int(pages[0]) * size
            found.residentBytes = int(pages[1]) * size
        yield
        with suppress(OSError):
            # Since Linux 6.2 the folder's size is the number of its entries.
            found.openFiles = os.stat(self._folder / "fd").st_size
        if not found.openFiles:
            yield from self._countFiles(found)

    def _countFiles(self, found: ProcessFigures) -> Iterator[None]:
        """
        Count the open files one by one.
        """
        with suppress(OSError), os.scandir(self._folder / "fd") as files:
            for number, _ in enumerate(files):
                # The folder itself is open too, and is not counted.
                found.openFiles = number
                if number % FILES_A_STEP == 0:
                    yield

    def _startTime(self) -> float:
        """
        Work out when the process was started.
        """
        with suppress(OSError, ValueError, IndexError):
            # The name of the program, in brackets, may itself have brackets and spaces.
            stat = (self._folder / "stat").read_text().rpartition(")")[2].split()
            ticks = int(stat[19]) / os.sysconf("SC_CLK_TCK")
            return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + ticks
        return time.time()
