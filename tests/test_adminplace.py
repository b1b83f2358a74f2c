"""
Tests for the place of the admin socket.
"""

from __future__ import annotations

import os
import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

import iawlb
from iawlb.adminplace import (
    SYSTEM,
    readAdminAddress,
    usualPlace,
    usualPlaces,
)
from iawlb.errors import InvalidSetting


class AddressTests(SynchronousTestCase):
    """
    What is written as an admin address.
    """

    def test_right(self) -> None:
        """
        A path, with or without C{unix:}, and a host and port are addresses.
        """
        for text, address in (
            ("unix:/run/a.sock", "/run/a.sock"),
            ("/run/a b:1.sock", "/run/a b:1.sock"),
            ("127.0.0.1:8405", ("127.0.0.1", 8405)),
            ("tcp:localhost:8405", ("localhost", 8405)),
            ("[::1]:8405", ("::1", 8405)),
            ("8405", ("127.0.0.1", 8405)),
        ):
            self.assertEqual(readAdminAddress(text), address)

    def test_wrong(self) -> None:
        """
        Anything else is refused with what would be right.
        """
        for text in (
            "", "a", "unix:a.sock", "a:0", "a:65536", "a:b:1", "http://a:1", "/a\0b",
            "\N{ARABIC-INDIC DIGIT ONE}", "a\n:1", "x" * 1000,
        ):  # fmt: skip
            error = self.assertRaises(InvalidSetting, readAdminAddress, text)
            self.assertIn("is not an admin address: write unix:/run", str(error))
            self.assertLess(len(str(error)), 300)
            self.assertNotIn("\n", str(error))


class UsualPlaceTests(SynchronousTestCase):
    """
    Where it is if no address is given.
    """

    def test_root(self) -> None:
        """
        Root's balancer is the system's.
        """
        given = {"XDG_RUNTIME_DIR": "/run/user/0", "HOME": "/root"}
        self.assertEqual(usualPlace(given, 0), "/run/iawlb/admin.sock")
        self.assertEqual(usualPlaces(given, 0), [SYSTEM])

    def test_user(self) -> None:
        """
        A user's is in the folder for sockets, or in the home folder; the system's is
        found too.
        """
        given = {"XDG_RUNTIME_DIR": "/run/user/7", "HOME": "/home/a"}
        self.assertEqual(usualPlace(given, 7), "/run/user/7/iawlb/admin.sock")
        given["XDG_RUNTIME_DIR"] = "relative"
        self.assertEqual(usualPlace(given, 7), "/home/a/.iawlb/admin.sock")
        self.assertEqual(usualPlaces(given, 7), ["/home/a/.iawlb/admin.sock", SYSTEM])

    def test_noHome(self) -> None:
        """
        A user without a home has no usual place, and finds the system's balancer.
        """
        self.patch(os.path, "expanduser", lambda path: path)
        for given in ({}, {"HOME": "/"}, {"HOME": "here"}):
            self.assertEqual(usualPlace(given, 7), None)
            self.assertEqual(usualPlaces(given, 7), [SYSTEM])


class PublicNamesTests(SynchronousTestCase):
    """
    The names that programs import from C{iawlb}.
    """

    def test_allAreThere(self) -> None:
        """
        Each name that is promised can be imported, and is listed.
        """
        for name in iawlb.__all__:
            self.assertEqual(getattr(iawlb, name).__name__, name)
        self.assertLessEqual(set(iawlb.__all__), set(dir(iawlb)))

    def test_others(self) -> None:
        """
        Other names are missing, as in any module.
        """
        error = self.assertRaises(AttributeError, getattr, iawlb, "nothing")
        self.assertEqual(str(error), "module 'iawlb' has no attribute 'nothing'")

    def test_light(self) -> None:
        """
        Importing C{iawlb} alone does not import Twisted, so that commands that ask a
        running balancer start fast.
        """
        subprocess.run(
            [
                sys.executable,
                "-c",
                "import sys, iawlb.adminplace; sys.exit('twisted' in sys.modules)",
            ],
            check=True,
            timeout=60,
        )
