"""
Tests for the way in which commands reach the balancer, and for all that can be wrong
with it.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from iawlb.command import client as clientModule
from iawlb.command.connection import BoundedSocket, Connection
from iawlb.command.failures import OutputClosed
from tests.fakeadmin import (
    STATUS,
    Commands,
    FakeAdmin,
    Request,
    admin,
    http,
    problem,
    run,
)

__all__ = ["admin", "run"]


def test_found(
    admin: FakeAdmin, run: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The balancer is found at --admin, before or behind the command, else at IAWLB_ADMIN,
    else at the usual places.
    """
    admin.answers["GET /live"] = {"live": True}
    assert run("healthcheck").output == "live\n"
    monkeypatch.setenv("IAWLB_ADMIN", "/nowhere")
    assert run("--admin", admin.path, "healthcheck").status == 0
    assert run("healthcheck", "--admin", f"unix:{admin.path}").status == 0
    monkeypatch.setenv("IAWLB_ADMIN", "")
    places = ["/nowhere/admin.sock", admin.path]
    monkeypatch.setattr(clientModule, "usualPlaces", lambda *_: places)
    assert run("healthcheck").status == 0


def test_notRunning(run: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Where no balancer runs, the command says where it looked and how to start one, and
    ends with 5.
    """
    monkeypatch.delenv("IAWLB_ADMIN", raising=False)
    places = ["/nowhere/a.sock", "/nowhere/b.sock"]
    monkeypatch.setattr(clientModule, "usualPlaces", lambda *_: places)
    ended = run("list")
    assert ended.status == 5
    assert ended.errors == (
        "iawlb: no balancer runs here: there is no /nowhere/a.sock and no "
        "/nowhere/b.sock; start one with iawlb run FILE, or say where it is with "
        "--admin ADDRESS\n"
    )
    monkeypatch.setenv("IAWLB_ADMIN", "/etc/passwd/a.sock")
    ended = run("list")
    assert ended.status == 5
    assert ended.errors.startswith("iawlb: no balancer runs at /etc/passwd/a.sock;")


def test_leftSocket(admin: FakeAdmin, run: Commands) -> None:
    """
    The socket that a killed balancer has left is no running balancer.
    """
    path = admin.path + "2"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(path)
    ended = run("list", "--admin", path)
    assert ended.status == 5
    assert f"no balancer runs at {path}" in ended.errors


@pytest.mark.parametrize("address", ["a", "http://a:1", "/a\nb\0"])
def test_wrongAddress(run: Commands, address: str) -> None:
    """
    An address that is none is wrong usage.
    """
    ended = run("list", "--admin", address)
    assert ended.status == 2
    assert ended.errors.startswith("iawlb: --admin: ")
    assert ended.errors.count("\n") == 1


def test_wrongEnvironment(run: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A wrong address in the environment is named by its variable.
    """
    monkeypatch.setenv("IAWLB_ADMIN", "x")
    assert run("list").errors.startswith("iawlb: IAWLB_ADMIN: 'x' is not an admin")


def test_longPath(run: Commands) -> None:
    """
    A path that is too long for a socket is said to be so.
    """
    ended = run("list", "--admin", "/" + "a" * 200)
    assert ended.status == 1
    assert "AF_UNIX path too long" in ended.errors


def test_noHost(run: Commands) -> None:
    """
    A host that cannot be found is one line.
    """
    ended = run("list", "--admin", "nowhere.invalid:80")
    assert ended.status == 1
    assert ended.errors.startswith("iawlb: cannot connect to nowhere.invalid:80: ")


def test_overTcp(run: Commands, tmp_path: Path) -> None:
    """
    Over TCP the token of --token-file is sent, or that of IAWLB_TOKEN_FILE. A file of
    the balancer's own does, with its comments.
    """
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]
    admin = FakeAdmin(tmp_path / "x", server)
    token = tmp_path / "token"
    token.write_text("\n # ROLE TOKEN\noperate s3cret\nread other\n")
    try:
        admin.answers["GET /live"] = {"live": True}
        where = f"127.0.0.1:{port}"
        assert run("healthcheck", "--admin", where).status == 0
        assert "authorization" not in admin.requests[0].headers
        assert admin.requests[0].headers["host"] == where
        given = ("--token-file", str(token))
        assert run("healthcheck", "--admin", where, *given).status == 0
        assert admin.requests[1].headers["authorization"] == "bearer s3cret"
        assert run("--admin", where, *given, "healthcheck").status == 0
        assert admin.requests[2].headers["authorization"] == "bearer s3cret"
    finally:
        admin.close()
    ended = run("healthcheck", "--admin", where)
    assert ended.status == 1
    assert f"no balancer runs at {where}" in ended.errors
    assert "no balancer runs at [::1]:1" in run("list", "--admin", "[::1]:1").errors


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "holds no token"),
        (b"# a comment\n", "holds no token"),
        (b"\xff\xff", "is not text"),
        ("\N{BULLET}".encode(), "the token is not printable ASCII"),
        (b"a\0b", "the token is not printable ASCII"),
        (None, "No such file or directory"),
    ],
)
def test_wrongToken(
    run: Commands, tmp_path: Path, text: bytes | None, why: str
) -> None:
    """
    A token that cannot be read is said to be so, and is never shown.
    """
    file = tmp_path / "token"
    if text is not None:
        file.write_bytes(text)
    ended = run("list", "--token-file", str(file))
    assert ended.status == 1
    assert ended.errors == f"iawlb: --token-file: {file}: {why}\n"


def test_hangs(
    admin: FakeAdmin, run: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A balancer that never answers, or that sends its answer byte by byte, is given up.
    """
    monkeypatch.setattr("iawlb.command.calls.LIMIT", 0.2)

    def slowly(request: Request) -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"
        while True:
            time.sleep(0.01)
            yield b" "

    def never(request: Request) -> bytes:
        time.sleep(0.4)
        return b""

    admin.answers["GET /pools"] = slowly
    admin.answers["GET /status"] = never
    for command in ("list", "status"):
        ended = run(command)
        assert ended.status == 1
        assert ended.errors == f"iawlb: {admin.path} did not answer in time\n"


def test_neverAccepts(run: Commands, tmp_path: Path) -> None:
    """
    A balancer that accepts nothing any more is given up, in bounded time.
    """
    path = str(tmp_path / "full")
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as one:
        server.bind(path)
        server.listen(0)
        one.connect(path)
        ended = run("healthcheck", "--admin", path, "--timeout", "100ms")
    assert ended.status == 1
    assert "did not answer in time" in ended.errors


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "closed the connection before its answer was complete"),
        (HEAD, "closed the connection before its answer was complete"),
        (
            HEAD + b"Content-Length: 10\r\n\r\n{}",
            "closed the connection before its answer was complete",
        ),
        (
            HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
            "closed the connection before its answer was complete",
        ),
        (b"220 mail.example ESMTP\r\n", "does not answer in HTTP"),
        (HEAD + b"A: " + b"b" * 70_000 + b"\r\n\r\n", "does not answer in HTTP"),
        (http(b"<html>", kind="text/html"), "answers 200 with text/html, not as"),
        (
            http(b"x", "302 Found", "text/html", "Location: http://evil/\r\n"),
            "answers 302 with text/html",
        ),
        (http(b"{"), "is not JSON"),
        (http(b"[" * 100_000), "is not JSON"),
        (http(b"\xff"), "is not JSON"),
        (http(b"7"), "is not as this version of the command knows it"),
        (http([7]), "is not as this version of the command knows it"),
        (http({"a": 1}), "is not as this version of the command knows it"),
    ],
)
def test_strange(admin: FakeAdmin, run: Commands, answer: bytes, why: str) -> None:
    """
    An answer that no balancer gives is one line that says so.
    """
    admin.answers["GET /pools"] = answer
    ended = run("list")
    assert (ended.status, ended.output) == (1, "")
    assert why in ended.errors
    assert ended.errors.count("\n") == 1
    assert len(ended.errors) < 1100


def test_huge(admin: FakeAdmin, run: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    An answer without end is not kept.
    """
    monkeypatch.setattr(clientModule, "LARGEST", 1 << 20)

    def endless(request: Request) -> Iterator[bytes]:
        yield HEAD + b"\r\n"
        while True:
            yield b" " * 65536

    admin.answers["GET /pools"] = endless
    ended = run("list")
    assert ended.status == 1
    assert ended.errors.endswith("is longer than 1 MiB\n")


def test_denied(admin: FakeAdmin, run: Commands) -> None:
    """
    What the balancer says about a refusal is printed, escaped; with --json as it came.
    """
    admin.answers["POST /stop"] = problem("404 Not Found", "no pool 'x\x1b[2J'\nhere")
    ended = run("stop", "x")
    assert ended.status == 1
    assert ended.errors == "iawlb: no pool 'x\\x1b[2J' here\n"
    ended = run("stop", "x", "--json")
    assert ended.status == 1
    assert '"detail": "no pool' in ended.output


def test_permission(admin: FakeAdmin, run: Commands, tmp_path: Path) -> None:
    """
    Who may not do it is told, and what would help.
    """
    admin.answers["GET /live"] = problem("401 Unauthorized", "a token is needed")
    assert run("healthcheck").errors == (
        "iawlb: permission denied: a token is needed (give --token-file FILE)\n"
    )
    token = tmp_path / "t"
    token.write_text("x")
    ended = run("healthcheck", "--token-file", str(token))
    assert ended.errors == "iawlb: permission denied: a token is needed\n"
    admin.answers["GET /live"] = http({}, "403 Forbidden")
    assert run("healthcheck").errors == "iawlb: permission denied: 403 Forbidden\n"
    admin.answers["GET /live"] = http(["x"], "500 Oops")
    assert run("healthcheck").errors == "iawlb: 500 Oops\n"


def test_newer(admin: FakeAdmin, run: Commands) -> None:
    """
    An error of a balancer of another version says which versions meet.
    """
    admin.answers["GET /live"] = http({}, "404 Not Found", more="Server: iawlb/9.1\r\n")
    assert run("healthcheck").errors == (
        "iawlb: 404 Not Found (the balancer is iawlb 9.1, this command 0.1.0)\n"
    )


def _refuseConnect(self: Connection) -> None:
    raise PermissionError(13, "Permission denied")


def test_otherUser(
    admin: FakeAdmin,
    run: Commands,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """
    A socket of another user names that user.
    """
    monkeypatch.setattr(Connection, "connect", _refuseConnect)
    monkeypatch.setattr(clientModule, "_userName", lambda user: "carol")
    assert run("list").errors == (
        f"iawlb: permission denied: {admin.path} belongs to carol: run this as that "
        "user\n"
    )
    ended = run("list", "--admin", str(tmp_path / "none"))
    assert ended.status == 1
    assert ended.errors.endswith("none: its folder is another user's\n")
    ended = run("list", "--admin", "127.0.0.1:1")
    assert ended.errors == "iawlb: permission denied: 127.0.0.1:1\n"


def test_userNames() -> None:
    """
    A user without a name is called by the number.
    """
    assert clientModule._userName(0) == "root"
    assert clientModule._userName(4_000_000_001) == "user 4000000001"


def test_hiddenPlace(run: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A place that this user may not look into is not taken for one where nothing runs.
    """
    monkeypatch.delenv("IAWLB_ADMIN", raising=False)
    hidden = "/" + "a" * 300  # which cannot be looked at either
    monkeypatch.setattr(clientModule, "usualPlaces", lambda *_: ["/none", hidden])
    monkeypatch.setattr(Connection, "connect", _refuseConnect)
    ended = run("list")
    assert ended.status == 1
    assert ended.errors == (
        f"iawlb: permission denied: {hidden}: its folder is another user's\n"
    )


def test_outputWatched() -> None:
    """
    A read that waits ends when nobody reads our output any more, and goes on while
    somebody does.
    """
    ours, theirs = socket.socketpair()
    with theirs, BoundedSocket(fileno=ours.detach()) as bounded:
        reading, writing = os.pipe()
        bounded.output, bounded.silence = writing, 30.0
        theirs.sendall(b"x")
        assert bounded.recv_into(bytearray(10)) == 1
        os.close(reading)
        with pytest.raises(OutputClosed):
            bounded.recv_into(bytearray(10))
        os.close(writing)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_reallyOtherUser(admin: FakeAdmin, run: Commands, tmp_path: Path) -> None:
    """
    A user who may not open the socket is told whose it is.
    """
    os.chmod(admin.path, 0o600)
    os.chmod(tmp_path, 0o711)
    parents = [*tmp_path.parents][:2]
    modes = [each.stat().st_mode for each in parents]
    for each in parents:
        each.chmod(0o711)
    os.seteuid(65_534)
    try:
        ended = run("list")
    finally:
        os.seteuid(0)
        for each, mode in zip(parents, modes, strict=True):
            each.chmod(mode)
    assert ended.status == 1
    assert ended.errors == (
        f"iawlb: permission denied: {admin.path} belongs to root: run this as that "
        "user\n"
    )


def test_closes(admin: FakeAdmin, run: Commands) -> None:
    """
    The connection is closed after each answer.
    """
    admin.answers["GET /status"] = STATUS
    assert run("status", "--json").status == 0
    assert admin.requests[0].headers["connection"] == "close"
