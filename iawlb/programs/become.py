"""
The first step in the process of a program that the balancer starts. Python runs this
file as a script, and the process then becomes the program.

What is done here has to be done in the new process itself. Doing it between fork and
exec would mean to copy the whole balancer first.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

NOT_FOUND = 127
"""
The exit status if the program could not be run, as shells have it.
"""

_PARENT_DEATH_SIGNAL = 1
"""
C{PR_SET_PDEATHSIG} of prctl(2).
"""

IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)
"""
The signals that Python ignores, and that a program expects to be as usual.
"""


def dieWith(parent: int) -> None:
    """
    Have the kernel send this process C{SIGTERM} when the balancer is gone, also if the
    balancer was killed. Only Linux can.

    @param parent: The number of the balancer's process.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(NOT_FOUND)  # it was gone before


def become(parent: int, command: Sequence[str]) -> None:
    """
    Become a program: in a session and process group of its own, so that all its
    processes can be signalled; with the rights that the balancer has now, for good; and
    with signals as usual.

    @param parent: The number of the balancer's process.
    @param command: The words of the command.
    """
    os.setsid()
    user, group = os.geteuid(), os.getegid()
    if (os.getuid(), os.getgid()) != (user, group):
        os.setresgid(group, group, group)
        os.setresuid(user, user, user)
    for each in IGNORED_BY_PYTHON:
        signal.signal(each, signal.SIG_DFL)
    dieWith(parent)
    try:
        os.execvp(command[0], list(command))
    except OSError as error:
        sys.stderr.write(f"cannot run {command[0]!r}: {error.strerror}\n")
        sys.stderr.flush()
        os._exit(NOT_FOUND)


if __name__ == "__main__":
    become(int(sys.argv[1]), sys.argv[2:])
