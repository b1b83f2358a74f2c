"""
What is said of options that there are not.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet.testing import MemoryReactorClock
from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from iawlb.tap import Options

LONGEST = 200


class _Launcher(usage.Options):
    """
    Stands for twistd's own options.
    """

    optFlags = (("nodaemon", "n", "stay in the foreground"),)
    optParameters = (("logfile", "l", None, "log to a file"),)


class UnknownOptionTests(SynchronousTestCase):
    """
    Mistakes that are usual.
    """

    def said(self, *words: str) -> str:
        """
        Give a wrong command line under twistd.

        @return: The line that the user reads.
        """
        reactor: Any = MemoryReactorClock()
        options = Options(reactor)
        options.parent = _Launcher()
        self.patch(sys, "argv", ["/bin/twistd", "-n", "iawlb", *words])
        error = self.assertRaises(SystemExit, options.parseOptions, words)
        message = str(error.code)
        self.assertEqual(len(message.splitlines()), 1)
        self.assertLessEqual(len(message), LONGEST)
        return message

    def test_nearly(self) -> None:
        """
        An option that is nearly right, or that other programs call so, is answered
        with the one that was meant.
        """
        for given, meant in (
            ("--dst", "dest"),
            ("--destination", "dest"),
            ("--server", "dest"),
            ("--bind", "listen"),
            ("--connect-timout", "connect-timeout"),
            ("--queue_timeout", "queue-timeout"),
            ("--queueTimeout", "queue-timeout"),
            ("--maxconn", "max-connections"),
            ("--balance", "policy"),
        ):
            for words in ((given, "1"), (f"{given}=1",)):
                message = self.said("8080", "9001", *words)
                self.assertEqual(
                    message, f"iawlb: there is no option '{given}': write --{meant}"
                )

    def test_several(self) -> None:
        """
        An option that may be one of several is answered with all of them.
        """
        message = self.said("8080", "9001", "--timeout=5")
        self.assertIn("--connect-timeout", message)
        self.assertIn(" or one of the others that --help lists", message)
        message = self.said("8080", "9001", "--size=5")
        self.assertIn("write --buffer-size or --queue-size", message)
        message = self.said("8080", "9001", "--back=5")
        self.assertIn("--backlog, --backoff or --backoff-max", message)

    def test_launcher(self) -> None:
        """
        An option of twistd's behind C{iawlb} is answered with its right place.
        """
        for given in ("--logfile", "--nodaemon", "-n", "-l"):
            message = self.said("8080", "9001", given)
            self.assertIn(f"'{given}' is an option of twistd itself", message)
            self.assertIn(f"twistd {given} ... iawlb", message)

    def test_behindAddress(self) -> None:
        """
        What can be set for one destination only is shown behind an address.
        """
        self.assertIn("'localhost:9001 weight=2'", self.said("8080", "--weight", "2"))
        self.assertIn("'localhost:9001 name=a'", self.said("8080", "--name", "a"))

    def test_values(self) -> None:
        """
        A value that is missing, and one that is too many, are named.
        """
        self.assertIn("write --slots=VALUE", self.said("8080", "9001", "--slots"))
        self.assertIn("write --dest=ADDRESS", self.said("8080", "--dest"))
        self.assertIn("--check takes no value", self.said("8080", "9", "--check=1"))

    def test_withoutDashes(self) -> None:
        """
        An option without its dashes is not taken for an address; a setting is
        shown with its address.
        """
        self.assertIn("write --listen=...", self.said("listen=tcp:8080", "dest=9001"))
        self.assertIn("'localhost:9001 slots=4'", self.said("8080", "a:1", "slots=4"))

    def test_others(self) -> None:
        """
        For an option that cannot be guessed, the message points to the help; a negative
        number is no option.
        """
        for given in ("--zzzz", "-z", "--" + "x" * 500, "--a\nb"):
            self.assertIn("--help lists", self.said("8080", "9001", given))
        self.assertIn("'-1' is not a port", self.said("8080", "-1"))

    def test_withoutLauncher(self) -> None:
        """
        Without twistd around it no option is twistd's.
        """
        options = Options(MemoryReactorClock())
        error = self.assertRaises(SystemExit, options.parseOptions, ["--logfile=x"])
        self.assertIn("there is no option '--logfile'", str(error.code))
