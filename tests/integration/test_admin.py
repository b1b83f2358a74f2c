"""
The admin server of the installed program: clients of curl's kind, hostile ones, and a
test program that makes up requests from the document about the API.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.integration.conftest import Balancers, Serve
from tests.integration.programs import (
    LIMIT,
    Balancer,
    connect,
    find,
    freePort,
    lacking,
    run,
    until,
)

TOKEN = "0123456789abcdef0123456789abcdef"

HOOKS = """
import schemathesis

TIMES = {"/wait": "timeout", "/drain": "timeout", "/pause": "drainTimeout",
         "/deploy": "deployTimeout"}
LONGEST = 7 * 24 * 3600


@schemathesis.hook
def before_call(context, case, kwargs):
    # Nobody waits for a week; what is out of range stays so.
    name = TIMES.get(case.operation.path)
    if name and isinstance(case.body, dict):
        case.body.setdefault(name, 0.1)
    for where in (case.body, case.query):
        if isinstance(where, dict):
            for each in ("timeout", "drainTimeout", "deployTimeout"):
                value = where.get(each)
                known = isinstance(value, (int, float)) and not isinstance(value, bool)
                if known and 0.1 < value <= LONGEST:
                    where[each] = 0.1
"""

CHECKS = """
[checks]
positive_data_acceptance.expected-statuses = ["2xx", 404, 409, 412, 422]
negative_data_rejection.expected-statuses = [
    400, 401, 403, 404, 405, 406, 409, 412, 413, 414, 415, 422, 431,
]
"""


def echo(client: socket.socket) -> None:
    """
    Serve one connection: send back what comes.
    """
    with contextlib.suppress(OSError):
        while part := client.recv(65_536):
            client.sendall(part)


def patiently(path: str) -> socket.socket:
    """
    Connect, also if more clients than the kernel holds have come at the same time.
    """
    end = time.monotonic() + LIMIT
    while True:
        try:
            return connect(path)
        except BlockingIOError:
            assert time.monotonic() < end
            time.sleep(0.01)


class Admin(http.client.HTTPConnection):
    """
    A client of the admin server on a Unix socket.
    """

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=LIMIT)
        self._path = path

    def connect(self) -> None:
        """
        Connect.
        """
        self.sock = patiently(self._path)

    def ask(self, method: str, target: str, body: Any = None) -> tuple[int, Any]:
        """
        Ask, and return the status and the value.
        """
        headers = {"Content-Type": "application/json"}
        data = None if body is None else json.dumps(body)
        self.request(method, target, data, headers)
        response = self.getresponse()
        return response.status, json.loads(response.read())


@pytest.fixture
def admin(tmp_path: Path) -> str:
    """
    The path of an admin socket.
    """
    return str(tmp_path / "admin.sock")


@pytest.fixture
def openFolder() -> Iterator[Path]:
    """
    A folder that other users can look into; pytest's own are closed to them.
    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@pytest.fixture
def asking(admin: str) -> Iterator[Admin]:
    """
    A client of the admin server.
    """
    client = Admin(admin)
    yield client
    client.close()


class Pings(threading.Thread):
    """
    A client that asks again and again through the balancer.

    @ivar longest: The longest time that an answer took, in seconds.
    """

    def __init__(self, front: Balancer) -> None:
        super().__init__(daemon=True)
        self.longest = 0.0
        self.number = 0
        self.failed: Exception | None = None
        self._client = connect(front.port)
        self._on = True

    def run(self) -> None:
        """
        Ask until it is enough.
        """
        try:
            while self._on:
                before = time.monotonic()
                self._client.sendall(b"ping")
                assert self._client.recv(100) == b"ping"
                self.longest = max(self.longest, time.monotonic() - before)
                self.number += 1
                time.sleep(0.001)
        except Exception as error:
            self.failed = error

    def stop(self) -> None:
        """
        Stop, and check that all were answered.
        """
        self._on = False
        self.join(LIMIT)
        self._client.close()
        assert self.failed is None, self.failed
        assert self.number > 10


def test_curl(balancer: Balancers, serve: Serve, admin: str) -> None:
    """
    What the documentation shows: curl reads the status, pauses, and is told what it got
    wrong.
    """
    balancer(serve(echo), options=["--admin", admin])
    where = ["curl", "-sS", "--unix-socket", admin]
    kind = ["-H", "Content-Type: application/json"]
    status = json.loads(run(*where, "http://localhost/status"))
    assert (status["ready"], status["role"]) == (True, "admin")
    body = '{"target": "default", "for": 600}'
    done = run(*where, *kind, "-d", body, "http://localhost/pause")
    assert json.loads(done) == {"result": "done", "left": 0, "messages": []}
    (pool,) = json.loads(run(*where, "http://localhost/pools"))
    assert pool["state"] == "paused"
    wrong = json.loads(
        run(*where, *kind, "-d", '{"traget": "web"}', "http://localhost/pause")
    )
    assert (wrong["status"], wrong["detail"]) == (
        400,
        "traget is not known: write target",
    )
    text = run("curl", "-sS", "--unix-socket", admin, "http://localhost/")
    assert b"<html" in text


def test_sockets(
    balancer: Balancers, serve: Serve, admin: str, asking: Admin, tmp_path: Path
) -> None:
    """
    The socket of a killed balancer is replaced; that of one which runs is refused in
    one line, and goes on to serve.
    """
    port = serve(echo)
    first = balancer(port, options=["--admin", admin])
    assert first.stop(signal.SIGKILL) == -signal.SIGKILL
    assert os.path.exists(admin)
    second = balancer(port, options=["--admin", admin])
    done = subprocess.run(
        [
            *(find("bash"), "-c", 'exec "$@"', "bash"),
            *(first._arguments[0], "-n", "--pidfile=", "iawlb"),
            *(str(freePort()), str(port), "--admin", admin),
        ],
        cwd=tmp_path,
        capture_output=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 1
    assert f"iawlb: admin: {admin} is in use by another process" in done.stderr.decode()
    assert asking.ask("GET", "/live") == (200, {"live": True})
    assert second.stop() == -signal.SIGTERM
    assert not os.path.exists(admin)


def test_otherUser(balancer: Balancers, serve: Serve, openFolder: Path) -> None:
    """
    Another user cannot connect; and if somebody opens the file to all, the kernel still
    says who asks.
    """
    if os.geteuid() != 0:
        lacking("not root, who alone can be another user")
    admin = str(openFolder / "admin.sock")
    balancer(serve(echo), options=["--admin", admin])
    other = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    ask = ["curl", "-sS", "--unix-socket", admin, "http://localhost/status"]
    command = [find(other[0]), *other[1:], find(ask[0]), *ask[1:]]
    done = subprocess.run(command, capture_output=True, timeout=LIMIT, check=False)
    assert done.returncode == 7, done.stderr
    os.chmod(admin, 0o666)
    done = subprocess.run(command, capture_output=True, timeout=LIMIT, check=False)
    problem = json.loads(done.stdout)
    assert problem["status"] == 403
    assert problem["detail"].startswith("uid 65534 (pid ")


def test_dropped(balancer: Balancers, serve: Serve, openFolder: Path) -> None:
    """
    A balancer that drops its privileges can be asked by the user that it becomes, and
    by root.
    """
    if os.geteuid() != 0:
        lacking("not root, who alone can become another user")
    admin = str(openFolder / "admin.sock")
    port, destination = freePort(), serve(echo)
    front = balancer.run(port, [str(port), str(destination), "--admin", admin])
    assert front.stop() == -signal.SIGTERM
    twistd = front._arguments.index("iawlb")
    front._arguments[twistd:twistd] = ["--uid=65534", "--gid=65534"]
    front.log.write_text("")
    front.start()
    ask = ["curl", "-sS", "--unix-socket", admin, "http://localhost/status"]
    other = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    assert json.loads(run(*ask))["role"] == "admin"
    assert json.loads(run(*other, find(ask[0]), *ask[1:]))["role"] == "admin"


def test_drain(balancer: Balancers, serve: Serve, admin: str, asking: Admin) -> None:
    """
    A drain can be watched: the admin server answers until the last session has ended.
    """
    front = balancer(serve(echo), options=["--admin", admin])
    with connect(front.port) as client:
        client.sendall(b"a")
        assert client.recv(1) == b"a"
        front.send(signal.SIGTERM)
        front.drained()
        status = asking.ask("GET", "/status")[1]
        assert (status["state"], status["sessions"]) == ("stopping", 1)
        expected = {"ready": False, "why": "stopping"}
        assert asking.ask("GET", "/ready") == (503, expected)
        assert asking.ask("GET", "/live")[0] == 200
    assert front.ended() == -signal.SIGTERM
    assert not os.path.exists(admin)


def test_noDescriptors(balancer: Balancers, serve: Serve, admin: str) -> None:
    """
    When clients have taken all the room, the admin server still answers, also several
    at a time.
    """
    options = ["--admin", admin, "--drain-timeout=1s"]
    front = balancer(serve(echo), options=options, files=200)
    with contextlib.ExitStack() as stack:
        for _ in range(80):
            stack.enter_context(connect(front.port)).sendall(b"a")
        clients = [Admin(admin) for _ in range(40)]

        def full() -> bool:
            status = clients[0].ask("GET", "/status")[1]
            return bool(status["sessions"] == status["maxConnections"])

        until(full, "that there is no room")
        for each in clients:
            stack.callback(each.close)
            status = each.ask("GET", "/status")[1]
            assert not status["accepting"]
        assert clients[0].ask("GET", "/sessions?limit=1")[1]["total"] == 52


def hostile(admin: str, stack: contextlib.ExitStack) -> None:
    """
    Do what no client should.
    """

    def send(raw: bytes) -> socket.socket:
        client = stack.enter_context(patiently(admin))
        client.settimeout(5)
        with contextlib.suppress(OSError):
            client.sendall(raw)
        return client

    def answer(client: socket.socket) -> bytes:
        with contextlib.suppress(OSError):
            return client.recv(15)
        return b""

    start = b"POST /pause HTTP/1.1\r\nHost: localhost\r\n"
    assert answer(send(start + b"a: b\r\n" * 100_000)) == b"HTTP/1.1 431 Re"
    assert answer(send(start + b"a: " + b"b" * 2**20)) == b"HTTP/1.1 431 Re"
    assert answer(send(b"GET /" + b"a" * 2**20)) == b"HTTP/1.1 414 Re"
    long = start + b"Content-Length: 1000000000\r\n\r\n"
    assert answer(send(long)) == b"HTTP/1.1 413 Re"
    # All of it, as fast as it is taken.
    big = send(long)
    with contextlib.suppress(OSError):
        for _ in range(1000):
            big.sendall(b"x" * 10**6)
    deep = b"[" * 100_000
    head = start + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    assert answer(send(head % len(deep) + deep)) == b"HTTP/1.1 400 Ba"
    for raw in (b"\x16\x03\x01\x02\x00\x01", b"\r\n" * 1000, b"\0" * 1000):
        send(raw)
    # Ten thousand requests in one go, whose answers are not read.
    send(b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n" * 10_000)
    half = send(start)
    half.shutdown(socket.SHUT_WR)


def test_hostile(balancer: Balancers, serve: Serve, admin: str, asking: Admin) -> None:
    """
    Silent and slow clients, a thousand readers of events, long requests and readers
    that do not read take neither the memory nor the time of those that the balancer is
    for, and do not keep others from the admin server.
    """
    front = balancer(serve(echo), options=["--admin", admin])
    asking.ask("GET", "/status")
    before = front.memory()
    pings = Pings(front)
    pings.start()
    events = b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with contextlib.ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(patiently(admin)).sendall(b"GET /st")
        for _ in range(1000):
            client = stack.enter_context(patiently(admin))
            with contextlib.suppress(OSError):
                client.sendall(events)
        hostile(admin, stack)
        asking.close()
        for _ in range(20):
            assert asking.ask("GET", "/ready")[0] == 200
            body = {"target": "*", "maxPause": 1, "wait": False}
            assert asking.ask("POST", "/resume", {"target": "*"})[0] == 200
            assert asking.ask("POST", "/paus", body)[0] == 404
        assert front.memory() < before + 40
        held = front.descriptors()
    pings.stop()
    # It would be seconds if a single one of these stopped the loop.
    assert pings.longest < 2, pings.longest
    until(lambda: front.descriptors() < held, "the end of the others' connections")
    assert asking.ask("GET", "/live")[0] == 200


def test_leaves(balancer: Balancers, serve: Serve, admin: str, asking: Admin) -> None:
    """
    A client that is killed while it waits for a pause leaves the pause as it is, and
    others see it.
    """
    front = balancer(serve(echo), options=["--admin", admin])
    with connect(front.port) as client:
        client.sendall(b"a")
        assert client.recv(1) == b"a"
        body = '{"drainTimeout": 60}'
        waiting = subprocess.Popen(
            [
                *(find("curl"), "-sS", "--unix-socket", admin, "-d", body),
                *("-H", "Content-Type: application/json", "http://localhost/pause"),
            ]
        )

        def paused() -> bool:
            return bool(asking.ask("GET", "/pools")[1][0]["state"] == "paused")

        until(paused, "the pause")
        waiting.kill()
        waiting.wait(LIMIT)
        time.sleep(0.1)
        assert paused()
    until(lambda: "POST /pause" in front.text(), "the audit line")
    assert ": 200 done\n" in front.text()
    assert paused()


def test_schemathesis(balancer: Balancers, serve: Serve, tmp_path: Path) -> None:
    """
    Requests that are made up from the document about the API, right and wrong ones,
    are answered as it says.
    """
    program = find("schemathesis")
    port = freePort()
    tokens = tmp_path / "tokens"
    tokens.write_text(f"admin {TOKEN}\n")
    tokens.chmod(0o600)
    front = balancer(
        serve(echo),
        options=["--admin", f"127.0.0.1:{port}", "--admin-tokens", str(tokens)],
    )
    (tmp_path / "iawlbhooks.py").write_text(HOOKS)
    (tmp_path / "schemathesis.toml").write_text(CHECKS)
    url = f"http://127.0.0.1:{port}"
    done = subprocess.run(
        [
            *(program, "--config-file", "schemathesis.toml", "run"),
            *(f"{url}/openapi.json", "-H", f"Authorization: Bearer {TOKEN}"),
            *("--exclude-path", "/events", "--max-examples", "20", "--no-color"),
            *("--request-timeout", "10", "--mode", "all", "--workers", "1"),
        ],
        cwd=tmp_path,
        env={**os.environ, "SCHEMATHESIS_HOOKS": "iawlbhooks", "PYTHONPATH": "."},
        capture_output=True,
        timeout=5 * LIMIT,
        check=False,
    )
    text = done.stdout.decode(errors="replace")
    assert done.returncode == 0, text[-8000:]
    assert "Tested: " in text
    assert front.running
