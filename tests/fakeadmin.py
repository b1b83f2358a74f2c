"""
An admin server made for tests of the command, and a way to run the command.
"""

from __future__ import annotations

import io
import json
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from iawlb.command.main import main

LIMIT = 30.0


@dataclass
class Request:
    """
    A request that came.
    """

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


Respond = Callable[[Request], bytes | Iterator[bytes]]


def http(
    value: Any,
    status: str = "200 OK",
    kind: str = "application/json",
    more: str = "",
) -> bytes:
    """
    Make an answer of HTTP.
    """
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {len(body)}\r\n{more}Connection: close\r\n\r\n"
    )
    return head.encode() + body


def problem(status: str, detail: str, **more: Any) -> bytes:
    """
    Make an answer that says what is wrong.
    """
    value = {"type": "about:blank", "title": "x", "detail": detail, **more}
    return http(value, status, "application/problem+json", "Server: iawlb/0.1.0\r\n")


class FakeAdmin:
    """
    Answers requests on a Unix socket, each in a thread.

    @ivar path: Where.
    @ivar answers: What to answer to a method and path, as in C{GET /status}.
    @ivar requests: The requests that came.
    """

    def __init__(self, path: Path, server: socket.socket | None = None) -> None:
        self.path = str(path)
        self.answers: dict[str, Any] = {}
        self.requests: list[Request] = []
        if server is None:
            server = socket.socket(socket.AF_UNIX)
            server.bind(self.path)
            server.listen(50)
        self._server = server
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def asked(self, method: str = "") -> list[tuple[str, Any]]:
        """
        List the paths and bodies of the requests that changed something.
        """
        return [
            (f"{each.method} {each.path}", each.body)
            for each in self.requests
            if each.method != "GET" or method == "GET"
        ]

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._server.accept()
            except OSError:
                return  # closed
            peer.settimeout(LIMIT)
            self._open.append(peer)
            self._threads.append(threading.Thread(target=self._serve, args=(peer,)))
            self._threads[-1].start()

    def _serve(self, peer: socket.socket) -> None:
        with peer, suppress(OSError):
            request = self._read(peer)
            if request is None:
                return
            self.requests.append(request)
            key = f"{request.method} {request.path}"
            answer = self.answers.get(key, problem("404 Not Found", f"no {key}"))
            if callable(answer):
                answer = answer(request)
            if isinstance(answer, dict | list):
                answer = http(answer)
            for part in [answer] if isinstance(answer, bytes) else answer:
                peer.sendall(part)

    def _read(self, peer: socket.socket) -> Request | None:
        data = b""
        while b"\r\n\r\n" not in data:
            part = peer.recv(65536)
            if not part:
                return None
            data += part
        head, _, body = data.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        while len(body) < int(headers.get("content-length", 0)):
            body += peer.recv(65536)
        method, target, _ = first.split(" ")
        parts = urlsplit(target)
        return Request(
            method,
            parts.path,
            dict(parse_qsl(parts.query)),
            headers,
            json.loads(body) if body else None,
        )

    def close(self) -> None:
        """
        Close all.
        """
        for each in (self._server, *self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join(LIMIT)
            assert not thread.is_alive()
        with suppress(FileNotFoundError):
            os.unlink(self.path)


@dataclass
class Ended:
    """
    What a command has left.
    """

    status: int
    output: str
    errors: str
    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.lines = self.output.splitlines()


class Commands:
    """
    Runs commands in this process.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def __call__(self, *arguments: str, encoding: str = "utf-8") -> Ended:
        """
        Run a command.
        """
        outputs = [io.BytesIO(), io.BytesIO()]
        with self._monkeypatch.context() as patch, ExitStack() as stack:
            for name, each in zip(("stdout", "stderr"), outputs, strict=True):
                stream = io.TextIOWrapper(each, encoding, write_through=True)
                stack.callback(stream.detach)
                patch.setattr(sys, name, stream)
            status = main(arguments)
        output, errors = (each.getvalue().decode(encoding) for each in outputs)
        assert "Traceback" not in errors
        return Ended(status, output, errors)


DESTINATION_A: dict[str, Any] = {
    "pool": "web",
    "name": "a",
    "address": "tcp:localhost:9001",
    "state": "up",
    "since": "2026-11-25T12:00:00Z",
    "why": None,
    "active": 2,
    "slots": 4,
    "weight": 1,
    "served": 120,
    "failures": 0,
    "answerTime": None,
    "attempts": 122,
    "errors": 1,
    "putBacks": 1,
    "bytesIn": 1200,
    "bytesOut": 5_000_000,
    "ends": {"--": 118},
    "origin": "iawlb.toml:12",
    "changed": [],
}

DESTINATION_B: dict[str, Any] = {
    **DESTINATION_A,
    "name": "b",
    "address": "tcp:localhost:9002",
    "state": "down",
    "why": "Connection refused",
    "active": 0,
    "slots": 0,
    "weight": 2,
    "served": 7,
    "changed": ["slots", "weight"],
}

POOL: dict[str, Any] = {
    "name": "web",
    "state": "up",
    "paused": None,
    "policy": "least",
    "slots": 100,
    "active": 2,
    "waiting": 3,
    "oldestWait": 1.24,
    "queueSize": 10000,
    "sessions": 5,
    "accepted": 130,
    "delayed": 4,
    "refused": {"denied": 5, "rate": 6},
    "slotsMissing": 1,
    "bytesIn": 1200,
    "bytesOut": 5_000_000,
    "ends": {"--": 118},
    "listeners": [
        {"name": "tcp:8080", "address": "0.0.0.0:8080", "state": "listening"}
    ],
    "destinations": [DESTINATION_A, DESTINATION_B],
    "changed": [],
}

STATUS: dict[str, Any] = {
    "version": "0.1.0",
    "pid": 4711,
    "started": "2026-11-25T11:59:00Z",
    "uptime": 192.4,
    "state": "running",
    "ready": True,
    "why": None,
    "pools": [POOL],
    "sessions": 5,
    "waiting": 3,
    "oldestWait": 1.24,
    "maxConnections": 5000,
    "accepting": True,
    "reload": {"successful": None, "at": None, "messages": [], "file": None},
    "log": {"dropped": 0, "level": "info"},
    "loopLag": 0.001,
    "destinationsUp": 1,
    "destinations": 2,
}

SESSION: dict[str, Any] = {
    "id": 17,
    "pool": "web",
    "listener": "tcp:8080",
    "client": "127.0.0.1:50312",
    "destination": "a",
    "state": "relaying",
    "age": 61.2,
    "waited": 0.2,
    "idle": 3.0,
    "bytesIn": 812,
    "bytesOut": 5_000_000,
    "tries": 1,
}

DATE = "Date: Wed, 25 Nov 2026 12:03:12 GMT\r\n"


@pytest.fixture
def admin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAdmin]:
    """
    Gives an admin server that the commands find.
    """
    made = FakeAdmin(tmp_path / "admin.sock")
    for name in ("COLUMNS", "IAWLB_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("IAWLB_ADMIN", made.path)
    yield made
    made.close()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Commands:
    """
    Runs commands.
    """
    return Commands(monkeypatch)
