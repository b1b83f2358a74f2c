"""
What the process that started a daemon says of it.
"""

from __future__ import annotations

import sys
from io import StringIO
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from iawlb.process.launcher import PlainErrors, plainErrors


class PlainErrorsTests(SynchronousTestCase):
    """
    An error of the start is one plain line.
    """

    def written(self, text: str) -> str:
        """
        Write a text to standard error.
        """
        stream = StringIO()
        self.assertEqual(PlainErrors(stream).write(text), len(stream.getvalue()))
        return stream.getvalue()

    def test_error(self) -> None:
        """
        What twistd writes about a daemon that could not start is written as it would be
        without a daemon, whatever the message holds.
        """
        for said in ("cannot listen on 80: taken", 'it\'s "taken"', "löst \\ \x01"):
            encoded = said.encode()
            text = f"An error has occurred: {encoded!r}\nPlease look at log.\n"
            self.assertEqual(self.written(text), f"iawlb: {said}\n")

    def test_cut(self) -> None:
        """
        A character that the pipe has cut in two does no harm.
        """
        text = f"An error has occurred: {'ü'.encode()[:1]!r}\nPlease look at log.\n"
        self.assertEqual(self.written(text), "iawlb: \N{REPLACEMENT CHARACTER}\n")

    def test_others(self) -> None:
        """
        Any other text is written as it is.
        """
        for text in ("", "iawlb: no\n", "An error has occurred: x\nPlease\n"):
            self.assertEqual(self.written(text), text)

    def test_stream(self) -> None:
        """
        In all else the object behaves as the stream.
        """
        stream = StringIO()
        errors: Any = PlainErrors(stream)
        print("a", file=errors, flush=True)
        self.assertEqual((stream.getvalue(), errors.getvalue()), ("a\n", "a\n"))

    def test_daemonOnly(self) -> None:
        """
        Only a daemon's standard error is changed: not that of twistd in the
        foreground, nor of twist, and not where there is none.
        """
        stream = StringIO()
        self.patch(sys, "__stderr__", stream)
        for launcher in ({"nodaemon": 1}, {}):
            plainErrors(launcher)
            self.assertIs(sys.__stderr__, stream)
        plainErrors({"nodaemon": 0})
        self.assertIsInstance(sys.__stderr__, PlainErrors)
        self.patch(sys, "__stderr__", None)
        plainErrors({"nodaemon": 0})
        self.assertIsNone(sys.__stderr__)
