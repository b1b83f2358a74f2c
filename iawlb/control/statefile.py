"""
The state file: what was changed while the balancer ran, kept for the next start.

The file is JSON. Each difference from the configuration is an object of its own, with
the value that the configuration had. Times are times of day.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from typing import Any

from iawlb.control.overlay import Difference
from iawlb.core.pause import Pause
from iawlb.errors import IawlbError
from iawlb.observe.moments import isoTime

VERSION = 1
"""
The version of the format.
"""

LARGEST = 64 * 1024 * 1024
"""
The largest file that is read, in bytes.
"""


class BadState(IawlbError):
    """
    A state file, or an entry of one, cannot be used; the message says why.
    """


class Times:
    """
    Turns monotonic times into times of day, and back.
    """

    def __init__(self, monotonic: float, wall: float) -> None:
        """
        @param monotonic: The monotonic time now.
        @param wall: The time of day now, in seconds since 1970.
        """
        self._offset = wall - monotonic

    def written(self, when: float | None) -> str | None:
        """
        Return a monotonic time as a time of day in ISO 8601.
        """
        return None if when is None else isoTime(when + self._offset)

    def read(self, text: object) -> float | None:
        """
        Return the monotonic time of a time of day. It is negative for times before the
        machine was started, which does no harm.

        @raise BadState: The text is no time.
        """
        if text is None:
            return None
        try:
            return datetime.fromisoformat(str(text)).timestamp() - self._offset
        except (ValueError, OverflowError, OSError):
            raise BadState(f"{text!r} is no time of day") from None


# Entries.


def entryOf(difference: Difference, address: str | None, times: Times) -> Any:
    """
    Return a difference as the file has it.

    @param address: The address of the destination that is paused or drained: another
        one in the configuration is another destination.
    """
    entry: dict[str, Any] = {"pool": difference.pool}
    if difference.destination is not None:
        entry["destination"] = difference.destination
    if difference.key is not None:
        entry["key"] = difference.key
    if difference.key in ("paused", "drained") and address is not None:
        entry["address"] = address
    runtime = difference.runtime
    if isinstance(runtime, Pause):
        runtime = {
            "by": runtime.by,
            "since": times.written(runtime.since),
            "until": times.written(runtime.until),
            "maxPause": runtime.maxPause,
        }
    return {**entry, "file": difference.file, "runtime": runtime}


def differenceOf(entry: Any, times: Times) -> tuple[Difference, str | None]:
    """
    Read an entry of the file.

    @return: The difference, and the address of a destination that is paused or drained.
    @raise BadState: The entry is none.
    """
    if not isinstance(entry, dict):
        raise BadState("it is no object")
    words = {
        each: entry.get(each) for each in ("pool", "destination", "key", "address")
    }
    for word, value in words.items():
        if value is not None and not isinstance(value, str):
            raise BadState(f"its {word} is no text")
    pool, destination, key = words["pool"], words["destination"], words["key"]
    if pool is None or (destination is None and key is None):
        raise BadState("it names no pool, or nothing of one")
    where: list[str] = ["pools", pool]
    if destination is not None:
        where += ["destinations", destination]
    if key is not None:
        where.append(key)
    runtime = entry.get("runtime")
    if key == "paused":
        runtime = _pauseOf(runtime, times)
    return Difference(tuple(where), entry.get("file"), runtime), words["address"]


def _pauseOf(runtime: Any, times: Times) -> Pause:
    if not isinstance(runtime, dict):
        raise BadState("its pause is no object")
    longest = runtime.get("maxPause")
    number = isinstance(longest, int | float) and not isinstance(longest, bool)
    if longest is not None and not (number and 0 <= longest < 1e9):
        raise BadState(f"{longest!r} is no maxPause")
    since, until = times.read(runtime.get("since")), times.read(runtime.get("until"))
    if since is None:
        raise BadState("its pause has no since")
    return Pause(str(runtime.get("by", ""))[:200], since, until, longest)


# The file.


def readState(path: str, times: Times) -> Iterator[tuple[Difference, str | None] | str]:
    """
    Read the file, entry by entry.

    @return: For each entry what L{differenceOf} returns; or, if the entry is bad, why.
    @raise OSError: The file cannot be read.
    @raise BadState: It is no state file.
    """
    with open(path, "rb", opener=_openAtOnce) as file:
        _checkRegular(os.fstat(file.fileno()))
        data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise BadState(f"it is larger than {LARGEST} bytes")
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadState(f"it is no JSON: {error}") from None
    if not isinstance(found, dict) or "iawlb" not in found:
        raise BadState("it is no state file of iawlb")
    if found["iawlb"] != VERSION:
        raise BadState(f"its version is {found['iawlb']!r}, and not {VERSION}")
    entries = found.get("entries")
    if not isinstance(entries, list):
        raise BadState("it has no list of entries")
    for number, entry in enumerate(entries, 1):
        try:
            yield differenceOf(entry, times)
        except BadState as error:
            yield f"entry {number} is bad, and left out: {error}"


def _openAtOnce(path: str, flags: int) -> int:
    """
    Open a file without waiting for another process, as a named pipe would do.
    """
    return os.open(path, flags | os.O_NONBLOCK)


def _checkRegular(found: os.stat_result) -> None:
    """
    Check that a file may be replaced by another one, which C{/dev/null} may not.

    @raise OSError: It is a device, a pipe or a folder.
    """
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file")


def textOf(entries: Iterable[Any]) -> str:
    """
    Return the entries as the file has them, one a line.
    """
    lines = ",\n".join(f"  {json.dumps(each, sort_keys=True)}" for each in entries)
    return f"[\n{lines}\n]" if lines else "[]"


def writeState(path: str, entries: str, when: str) -> None:
    """
    Write the file anew. It is replaced in one step, and only when the new one is on the
    disk: so whatever happens, there is a whole one.

    @param entries: What L{textOf} returned.
    @param when: The time of day, for people.
    @raise OSError: It cannot be written. The file is as it was.
    """
    head = json.dumps({"iawlb": VERSION, "written": when})[:-1]
    path = os.path.realpath(path)  # a link stays one
    with suppress(FileNotFoundError):
        _checkRegular(os.stat(path))
    temporary = f"{path}.tmp"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    number = os.open(temporary, flags, 0o600)
    try:
        with open(number, "w", encoding="utf-8") as file:
            os.fchmod(number, 0o600)
            file.write(f'{head}, "entries": {entries}}}\n')
            file.flush()
            os.fsync(number)
        os.replace(temporary, path)
    except OSError:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def setAside(path: str) -> str:
    """
    Keep a file that cannot be used under another name.

    @return: The name.
    @raise OSError: It cannot be renamed.
    """
    aside = f"{path}.bad"
    os.replace(path, aside)
    return aside
