"""
Tests for the command that follows events.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import pytest

from iawlb.command import events as eventsModule
from iawlb.command import eventstream
from iawlb.command.main import main
from tests.fakeadmin import Commands, FakeAdmin, Request, admin, http, problem, run

__all__ = ["admin", "run"]

SCRIPT = str(Path(sysconfig.get_path("scripts"), "iawlb"))
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
PLAIN = HEAD + b"Connection: close\r\n\r\n"

DOWN = (
    b"id: 7\nevent: destination-down\n"
    b'data: {"id": 7, "time": "2026-11-25T12:00:00Z", "type": "destination-down",\n'
    b'data: "pool": "web", "destination": "a", "listener": null, "text": "refused",'
    b' "by": null}\n\n'
)
PAUSED = (
    b': comment\nid:8\nevent:pool-paused\r\ndata:{"type":"pool-paused","pool":"web",'
    b'"by":"uid 0"}\r\n\r\n'
)


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Ask again soon.
    """
    monkeypatch.setattr(eventsModule, "RETRY", 0.01)


def test_follows(admin: FakeAdmin, run: Commands) -> None:
    """
    Each event is a line: time, type, what it is about, who asked for it.
    """
    admin.answers["GET /events"] = PLAIN + DOWN + PAUSED
    ended = run("events", "--count", "2", "--types", "destination-down,pool-paused")
    assert ended.status == 0
    assert admin.requests[0].query == {"types": "destination-down,pool-paused"}
    assert admin.requests[0].headers["accept"] == "text/event-stream"
    assert ended.lines[0][8:] == " destination-down      web/a refused"
    assert ended.lines[1] == "pool-paused           web (by uid 0)"


def test_json(admin: FakeAdmin, run: Commands) -> None:
    """
    With --json each event is printed as it came.
    """
    admin.answers["GET /events"] = PLAIN + PAUSED
    ended = run("events", "--count", "1", "--json")
    assert ended.output == '{"type":"pool-paused","pool":"web","by":"uid 0"}\n'


def test_jsonDenied(admin: FakeAdmin, run: Commands) -> None:
    """
    With --json the balancer's explanation of an error is printed as it came.
    """
    admin.answers["GET /events"] = problem("400 Bad Request", "no type 'x'")
    ended = run("events", "--types", "x", "--json")
    assert ended.status == 1
    assert json.loads(ended.output)["detail"] == "no type 'x'"
    assert ended.errors == "iawlb: no type 'x'\n"


def test_strangeEvents(admin: FakeAdmin, run: Commands) -> None:
    """
    Events that are not understood are shown, escaped.
    """
    admin.answers["GET /events"] = (
        PLAIN
        + b"id: \x1b\nnothing\nevent: x\x1b\n\nevent: y\x1b\ndata: {\x9b\n\n"
        + b"data: [" * 1
        + b"1]\n\n"
        + b'event: z\ndata: {"listener": "l\\u001b"}\n\n'
        + b"data: "
        + b"[" * 100_000
        + b"\n\n"
    )
    ended = run("events", "--count", "4")
    assert ended.lines[0] == "y\\x1b {\ufffd"
    assert ended.lines[1] == "- [1]"
    assert ended.lines[2] == "z                     l\\x1b"
    assert "last-event-id" not in admin.requests[0].headers


def test_takenUpAgain(admin: FakeAdmin, run: Commands) -> None:
    """
    A stream that breaks is taken up where it broke, also when the balancer is away for
    a while.
    """
    turns: list[bytes | Iterator[bytes]] = [
        PLAIN + DOWN + PAUSED[:30],
        b"",
        b"",
        HEAD
        + b"Transfer-Encoding: chunked\r\n\r\n"
        + b"%x\r\n%b\r\n" % (len(PAUSED), PAUSED),
        PLAIN + DOWN,
    ]

    def answer(request: Request) -> bytes | Iterator[bytes]:
        return turns.pop(0)

    admin.answers["GET /events"] = answer
    ended = run("events", "--count", "3")
    assert ended.status == 0
    assert [line[:16] for line in ended.lines[1:2]] == ["pool-paused     "]
    sent = [each.headers.get("last-event-id") for each in admin.requests]
    assert sent == [None, "7", "7", "7", "8"]
    assert ended.errors == (
        f"iawlb: {admin.path} closed the connection before its answer was complete; "
        "waiting for it\n"
    )


def test_givesUp(
    admin: FakeAdmin, run: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A balancer that is away for good ends the command, and one that was never there too.
    """
    monkeypatch.setattr(eventsModule, "ATTEMPTS", 3)
    turns = [PLAIN + DOWN, b"", b"", b"", b"", b""]

    def answer(request: Request) -> bytes:
        return turns.pop(0)

    admin.answers["GET /events"] = answer
    ended = run("events")
    assert ended.status == 1
    assert len(admin.requests) == 5
    assert run("events").status == 1
    assert len(admin.requests) == 6
    assert run("events", "--admin", "/nowhere").status == 5


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (problem("400 Bad Request", "no type 'x'"), "no type 'x'"),
        (http({"a": 1}), "answers 200 with application/json, not as"),
        (http(b"<html>", kind="text/html"), "answers 200 with text/html, not as"),
        (PLAIN + b"data: " + b"x" * 2_000_000, "an event is too long"),
        (PLAIN + b"data: x\n" * 400_000, "an event is too long"),
    ],
)
def test_wrong(
    admin: FakeAdmin,
    run: Commands,
    monkeypatch: pytest.MonkeyPatch,
    answer: bytes,
    said: str,
) -> None:
    """
    What is no stream of events is one line, and is not asked for again.
    """
    monkeypatch.setattr(eventsModule, "ATTEMPTS", 0)
    admin.answers["GET /events"] = answer
    ended = run("events")
    assert ended.status == 1
    assert said in ended.errors


def test_deniedLater(admin: FakeAdmin, run: Commands) -> None:
    """
    A refusal later ends it too.
    """
    turns = [PLAIN + DOWN, problem("401 Unauthorized", "the token has changed")]

    def answer(request: Request) -> bytes:
        return turns.pop(0)

    admin.answers["GET /events"] = answer
    assert "the token has changed" in run("events").errors


def test_silence(
    admin: FakeAdmin, run: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A stream that falls silent, as when a cable is pulled, is asked for again.
    """
    monkeypatch.setattr(eventsModule, "SILENCE", 0.1)

    def answer(request: Request) -> Iterator[bytes]:
        yield PLAIN + DOWN
        time.sleep(0.3)

    admin.answers["GET /events"] = answer
    assert run("events", "--count", "2").status == 0
    assert len(admin.requests) == 2


def test_commentsKeepIt(
    admin: FakeAdmin, run: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A stream on which only comments come is not silent.
    """
    monkeypatch.setattr(eventsModule, "SILENCE", 0.3)

    def answer(request: Request) -> Iterator[bytes]:
        yield PLAIN
        for _ in range(8):
            time.sleep(0.1)
            yield b": keep\n\n"
        yield DOWN

    admin.answers["GET /events"] = answer
    assert run("events", "--count", "1").status == 0
    assert len(admin.requests) == 1


def test_readerLeaves(admin: FakeAdmin) -> None:
    """
    When nobody reads the events any more the command ends, though no event comes.
    """
    held = threading.Event()

    def answer(request: Request) -> Iterator[bytes]:
        yield PLAIN + (b"" if len(admin.requests) > 1 else DOWN)
        held.wait(30)

    admin.answers["GET /events"] = answer
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [SCRIPT, "events"],
        env={"IAWLB_ADMIN": admin.path},
        stdout=writing,
        stderr=subprocess.PIPE,
    )
    os.close(writing)
    assert b"destination-down" in os.read(reading, 1000)
    os.close(reading)
    _, errors = process.communicate(timeout=30)
    held.set()
    assert (process.returncode, errors) == (141, b"")


def test_readerLeavesHere(admin: FakeAdmin, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The same in this process.
    """
    held = threading.Event()
    reading, writing = os.pipe()

    def answer(request: Request) -> Iterator[bytes]:
        yield PLAIN + DOWN
        os.read(reading, 1000)
        os.close(reading)
        held.wait(30)

    admin.answers["GET /events"] = answer
    with open(writing, "w") as output, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", output)
        assert main(["events", "--admin", admin.path]) == 141
    held.set()


class _Broken:
    """
    A body that breaks.
    """

    def makefile(self, *_: Any) -> io.BytesIO:
        return io.BytesIO(PLAIN + b"data: x\n")


def test_cutLine() -> None:
    """
    A line that is cut off is no line.
    """
    broken: Any = _Broken()
    response = HTTPResponse(broken)
    response.begin()
    assert list(eventstream.lines(response)) == ["data: x"]
