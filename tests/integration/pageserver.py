"""
A stand-in for the admin address of a balancer, for the tests of the status page: it
serves the page's files, and answers with what a test has set.
"""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import iawlb

PAGE = Path(iawlb.__file__).parent / "admin" / "page"

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'"
)

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


def ago(seconds: float) -> str:
    """
    Return a time of day, that long ago.
    """
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()


def destination(pool: str, name: str, **others: Any) -> dict[str, Any]:
    """
    Return a destination of C{GET /status}.
    """
    return {
        "pool": pool,
        "name": name,
        "address": f"{name}.example:9001",
        "state": "up",
        "since": ago(3600),
        "why": None,
        "active": 0,
        "slots": 4,
        "weight": 1,
        "served": 0,
        "failures": 0,
        "attempts": 0,
        "errors": 0,
        "putBacks": 0,
        "bytesIn": 0,
        "bytesOut": 0,
        "ends": {},
        "origin": "--dest",
        "changed": [],
        **others,
    }


def pool(name: str, *destinations: dict[str, Any], **others: Any) -> dict[str, Any]:
    """
    Return a pool of C{GET /status}.
    """
    return {
        "name": name,
        "state": "up",
        "paused": None,
        "policy": "least",
        "slots": 0,
        "active": sum(each["active"] for each in destinations),
        "waiting": 0,
        "oldestWait": None,
        "queueSize": 10000,
        "sessions": sum(each["active"] for each in destinations),
        "accepted": 0,
        "delayed": 0,
        "refused": {},
        "slotsMissing": 0,
        "bytesIn": 0,
        "bytesOut": 0,
        "ends": {},
        "listeners": [
            {"name": "8080", "address": "tcp:8080", "state": "listening"},
        ],
        "destinations": list(destinations),
        "changed": [],
        **others,
    }


def status(*pools: dict[str, Any], **others: Any) -> dict[str, Any]:
    """
    Return an answer to C{GET /status}.
    """
    every = [each for pool in pools for each in pool["destinations"]]
    waits = [each["oldestWait"] for each in pools if each["oldestWait"] is not None]
    return {
        "version": "0.1.0",
        "pid": 4711,
        "started": ago(7200),
        "uptime": 7200.0,
        "state": "running",
        "ready": True,
        "why": "",
        "role": "admin",
        "pools": list(pools),
        "sessions": sum(each["sessions"] for each in pools),
        "waiting": sum(each["waiting"] for each in pools),
        "oldestWait": max(waits, default=None),
        "maxConnections": 10000,
        "accepting": True,
        "reload": {"successful": None, "at": None, "messages": [], "file": None},
        "log": {"dropped": 0, "level": "info"},
        "loopLag": 0.0,
        "destinationsUp": sum(each["state"] == "up" for each in every),
        "destinations": len(every),
        **others,
    }


class PageServer:
    """
    The server.

    @ivar status: What C{GET /status} answers; a function is called for each answer.
    @ivar waiters: The sessions that wait.
    @ivar posts: The paths and bodies of what was posted.
    @ivar refusal: The status and text with which what is posted is refused, if it is.
    @ivar token: The token that is asked for, if any.
    """

    def __init__(self) -> None:
        self.status: Any = status()
        self.waiters: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []
        self.posts: list[tuple[str, Any]] = []
        self.refusal: tuple[int, str] | None = None
        self.token: str | None = None
        self._changed = threading.Condition()
        self._server: ThreadingHTTPServer | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """
        The address of the page.
        """
        return f"http://127.0.0.1:{self.port}/"

    def start(self) -> None:
        """
        Listen; on the same port as before, if there was one.
        """
        handler = type("Bound", (_Handler,), {"admin": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        ).start()

    def stop(self) -> None:
        """
        Close the listener and the streams of events.
        """
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
        with self._changed:
            self._changed.notify_all()

    def emit(self, kind: str, **others: Any) -> None:
        """
        Add an event.
        """
        with self._changed:
            number = len(self.events) + 1
            event = {"id": number, "time": ago(0), "type": kind, **others}
            self.events.append(event)
            self._changed.notify_all()

    def nextEvents(self, last: int) -> list[dict[str, Any]]:
        """
        Wait for the events behind one.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: len(self.events) > last or self._server is None, 1
            )
            return self.events[last:]

    @property
    def running(self) -> bool:
        """
        Whether the server listens.
        """
        return self._server is not None


class _Handler(BaseHTTPRequestHandler):
    admin: PageServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """
        Log nothing.
        """

    def do_GET(self) -> None:
        """
        Answer with a file of the page, or with facts.
        """
        path = self.path.partition("?")[0]
        file = PAGE / (path[1:] or "index.html")
        if file.suffix in TYPES and file.is_file():
            self._send(200, TYPES[file.suffix], file.read_bytes())
        elif self._isKnown():
            if path == "/status":
                found = self.admin.status
                self._json(200, found() if callable(found) else found)
            elif path == "/sessions":
                waiters = self.admin.waiters
                answer = {"sessions": waiters, "total": len(waiters)}
                self._json(200, {**answer, "truncated": False})
            elif path == "/events":
                self._stream()
            else:
                self._json(404, {"title": "Not Found", "detail": "no such path"})

    def do_POST(self) -> None:
        """
        Take what is posted.
        """
        length = int(self.headers["Content-Length"])
        body = json.loads(self.rfile.read(length))
        if not self._isKnown():
            return
        self.admin.posts.append((self.path, body))
        if self.admin.refusal is not None:
            code, detail = self.admin.refusal
            self._json(code, {"title": "Conflict", "status": code, "detail": detail})
        else:
            self._json(200, {"result": "done", "left": 0, "messages": []})

    def _isKnown(self) -> bool:
        token = self.admin.token
        if token is None or self.headers["Authorization"] == f"Bearer {token}":
            return True
        self._json(401, {"title": "Unauthorized", "detail": "a token is needed"})
        return False

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        last = int(self.headers["Last-Event-ID"] or len(self.admin.events))
        while self.admin.running:
            for event in self.admin.nextEvents(last):
                last = event["id"]
                text = f"id: {last}\nevent: {event['type']}\ndata: {json.dumps(event)}"
                try:
                    self.wfile.write(f"{text}\n\n".encode())
                    self.wfile.flush()
                except OSError:
                    return
        self.close_connection = True

    def _json(self, code: int, body: Any) -> None:
        self._send(code, "application/json", json.dumps(body).encode())

    def _send(self, code: int, kind: str, body: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", POLICY)
        self.end_headers()
        if not self.admin.running:
            self.close_connection = True
        self.wfile.write(body)
