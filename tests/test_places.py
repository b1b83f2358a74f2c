"""
Whether a destination is where the balancer itself listens.
"""

from __future__ import annotations

import socket
from ipaddress import ip_address
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from iawlb.backend.address import checkCircle, placeOf
from iawlb.backend.places import Place, isOwn
from iawlb.errors import InvalidSetting

CIRCLES = (
    # A listener, and the destinations that lead to it.
    ("80", "80", ":80", "localhost:80", "127.0.0.1:80", "127.8.8.8:80", "0.0.0.0:80"),
    ("*:80", "tcp:localhost:80", "tls:localhost:80", "tcp:port=80:host=localhost"),
    ("0.0.0.0:80", "80", "LOCALHOST:80"),
    ("[::]:80", "80", "[::1]:80", "127.0.0.1:80", "[::]:80"),
    ("tcp6:80", "80", "[::1]:80"),
    ("127.0.0.1:80", "80", "127.0.0.1:80", "0.0.0.0:80"),
    ("localhost:80", "80", "127.0.0.1:80"),
    ("[::1]:80", "80", r"tcp:\:\:1:80", "[::]:80"),
    ("app:80", "app:80", "APP:80"),
    ("tcp:80:interface=127.0.0.1", "80"),
    ("ssl:443:interface=127.0.0.1", "localhost:443"),
    ("tls:certs", "tls:localhost:443"),
    ("tls:certs:port=80", "localhost:80"),
    ("/run/a.sock", "/run/a.sock", "unix:/run/b/../a.sock", "unix:path=/run/a.sock"),
)

STRAIGHT = (
    ("80", "81", "[::1]:80", "example.org:80", "192.0.2.1:80", "/80"),
    ("[::]:80", "81", "192.0.2.1:80", "[2001:db8::1]:80"),
    ("127.0.0.1:80", "127.0.0.2:80", "[::1]:80", "example.org:80", "[::]:80"),
    ("192.0.2.1:80", "80", "192.0.2.2:80"),
    ("app:80", "80", "other:80"),
    ("0", "1"),
    ("/run/a.sock", "/run/b.sock", "80"),
    # These do not say where they are.
    ("systemd:domain=INET:name=web", "80"),
    ("haproxy:tcp:80", "81"),
    ("haproxy:", "80"),
    ("<an endpoint object>", "80", "<an endpoint object>"),
    ("tcp:80", "<an endpoint object>", "unix:", "tcp:localhost", "tcp:localhost:x"),
)


class CircleTests(SynchronousTestCase):
    """
    A balancer that forwards to itself is refused.
    """

    def test_circles(self) -> None:
        """
        However both are written, a destination that is a listener is refused in a
        line that names both.
        """
        for listener, *destinations in CIRCLES:
            for each in destinations:
                error = self.assertRaises(InvalidSetting, checkCircle, each, listener)
                self.assertEqual(
                    str(error),
                    f"{each!r} leads back to the listener {listener!r}: give the "
                    "address of a server",
                )

    def test_straight(self) -> None:
        """
        Any other destination is not, nor one that is somewhere unknown.
        """
        for listener, *destinations in STRAIGHT:
            for each in destinations:
                checkCircle(each, listener)

    def test_own(self) -> None:
        """
        The machine's own name and addresses lead to a listener that listens on all
        addresses.
        """
        checkCircle(f"{socket.gethostname()}:80", "127.0.0.1:80")
        self.assertRaises(
            InvalidSetting, checkCircle, f"{socket.gethostname()}:80", "80"
        )
        self.assertTrue(isOwn(ip_address("127.0.0.1")))
        self.assertTrue(isOwn(ip_address("::")))
        self.assertFalse(isOwn(ip_address("192.0.2.1")))
        self.assertFalse(isOwn(ip_address("2001:db8::1")))

    def test_ownAddress(self) -> None:
        """
        An address is the machine's own if the machine would be at both ends.
        """
        for name, own in (("192.0.2.1", True), ("192.0.2.9", False)):
            asking = mock.MagicMock()
            asking.__enter__.return_value.getsockname.return_value = (name, 1)
            with mock.patch.object(socket, "socket", return_value=asking):
                self.assertEqual(isOwn(ip_address("192.0.2.1")), own)
        asking = mock.MagicMock()
        asking.__enter__.return_value.connect.side_effect = OSError
        with mock.patch.object(socket, "socket", return_value=asking):
            self.assertFalse(isOwn(ip_address("192.0.2.1")))

    def test_places(self) -> None:
        """
        Host and port are read from any form.
        """
        for text, listening, place in (
            ("80", True, Place("", 80)),
            ("80", False, Place("localhost", 80)),
            ("tls:certs", True, Place("::", 443)),
            ("/a", False, Place("", 0, "/a")),
            ("unix:", True, None),
            ("tcp:x", True, None),
            ("", False, None),
            ("systemd:domain=INET:name=web", True, None),
        ):
            self.assertEqual(placeOf(text, listening), place)
