"""
What is said on the connection of a check, for each protocol.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence

from iawlb.checkvalidators import covers
from iawlb.health.verdict import Verdict, quoted

MOST = 16 * 1024
"""
The most bytes of an answer that are looked at.
"""

TERMINATE = b"X\0\0\0\4"
"""
The message with which a client of PostgreSQL leaves.
"""

NOT_YET = "57P03"
"""
The code of PostgreSQL for a server that starts, stops or recovers.
"""


class _Answer(ABC):
    """
    The base of dialogues that collect an answer, and judge what there is of it.
    """

    _name = "answer"

    def __init__(self) -> None:
        self._answer = b""

    def received(self, data: bytes) -> Verdict | bytes:
        """
        Add to the answer, and judge what there is.
        """
        self._answer += data
        found = self._judge(self._answer[:MOST])
        if not found and len(self._answer) >= MOST:
            return Verdict(False, f"{self._name} is not in the first {MOST} bytes")
        return found

    @abstractmethod
    def _judge(self, answer: bytes) -> Verdict | bytes:
        """
        Return what is found in an answer, or nothing if there is to be more of it.
        """

    def ended(self) -> Verdict:
        """
        Return that the answer was not complete.
        """
        got = f" behind {quoted(self._answer)}" if self._answer else ""
        return Verdict(False, f"closed without {self._name}{got}")


class Expect(_Answer):
    """
    Sends bytes, and waits for an answer that holds others.
    """

    _name = "the expected answer"

    def __init__(self, send: bytes, wanted: re.Pattern[bytes] | None) -> None:
        """
        @param wanted: What the answer has to hold; L{None} if any byte will do.
        """
        super().__init__()
        self._send = send
        self._wanted = wanted

    def begin(self) -> bytes:
        """
        Return the bytes to send.
        """
        return self._send

    def _judge(self, answer: bytes) -> Verdict | bytes:
        if self._wanted is None or self._wanted.search(answer):
            return Verdict(True, f"answered {quoted(answer)}")
        return b""


class Http(_Answer):
    """
    Asks for a page, and looks at the status of the answer.
    """

    _name = "status of HTTP"

    def __init__(
        self, method: str, host: str, path: str, statuses: tuple[str, ...]
    ) -> None:
        super().__init__()
        self._request = (
            f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: iawlb\r\n"
            "Accept: */*\r\nConnection: close\r\n\r\n"
        ).encode()
        self._statuses = statuses

    def begin(self) -> bytes:
        """
        Return the request.
        """
        return self._request

    def _judge(self, answer: bytes) -> Verdict | bytes:
        while True:
            line, end, _ = answer.partition(b"\n")
            match = re.fullmatch(rb"HTTP/1\.[01] ([1-5]\d\d)(?: .*)?", line.rstrip())
            if match is None:
                if not end and len(line) < MOST and b"HTTP/1.".startswith(line[:7]):
                    return b""  # there is more to come
                return Verdict(False, f"no HTTP: {quoted(line.rstrip())}")
            if not end:
                return b""
            status = int(match[1])
            known = covers(self._statuses, status)
            if status // 100 != 1 or status == 101 or known:
                text = line.rstrip().decode("ascii", "replace").partition(" ")[2]
                return Verdict(known, f"status {text}")
            # What the server says on the way to the answer, such as 103.
            _, end, answer = answer.partition(b"\r\n\r\n")
            if not end or not answer:
                return b""


class PostgreSql(_Answer):
    """
    Begins a session of PostgreSQL, as far as the server's first answer: it asks for a
    password, say, or says that there is no such user. Only a server that starts or
    stops is not well.
    """

    _name = "an answer of PostgreSQL"

    def __init__(self, user: str) -> None:
        super().__init__()
        words = ("user", user, "database", "postgres", "application_name", "iawlb")
        body = b"\0\3\0\0" + b"".join(each.encode() + b"\0" for each in words) + b"\0"
        self._startup = (len(body) + 4).to_bytes(4) + body

    def begin(self) -> bytes:
        """
        Return the message that begins a session.
        """
        return self._startup

    def _judge(self, answer: bytes) -> Verdict | bytes:
        kind = answer[:1]
        if kind in (b"R", b"v"):
            return Verdict(True, "PostgreSQL takes sessions", farewell=TERMINATE)
        if kind != b"E":
            return Verdict(False, f"no PostgreSQL: {quoted(answer)}")
        length = int.from_bytes(answer[1:5])
        if len(answer) >= 5 and not 4 < length < MOST:
            # A server that cannot start a process says so in the form of old versions.
            return Verdict(False, f"PostgreSQL: {quoted(answer[1:])}")
        if len(answer) < 1 + length or len(answer) < 5:
            return b""
        fields = {
            each[:1]: each[1:].decode("utf-8", "replace")
            for each in answer[5 : 1 + length].split(b"\0")
        }
        code, text = fields.get(b"C", ""), fields.get(b"M", "")
        return Verdict(code != NOT_YET, f"PostgreSQL: {text} ({code})")


class Redis(_Answer):
    """
    Sends C{PING}, behind the password if there is one.
    """

    _name = "an answer of Redis"

    def __init__(self, login: Sequence[bytes]) -> None:
        """
        @param login: A password, or a user and a password; or nothing.
        """
        super().__init__()
        self._commands = [b"PING"]
        self._wanted = [b"+PONG"]
        if login:
            words = [b"AUTH", *login]
            self._commands.insert(
                0,
                b"*%d\r\n" % len(words)
                + b"\r\n".join(b"$%d\r\n%s" % (len(each), each) for each in words),
            )
            self._wanted.insert(0, b"+OK")

    def begin(self) -> bytes:
        """
        Return the commands.
        """
        return b"".join(each + b"\r\n" for each in self._commands)

    def _judge(self, answer: bytes) -> Verdict | bytes:
        *lines, rest = answer.split(b"\r\n")
        for line, wanted in zip(lines, self._wanted, strict=False):
            if line != wanted:
                return Verdict(False, f"Redis: {quoted(line)}")
        if len(lines) >= len(self._wanted):
            return Verdict(True, "Redis: PONG")
        if rest and rest[:1] not in b"+-":
            return Verdict(False, f"no Redis: {quoted(rest)}")
        return b""


class AgentLine(_Answer):
    """
    Reads the line that an agent sends.
    """

    _name = "a line of an agent"

    def begin(self) -> bytes:
        """
        Return nothing: an agent speaks first.
        """
        return b""

    def _judge(self, answer: bytes) -> Verdict | bytes:
        line = re.match(rb"([^\r\n]*)[\r\n]", answer)
        return self._said(line[1]) if line is not None else b""

    def ended(self) -> Verdict:
        """
        Read a line that ends with the connection.
        """
        return self._said(self._answer) if self._answer else super().ended()

    def _said(self, line: bytes) -> Verdict:
        text = line[:MOST].decode("ascii", "replace").strip()
        return Verdict(True, f"the agent says {quoted(line.strip())}", says=text)
