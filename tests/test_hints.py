"""
What somebody who typed an address wrongly is told to write.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from iawlb.backend.address import parseDestination, parseListen
from iawlb.backend.hints import hint, quoted
from iawlb.errors import InvalidSetting

LONGEST = 180
"""
Longest message about an address, in characters; with the command's and the
option's name before it, it is a line of 200.
"""

BOTH = (
    # What is typed, and what is right in its place, for a listener and for a
    # destination alike.
    ("::1:9001", "'[::1]:9001'"),
    ("::9001", "'[::]:9001'"),
    (":::9001", "'[::]:9001'"),
    ("2001:db8::1:9001", "'[2001:db8::1]:9001'"),
    ("tcp:[::1]:9001", "'[::1]:9001'"),
    ("tcp:::1:9001", "'[::1]:9001'"),
    ("[localhost]:90", "'localhost:90'"),
    ("http://localhost:9001", "'localhost:9001'"),
    ("http://localhost:9001/a/b?c", "'localhost:9001'"),
    ("http://user:word@localhost:9001", "'localhost:9001'"),
    ("http://[::1]:90/", "'[::1]:90'"),
    ("HTTP://localhost/", "'localhost:80'"),
    ("https://example.org", "'example.org:443'"),
    ("tcp://localhost:9001", "'localhost:9001'"),
    ("http://a b", "host:port"),
    ("http://localhost:99999", "host:port"),
    ("a:1,b:2", "'a:1' and 'b:2'"),
    ("a:1, b:2; c:3", "'a:1' and 'b:2'"),
    ("9001 9002", "'9001' and '9002'"),
    ("tcp:a:1,tcp:b:2", "'tcp:a:1' and 'tcp:b:2'"),
    ("9001-9003", "each port"),
    ("localhost:9001-9003", "each port"),
    ("8080:9001", "8080, and the destination, 9001"),
    ("localhost: 9001", "'localhost:9001'"),
    ("localhost :9001", "'localhost:9001'"),
    ("localhost 9001", "'localhost:9001'"),
    ("localhost:9001 four", "'four'", "name=a"),
    ("tcp:9001 x=1 four", "'x=1 four'", "name=a"),
    ("localhost:9001:slots=4", "'localhost:9001 slots=4'"),
    ("tcp:localhost:9001:weight=4", "'tcp:localhost:9001 weight=4'"),
    ("slots=4", "'localhost:9001 slots=4'"),
    ("9001/", "'9001'"),
    ("9001/tcp", "'9001'"),
    ("localhost:9001/path", "'localhost:9001'"),
    ("9001:", "'9001'"),
    ("9001;", "'9001'"),
    ("localhost:9001,", "'localhost:9001'"),
    ("./app.sock", "/run/app.sock", "unix:app.sock"),
    ("app.sock", "/run/app.sock", "unix:app.sock"),
    ("run/app", "/run/app.sock", "unix:app.sock"),
    ("~/app.sock", "/run/app.sock", "unix:app.sock"),
    ("tcp4:localhost:9001", "'localhost:9001'"),
    ("tcp4:9001", "'9001'"),
    ("tcp6:localhost:9001", "'localhost:9001'"),
    ("udp:9001", "TCP"),
)

LISTENERS = (
    ("localhost", "'localhost:8080'"),
    ("localhost:", "'localhost:8080'"),
    ("127.0.0.1", "'127.0.0.1:8080'"),
    ("[::1]", "'[::1]:8080'"),
    ("::1", "'[::1]:8080'"),
    ("tcp:127.0.0.1:80", "'127.0.0.1:80'"),
    ("https://localhost", "'ssl:443:privateKey=key.pem:certKey=cert.pem'"),
)

DESTINATIONS = (
    ("example.org", "'example.org:9001'"),
    ("example.org:", "'example.org:9001'"),
    ("127.0.0.1", "'127.0.0.1:9001'"),
    ("[::1]", "'[::1]:9001'"),
    ("::1", "'[::1]:9001'"),
    ("tcp:9001", "'9001'"),
    ("tcp6:9001", "'9001'"),
    ("https://example.org", "'tls:example.org:443'"),
    ("systemd:domain=INET:name=web", "listeners"),
    ("haproxy:tcp:9001", "listeners"),
)


class HintTests(SynchronousTestCase):
    """
    Mistakes that are usual.
    """

    def setUp(self) -> None:
        """
        Make a reactor.
        """
        self.reactor: Any = MemoryReactorClock()

    def refused(self, text: str, listening: bool) -> str:
        """
        Have an address refused.

        @return: The message.
        """
        if listening:
            error = self.assertRaises(
                InvalidSetting, parseListen, self.reactor, text, 4096
            )
        else:
            error = self.assertRaises(
                InvalidSetting, parseDestination, self.reactor, text, 5.0
            )
        return str(error)

    def hinted(self, text: str, listening: bool, *parts: str) -> None:
        """
        Check that the message quotes the address and says what to write.
        """
        message = self.refused(text, listening)
        self.assertEqual(message, f"{text!r} {hint(text, listening)}")
        self.assertLessEqual(len(message), LONGEST)
        for part in parts:
            self.assertIn(part, message)

    def test_both(self) -> None:
        """
        A user who mistypes an address gets a hint how to write it.
        """
        for text, *parts in BOTH:
            self.hinted(text, True, *parts)
            self.hinted(text, False, *parts)

    def test_listeners(self) -> None:
        """
        Where to listen is suggested with another port than where to forward.
        """
        for text, *parts in LISTENERS:
            self.hinted(text, True, *parts)

    def test_destinations(self) -> None:
        """
        The hint for a destination suits a destination.
        """
        for text, *parts in DESTINATIONS:
            self.hinted(text, False, *parts)

    def test_whatIsSuggestedIsRight(self) -> None:
        """
        An address that is suggested can be used as it is written.
        """
        for listening, table in (
            (True, (*BOTH, *LISTENERS)),
            (False, (*BOTH, *DESTINATIONS)),
        ):
            for _, part, *_ in table:
                if not part.startswith("'") or " " in part or part == "'four'":
                    continue
                text = part.strip("'")
                if text.startswith("ssl:"):
                    continue  # it needs the files
                if listening:
                    parseListen(self.reactor, text, 4096)
                else:
                    parseDestination(self.reactor, text, 5.0)

    def test_none(self) -> None:
        """
        Where nothing is to be guessed, what is wrong is said.
        """
        for text in (
            "",
            "=",
            "*",
            "tcp:",
            "unix:",
            "a..b:80",
            "localhost:http",
            "localhost:99999",
            "a b:80",
            "--check",
            "localhost\n",
            "x" * 301,
        ):
            for listening in (True, False):
                self.assertIsNone(hint(text, listening))
                self.assertIn(quoted(text), self.refused(text, listening))
        self.assertIsNone(hint("tcp:localhost:99999", False))
        self.assertIsNone(hint("tcp:99999", True))

    def test_quoted(self) -> None:
        """
        A long text is shown by its beginning.
        """
        self.assertEqual(quoted("a" * 60), repr("a" * 60))
        self.assertEqual(quoted("a" * 61), repr("a" * 60) + "...")
        self.assertEqual(quoted(None), "None")

    @settings(deadline=None, derandomize=True, database=None)
    @given(st.text("tcp:,;/[]. -=0189ab", max_size=40), st.booleans())
    def test_any(self, text: str, listening: bool) -> None:
        """
        Whatever is typed, the answer is one short line.
        """
        found = hint(text, listening)
        if found is not None:
            self.assertLessEqual(len(quoted(text) + found), LONGEST)
            self.assertTrue(found.isprintable())
