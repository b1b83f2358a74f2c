"""
Tests for the state file.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

import iawlb.control.statefile
from iawlb.control.overlay import Difference
from iawlb.control.statefile import (
    BadState,
    Times,
    differenceOf,
    entryOf,
    readState,
    setAside,
    textOf,
    writeState,
)
from iawlb.core.pause import Pause
from iawlb.observe.moments import isoTime

TIMES = Times(1000.0, 1_700_000_000.0)

ANY = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "pool",
                    "destination",
                    "key",
                    "runtime",
                    "file",
                    "since",
                    "until",
                    "by",
                ]
            )
            | st.text(max_size=3),
            inner,
            max_size=6,
        )
    ),
    max_leaves=20,
)
"""
Anything that JSON can hold.
"""


class EntryTests(SynchronousTestCase):
    """
    Entries of the file.
    """

    def there(self, difference: Difference, address: str | None = None) -> Any:
        """
        Write a difference, and read it again.
        """
        text = json.dumps(entryOf(difference, address, TIMES))
        return differenceOf(json.loads(text), TIMES)

    def test_thereAndBack(self) -> None:
        """
        What is written is what is read.
        """
        for where, file, runtime in (
            (("pools", "web", "queue-timeout"), 30, 10),
            (("pools", "web", "stopped"), False, True),
            (("pools", "web", "destinations", "a", "slots"), 4, 8),
            (("pools", "web", "destinations", "a"), None, {"address": "9001"}),
            (("pools", "web", "destinations", "a"), {"address": "9001"}, None),
        ):
            difference = Difference(where, file, runtime)
            self.assertEqual(self.there(difference), (difference, None))

    def test_pause(self) -> None:
        """
        The times of a pause are times of day in the file, since the monotonic time of
        another start is another one.
        """
        pause = Pause("uid 0", 990.0, 1600.0, 30.0)
        where = ("pools", "web", "destinations", "a", "paused")
        found = self.there(Difference(where, None, pause), "tcp:localhost:9001")
        self.assertEqual(found, (Difference(where, None, pause), "tcp:localhost:9001"))
        entry = entryOf(Difference(where, None, pause), None, TIMES)
        self.assertEqual(entry["runtime"]["since"], isoTime(1_699_999_990.0))
        # An hour later, on a machine that was started anew.
        later = Times(5.0, 1_700_003_600.0)
        again, _ = differenceOf(entry, later)
        self.assertEqual(again.runtime, Pause("uid 0", -3605.0, -2995.0, 30.0))

    def test_endless(self) -> None:
        """
        A pause may have no end.
        """
        pause = Pause("uid 0", 990.0)
        difference = Difference(("pools", "web", "paused"), None, pause)
        self.assertEqual(self.there(difference), (difference, None))

    def test_bad(self) -> None:
        """
        Each bad entry is named with what is wrong.
        """
        pause = {"pool": "web", "key": "paused"}
        for entry, why in (
            (3, "it is no object"),
            ({"pool": 3}, "its pool is no text"),
            ({"pool": "web"}, "it names no pool, or nothing of one"),
            ({"key": "slots"}, "it names no pool, or nothing of one"),
            (pause, "its pause is no object"),
            ({**pause, "runtime": {}}, "its pause has no since"),
            ({**pause, "runtime": {"since": "now"}}, "'now' is no time of day"),
            ({**pause, "runtime": {"maxPause": True}}, "True is no maxPause"),
        ):
            error = self.assertRaises(BadState, differenceOf, entry, TIMES)
            self.assertEqual(str(error), why)

    @settings(deadline=None)
    @given(ANY)
    def test_anything(self, entry: Any) -> None:
        """
        Whatever an entry is, it is read, or is said to be bad.
        """
        entry = json.loads(json.dumps(entry))
        try:
            differenceOf(entry, TIMES)
        except BadState:
            return


class FileTests(SynchronousTestCase):
    """
    The file.
    """

    def setUp(self) -> None:
        """
        Name a file.
        """
        self.folder = self.enterContext(TemporaryDirectory())
        self.path = f"{self.folder}/state.json"

    def read(self) -> list[Any]:
        """
        Read the file.
        """
        return list(readState(self.path, TIMES))

    def wrote(self, text: str | bytes) -> None:
        """
        Have something in the file.
        """
        data = text.encode() if isinstance(text, str) else text
        Path(self.path).write_bytes(data)

    def test_thereAndBack(self) -> None:
        """
        What is written is what is read, and only its owner can read it.
        """
        one = Difference(("pools", "web", "slots"), 0, 5)
        two = Difference(("pools", "wéb", "stopped"), False, True)
        entries = [entryOf(each, None, TIMES) for each in (one, two)]
        os.umask(os.umask(0))
        writeState(self.path, textOf(entries), "2026")
        self.assertEqual(self.read(), [(one, None), (two, None)])
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o600)
        self.assertEqual(os.listdir(self.folder), ["state.json"])
        writeState(self.path, textOf([]), "2026")
        self.assertEqual(self.read(), [])

    def test_oneBadEntry(self) -> None:
        """
        A bad entry loses only itself.
        """
        good = {"pool": "web", "key": "slots", "file": 0, "runtime": 5}
        self.wrote(json.dumps({"iawlb": 1, "entries": [good, 7, good]}))
        one, two, three = self.read()
        self.assertEqual(one, three)
        self.assertEqual(two, "entry 2 is bad, and left out: it is no object")

    def test_foreign(self) -> None:
        """
        A file of another program, or of a later version, is not taken for a state file.
        """
        for text, why in (
            ("", "it is no JSON"),
            (b"\xff", "it is no JSON"),
            ("[" * 100_000, "it is no JSON"),
            ("[]", "it is no state file of iawlb"),
            ('{"a": 1}', "it is no state file of iawlb"),
            ('{"iawlb": 2}', "its version is 2, and not 1"),
            ('{"iawlb": 1}', "it has no list of entries"),
        ):
            self.wrote(text)
            self.assertIn(why, str(self.assertRaises(BadState, self.read)))

    def test_large(self) -> None:
        """
        A file that would not fit into memory is not read.
        """
        self.patch(iawlb.control.statefile, "LARGEST", 10)
        self.wrote(" " * 11)
        self.assertIn("larger", str(self.assertRaises(BadState, self.read)))

    def test_notWritten(self) -> None:
        """
        If the file cannot be written, the old one stays, and nothing is left beside it.
        """
        self.wrote("old")
        for name in ("fsync", "replace"):
            with self.subTest(name):

                def fails(*_: Any) -> None:
                    raise OSError(28, "No space left on device")

                with self.patched(name, fails):
                    self.assertRaises(OSError, writeState, self.path, "[]", "2026")
                self.assertEqual(Path(self.path).read_text(), "old")
                self.assertEqual(os.listdir(self.folder), ["state.json"])

    def patched(self, name: str, by: Any) -> Any:
        """
        Replace a function of the system for a while.
        """
        from unittest.mock import patch

        return patch.object(os, name, by)

    def test_noFolder(self) -> None:
        """
        A folder that does not exist is an error of the system's, which is reported.
        """
        missing = f"{self.folder}/none/state.json"
        self.assertRaises(FileNotFoundError, writeState, missing, "[]", "2026")

    def test_symbolicLink(self) -> None:
        """
        A link that somebody has put where the new file is written is not followed.
        """
        os.symlink("/nowhere", f"{self.path}.tmp")
        self.assertRaises(OSError, writeState, self.path, "[]", "2026")

    def test_special(self) -> None:
        """
        What is no regular file, such as /dev/null, is neither read, which could wait
        for ever, nor put aside or replaced.
        """
        os.mkfifo(self.path)
        with self.assertRaisesRegex(OSError, "it is not a regular file"):
            writeState(self.path, "[]", "now")
        self.assertTrue(stat.S_ISFIFO(os.stat(self.path).st_mode))
        with self.assertRaisesRegex(OSError, "it is not a regular file"):
            self.read()

    def test_linkedFile(self) -> None:
        """
        A link to the file stays one, and the file behind it is written.
        """
        behind = os.path.join(self.folder, "behind")
        os.symlink(behind, self.path)
        for _ in range(2):
            writeState(self.path, "[]", "now")
            self.assertTrue(os.path.islink(self.path))
            self.assertEqual(list(readState(behind, TIMES)), [])

    def test_setAside(self) -> None:
        """
        A file that cannot be used is kept.
        """
        self.wrote("precious")
        aside = setAside(self.path)
        self.assertEqual(Path(aside).read_text(), "precious")
        self.assertFalse(os.path.exists(self.path))
