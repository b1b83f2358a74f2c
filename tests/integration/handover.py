"""
Runs a program with descriptors from 3 on and their names, as systemd does::

    python handover.py NAME:NAME NUMBER:NUMBER program argument...
"""

from __future__ import annotations

import fcntl
import os
import sys

FIRST = 3


def main(names: str, numbers: str, *program: str) -> None:
    """
    Become the program.
    """
    given = [int(each) for each in numbers.split(":") if each]
    # Out of the way first: the places may be taken by others of them.
    moved = [fcntl.fcntl(each, fcntl.F_DUPFD, 500) for each in given]
    for place, each in enumerate(moved, FIRST):
        os.dup2(each, place)
    os.closerange(FIRST + len(given), 1000)
    os.environ["LISTEN_PID"] = str(os.getpid())
    os.environ["LISTEN_FDS"] = str(len(given))
    os.environ["LISTEN_FDNAMES"] = names
    os.execv(program[0], program)


if __name__ == "__main__":
    main(*sys.argv[1:])
