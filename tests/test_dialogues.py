"""
Tests for what is said in checks.
"""

from __future__ import annotations

import contextlib  # trial takes a "suppress" here for its own
import re
import ssl
from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from iawlb.health.dialogues import (
    MOST,
    TERMINATE,
    AgentLine,
    Expect,
    Http,
    PostgreSql,
    Redis,
)
from iawlb.health.securely import Securely
from iawlb.health.verdict import Dialogue, Verdict
from tests.pem import Issued
from tests.test_settings import repeatable

Make = Callable[[], Dialogue]


def http() -> Http:
    """
    Make a dialogue of HTTP.
    """
    return Http("GET", "web", "/up", ("2xx", "3xx"))


EVERY: list[Make] = [
    http,
    lambda: Expect(b"ask", re.compile(rb"^fine")),
    lambda: Expect(b"", None),
    lambda: PostgreSql("lb"),
    lambda: Redis([]),
    lambda: Redis([b"user", b"secret"]),
    AgentLine,
]


def say(dialogue: Dialogue, parts: Iterable[bytes], end: bool = True) -> Verdict | None:
    """
    Let a destination say something, and maybe end; return what is found.
    """
    dialogue.begin()
    for part in parts:
        found = dialogue.received(part)
        if isinstance(found, Verdict):
            return found
        assert found == b""
    return dialogue.ended() if end else None


def error(code: str, text: str) -> bytes:
    """
    Make an error message of PostgreSQL.
    """
    body = f"SFATAL\0C{code}\0M{text}\0\0".encode()
    return b"E" + (len(body) + 4).to_bytes(4) + body


class SecurelyTests(SynchronousTestCase):
    """
    Dialogues within TLS, against OpenSSL in memory.
    """

    def talk(self, inner: Dialogue | None, *answers: bytes, end: bool) -> Verdict:
        """
        Let a server of TLS say something.

        @param end: Whether it then ends TLS in order; else its connection ends.
        """
        issued = Issued("web", hosts=["web"])
        with TemporaryDirectory() as folder:
            path = Path(folder, "both.pem")
            path.write_bytes(issued.keyPem + issued.pem)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(path)
        came, goes = ssl.MemoryBIO(), ssl.MemoryBIO()
        server = context.wrap_bio(came, goes, server_side=True)
        dialogue = Securely("web", inner)
        came.write(dialogue.begin())
        found: Verdict | bytes = b""
        with contextlib.suppress(ssl.SSLWantReadError):
            server.do_handshake()
        found = dialogue.received(goes.read())
        if isinstance(found, Verdict):
            return found
        came.write(found)
        server.do_handshake()
        for answer in answers:
            server.write(answer)
            found = dialogue.received(goes.read())
            if isinstance(found, Verdict):
                return found
        if end:
            with contextlib.suppress(ssl.SSLError):
                server.unwrap()
            found = dialogue.received(goes.read())
            assert isinstance(found, Verdict)
            return found
        return dialogue.ended()

    def test_handshake(self) -> None:
        """
        Without a dialogue the handshake is enough.
        """
        found = self.talk(None, end=False)
        self.assertEqual((found.passed, found.why), (True, "TLSv1.3"))
        self.assertNotEqual(found.farewell, b"")

    def test_answers(self) -> None:
        """
        The dialogue goes on within TLS, over as many records as it takes.
        """
        found = self.talk(http(), b"HTTP/1.1 20", b"0 OK\r\n", end=False)
        self.assertEqual((found.passed, found.why), (True, "status 200 OK"))
        found = self.talk(Redis([]), b"-LOADING\r\n", end=False)
        self.assertFalse(found.passed)

    def test_ends(self) -> None:
        """
        A server that ends TLS, or the connection, without an answer has failed; before
        the handshake is done this is said.
        """
        for end in (True, False):
            found = self.talk(http(), b"HTTP/1.1 20", end=end)
            self.assertFalse(found.passed)
            self.assertIn("closed without status of HTTP", found.why)
        early = Securely(None, http())
        early.begin()
        self.assertEqual(early.ended().why, "closed during the TLS handshake")

    @repeatable
    @given(st.lists(st.binary(min_size=1, max_size=60), max_size=4))
    def test_anyBytes(self, parts: list[bytes]) -> None:
        """
        Whatever a server sends in place of TLS, it has failed.
        """
        dialogue = Securely("web", None)
        dialogue.begin()
        for part in parts:
            found = dialogue.received(part)
            if isinstance(found, Verdict):
                self.assertFalse(found.passed)
                return
        self.assertFalse(dialogue.ended().passed)


class DialogueTests(SynchronousTestCase):
    """
    Each dialogue with destinations that are well, and others.
    """

    def assertFound(
        self, make: Make, answer: bytes, passed: bool | None, why: str = ""
    ) -> None:
        """
        Check what is found, however the answer is split.

        @param passed: Whether the check succeeds; L{None} if it waits for more.
        @param why: A part of the reason.
        """
        splits = [[answer], [answer[at : at + 1] for at in range(len(answer))]]
        for parts in splits:
            found = say(make(), parts, end=False)
            if passed is None:
                self.assertIsNone(found)
                found = say(make(), parts)
                assert found is not None
                self.assertFalse(found.passed)
            else:
                assert found is not None, answer
                self.assertEqual(found.passed, passed, found)
            if len(parts) == 1:
                self.assertIn(why, found.why)

    def test_http(self) -> None:
        """
        The request is complete HTTP/1.1; the status decides.
        """
        request = http().begin().decode()
        head = "GET /up HTTP/1.1\r\nHost: web\r\n"
        self.assertTrue(request.startswith(head), request)
        self.assertTrue(request.endswith("\r\n\r\n"))
        self.assertIn("\r\nConnection: close\r\n", request)
        for answer, passed, why in (
            (b"HTTP/1.1 200 OK\r\n", True, "status 200 OK"),
            (b"HTTP/1.0 302\r\n", True, "status 302"),
            (b"HTTP/1.1 404 Not Found\r\n", False, "status 404 Not Found"),
            (b"HTTP/1.1 503 \xff\r\n", False, "status 503"),
            (b"HTTP/1.1 103 Early\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\n", True, "200"),
            (b"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 500 No\r\n", False, "status 500 No"),
            (b"HTTP/1.1 101 Switching\r\n", False, "status 101"),
            (b"HTTP/1.1 200 OK", None, "closed without status of HTTP"),
            (b"", None, "closed without status of HTTP"),
            (b"HTTP/1.1 103 Early\r\nLink: a\r\n", None, "closed without"),
            (b"SSH-2.0-x\r\n", False, "no HTTP: 'SSH-2.0-x'"),
            (b"HTTP/2 200\r\n", False, "no HTTP"),
            (b"HTTP/1.1 600 X\r\n", False, "no HTTP"),
        ):
            self.assertFound(http, answer, passed, why)

    def test_expect(self) -> None:
        """
        The answer has to hold what is expected; without that, any byte will do.
        """

        def make() -> Expect:
            return Expect(b"ask", re.compile(b"fine"))

        self.assertEqual(make().begin(), b"ask")
        self.assertFound(make, b"all is fine", True, "answered")
        self.assertFound(make, b"all is bad", None, "without the expected answer")
        self.assertFound(lambda: Expect(b"", None), b"220 hello", True)

    def test_postgresql(self) -> None:
        """
        A server that answers to the start of a session is well, unless it says that
        it takes none yet.
        """

        def make() -> PostgreSql:
            return PostgreSql("lb")

        startup = make().begin()
        self.assertEqual(int.from_bytes(startup[:4]), len(startup))
        self.assertEqual(startup[4:8], b"\0\3\0\0")
        self.assertIn(b"user\0lb\0", startup)
        asks = b"R" + (8).to_bytes(4) + (10).to_bytes(4)
        self.assertFound(make, asks, True, "takes sessions")
        found = say(make(), [asks])
        assert found is not None
        self.assertEqual(found.farewell, TERMINATE)
        unknown = error("28000", 'role "lb" does not exist')
        self.assertFound(make, unknown, True, 'role "lb" does not exist (28000)')
        starting = error("57P03", "the database system is starting up")
        self.assertFound(make, starting, False, "is starting up (57P03)")
        self.assertFound(make, starting[:-1], None, "closed without an answer")
        old = b"Ecould not fork new process for connection\n\0"
        self.assertFound(make, old, False, "could not fork")
        self.assertFound(make, b"HTTP/1.1 400", False, "no PostgreSQL")

    def test_redis(self) -> None:
        """
        A server that answers PING is well; with a password, the answer to that counts
        first.
        """

        def plain() -> Redis:
            return Redis([])

        def login() -> Redis:
            return Redis([b"user", b"secret"])

        self.assertEqual(plain().begin(), b"PING\r\n")
        self.assertEqual(
            login().begin(),
            b"*3\r\n$4\r\nAUTH\r\n$4\r\nuser\r\n$6\r\nsecret\r\nPING\r\n",
        )
        self.assertFound(plain, b"+PONG\r\n", True, "PONG")
        self.assertFound(login, b"+OK\r\n+PONG\r\n", True)
        self.assertFound(login, b"-WRONGPASS no\r\n", False, "WRONGPASS")
        self.assertFound(plain, b"-NOAUTH needed\r\n", False, "NOAUTH needed")
        self.assertFound(plain, b"-LOADING Redis\r\n", False, "LOADING")
        self.assertFound(plain, b"+PON", None)
        self.assertFound(login, b"+OK\r\n+P", None)
        self.assertFound(plain, b"HTTP/1.1", False, "no Redis")

    def test_agent(self) -> None:
        """
        An agent says a line, which may end with the connection.
        """
        self.assertEqual(AgentLine().begin(), b"")
        for parts in ([b"up 75%\n"], [b"u", b"p 75%\r\nmore"], [b"up 75%"]):
            found = say(AgentLine(), parts)
            assert found is not None
            self.assertEqual((found.passed, found.says), (True, "up 75%"))
        found = say(AgentLine(), [])
        assert found is not None
        self.assertEqual((found.passed, found.says), (False, None))

    def test_bounded(self) -> None:
        """
        No more of an answer is kept than it takes to judge.
        """
        for make in EVERY:
            dialogue: Any = make()
            dialogue.begin()
            found: Verdict | bytes = b""
            for _ in range(MOST // 1024 + 1):
                found = dialogue.received(b"HTTP/1.1 100 C\r\n" + b"\t" * 1008)
                if found:
                    break
            assert isinstance(found, Verdict), make
            self.assertLessEqual(len(dialogue._answer), MOST + 1024)
        endless = AgentLine().received(b"up" * MOST)
        assert isinstance(endless, Verdict)
        self.assertEqual(
            endless.why, f"a line of an agent is not in the first {MOST} bytes"
        )

    @repeatable
    @given(
        st.sampled_from(EVERY),
        st.lists(
            st.one_of(
                st.binary(max_size=30),
                st.sampled_from(
                    [
                        *(
                            b"HTTP/1.1 200",
                            b" OK\r\n",
                            b"\r\n\r\n",
                            b"HTTP/1.1 103\n",
                        ),
                        *(b"+OK\r\n", b"+PONG\r\n", b"-ERR\r\n", b"R\0\0", b"E\0\0\0"),
                        *(b"E\0\0\0\5\0", b"E\xff\xff\xff\xff", b"up\n", b"fine"),
                    ]
                ),
            ),
            max_size=6,
        ),
    )
    def test_anyBytes(self, make: Make, parts: list[bytes]) -> None:
        """
        Whatever a destination sends, something is found at the end, and where the bytes
        are split makes no difference.
        """
        whole = b"".join(parts)
        found = say(make(), [whole] if whole else [])
        again = say(make(), filter(None, parts))
        single = say(make(), [whole[at : at + 1] for at in range(len(whole))])
        assert found is not None and again is not None and single is not None
        if make is not EVERY[1]:
            self.assertEqual(found.passed, again.passed)
            self.assertEqual(found.passed, single.passed)
        self.assertLess(len(found.why), 400)
