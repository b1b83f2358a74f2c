"""
The admin server against bytes that nobody has thought of.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.asking import request
from tests.test_admin_requests import Server

HEAD = b"POST /read HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"

PIECES = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        [
            request("GET", "/free"),
            request("GET", "/read?limit=1"),
            request("POST", "/read", {"target": "a"}),
            request("POST", "/read", b"{"),
            request("HEAD", "/free"),
            request("OPTIONS", "*"),
            HEAD,
            b"GET / HTTP/1.1\r\n",
            b"GET /free HTTP/1.0\r\n\r\n",
            b"Content-Length: 5\r\n",
            b"Content-Length: 5\r\n\r\n{}",
            b"Transfer-Encoding: chunked\r\n",
            b"Connection: close\r\n",
            b"Expect: 100-continue\r\n",
            b"Host: a\r\n",
            b"Authorization: Bearer x\r\n",
            b"\r\n",
            b"\n",
            b"\r",
            b" folded\r\n",
            b":\r\n",
            b"\0" * 10,
        ]
    ),
)


class FuzzTests(SynchronousTestCase):
    """
    Whatever comes in whatever pieces.
    """

    @settings(max_examples=300, deadline=None)
    @given(
        st.lists(st.tuples(PIECES, st.integers(0, 3)), max_size=25),
        st.sampled_from(["127.0.0.1", "0.0.0.0"]),
        st.sampled_from(["leave", "wait", "stop"]),
    )
    def test_anything(
        self, pieces: list[tuple[bytes, int]], host: str, end: str
    ) -> None:
        """
        Nothing raises, every answer is one of HTTP, and nothing is left behind.
        """
        on = Server(host=host)
        line = on.connect()
        for piece, turns in pieces:
            if not (line.aborted or line.disconnecting):
                line.channel.dataReceived(piece)
            on.turns(turns)
        if end == "wait":
            on.clock.pump([1000.0] * 10)
            on.turns()
            self.assertTrue(line.aborted or line.disconnecting)
        elif end == "stop":
            on.server.stop()
            on.clock.advance(10)
        elif not line.disconnecting:
            line.abortConnection()
        on.turns(100)
        if line.value():
            self.assertRegex(line.value()[:14], rb"^HTTP/1\.[01] \d{3} ")
        self.assertEqual(on.server.connections, 0)
        on.server.stop()
        on.clock.advance(2)
        self.assertEqual(on.clock.getDelayedCalls(), [])
        self.assertEqual(self.flushLoggedErrors(), [])
