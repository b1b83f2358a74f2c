"""
Tests for the live view.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import sysconfig
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import DataTable, Static

from iawlb.command.calls import Call
from iawlb.command.client import Client
from iawlb.command.main import main
from iawlb.command.topscreen import TopScreen
from iawlb.command.topview import View, cut
from tests.fakeadmin import (
    DATE,
    DESTINATION_A,
    DESTINATION_B,
    POOL,
    SESSION,
    STATUS,
    Commands,
    FakeAdmin,
    Request,
    admin,
    http,
    run,
)

__all__ = ["admin", "run"]

SCRIPT = str(Path(sysconfig.get_path("scripts"), "iawlb"))
WAITER = {**SESSION, "id": 9, "state": "waiting", "waited": 1.24, "destination": None}


@pytest.fixture
def balancer(admin: FakeAdmin) -> FakeAdmin:
    """
    Gives a balancer that serves more with every question.
    """
    turns = [0]

    def status(request: Request) -> bytes:
        turns[0] += 1
        a = {
            **DESTINATION_A,
            "served": 100 * turns[0],
            "bytesIn": 10_000 * turns[0],
            "bytesOut": None,
        }
        pool = {**POOL, "accepted": 10 * turns[0], "destinations": [a, DESTINATION_B]}
        return http({**STATUS, "pools": [pool]}, more=DATE)

    admin.answers["GET /status"] = status
    admin.answers["GET /sessions"] = {"sessions": [WAITER], "total": 1}
    return admin


def test_snapshot(balancer: FakeAdmin, run: Commands) -> None:
    """
    C{--snapshot} prints pools, destinations and the oldest waiters, so many times.
    """
    ended = run("top", "--snapshot", "1")
    assert ended.status == 0
    assert ended.lines == [
        "iawlb 0.1.0, running for 3m12s, ready",
        "5 clients of at most 5000, 3 waiting, the oldest for 1.2s; 1 of 2 "
        "destinations up",
        "",
        "POOL  STATE  ACTIVE/SLOTS  WAITING  OLDEST  CONN/S  MISSING",
        "web   up            2/100        3    1.2s       -        1",
        "",
        "DESTINATION  STATE  SINCE  ACTIVE/SLOTS  CONN/S  IN/S  OUT/S  SERVED  ERRORS",
        "web/a        up     3m12s           2/4       -     -      -     100       1",
        "web/b        down   3m12s            0*       -     -      -       7       1",
        "",
        "WAITS  CLIENT           POOL  ID  TRIES",
        " 1.2s  127.0.0.1:50312  web    9      1",
        "",
        "web/b: Connection refused",
        "web/b: not as in the file: slots, weight",
    ]
    assert balancer.requests[1].query == {"waiting": "true", "limit": "10"}
    ended = run("top", "--snapshot", "2", "--interval", "0")
    assert ended.output.count("DESTINATION") == 2
    assert len(run("top", "--snapshot", "2", "--json").lines) == 2


def test_onePool(balancer: FakeAdmin, run: Commands) -> None:
    """
    One pool can be watched alone.
    """
    balancer.answers["GET /pools/db"] = {**POOL, "name": "db", "destinations": []}
    ended = run("top", "--snapshot", "1", "--pool", "db")
    assert "web" not in ended.lines[4]
    assert balancer.requests[2].query["pool"] == "db"


def _view(admin: FakeAdmin, sort: str = "name") -> tuple[View, list[float]]:
    now = [100.0]
    return View(Call(Client(admin.path), False), None, sort, lambda: now[0]), now


def test_rates(balancer: FakeAdmin) -> None:
    """
    From the second frame on there are rates; counts that began anew are none below 0.
    """
    view, now = _view(balancer)
    view.next()
    now[0] += 0.5
    frame = view.next()
    assert frame.pools[0][5] == "20.0"
    assert frame.destinations[0][4:7] == ["200", "20k", "-"]
    balancer.answers["GET /status"] = {
        "pools": [{"name": "web", "accepted": 1, "destinations": []}],
        "why": "x\x1b",
    }
    now[0] += 1
    frame = view.next()
    assert frame.pools[0][5] == "0.0"
    assert "not ready: x\\x1b" in frame.head[0]
    balancer.answers["GET /sessions"] = {"sessions": []}
    assert "WAITS" not in "\n".join(view.next().lines(80, lambda head, cell: cell))


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ("name", ["web/a", "web/b"]),
        ("active", ["web/a", "web/b"]),
        ("errors", ["web/a", "web/b"]),
        ("state", ["web/b", "web/a"]),
        ("in", ["web/a", "web/b"]),
    ],
)
def test_sorts(balancer: FakeAdmin, sort: str, order: list[str]) -> None:
    """
    Destinations stand in the order that was asked for, equals by name.
    """
    view, _ = _view(balancer, sort)
    assert [row[0] for row in view.next().destinations] == order


def test_manyDestinations(balancer: FakeAdmin) -> None:
    """
    A thousand destinations leave room for the clients that wait longest.
    """
    many = [{**DESTINATION_A, "name": f"w{n:03}"} for n in range(1000)]
    balancer.answers["GET /status"] = {
        **STATUS,
        "pools": [{**POOL, "destinations": many}],
    }
    view, _ = _view(balancer)
    frame = view.next()
    shown = frame.linesWithin(100, 24, lambda head, cell: cell)
    assert len(shown) == 24
    assert "WAITS" in "\n".join(shown)
    assert "w010" in "\n".join(shown)
    shown = frame.linesWithin(100, 8, lambda head, cell: cell)
    assert len(shown) == 8
    assert len(frame.linesWithin(100, 2000, lambda head, cell: cell)) > 1000


def test_cut() -> None:
    """
    What has no room is counted.
    """
    assert cut(["a", "b"], 2) == ["a", "b"]
    assert cut(["a", "b", "c"], 2) == ["a", "... 2 lines more"]


def test_noTerminal(balancer: FakeAdmin, run: Commands) -> None:
    """
    Without a terminal the command says what to write.
    """
    ended = run("top")
    assert ended.status == 2
    assert ended.errors == "iawlb: top needs a terminal: write top --snapshot 1\n"


class Terminal:
    """
    A terminal with a command on it.
    """

    def __init__(self, path: str, words: list[str]) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 70, 0, 0))
        self.before = termios.tcgetattr(theirs)
        self._theirs = theirs
        self.process = subprocess.Popen(
            words,
            env={"IAWLB_ADMIN": path, "TERM": "xterm", "PATH": os.environ["PATH"]},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        self.shown = ""

    def until(self, true: Callable[[str], object]) -> None:
        """
        Read what the command writes until it is as wanted.
        """
        end = time.monotonic() + 30
        while not true(self.shown):
            assert time.monotonic() < end, self.shown
            if select.select([self._ours], (), (), 0.1)[0]:
                self.shown += os.read(self._ours, 65536).decode(errors="replace")

    def type(self, keys: str) -> None:
        """
        Type.
        """
        os.write(self._ours, keys.encode())

    def ended(self) -> int:
        """
        Wait for the command's end.
        """
        end = time.monotonic() + 30
        while self.process.poll() is None:
            assert time.monotonic() < end, self.shown
            if select.select([self._ours], (), (), 0.05)[0]:
                self.shown += os.read(self._ours, 65536).decode(errors="replace")
        return self.process.returncode

    def modes(self) -> list[Any]:
        """
        Return how the terminal is set.
        """
        return termios.tcgetattr(self._theirs)

    def close(self) -> None:
        """
        End all.
        """
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(30)
        os.close(self._ours)
        os.close(self._theirs)


@contextmanager
def onTerminal(path: str, *words: str) -> Iterator[Terminal]:
    """
    Run a command on a terminal.
    """
    made = Terminal(path, [SCRIPT, *words])
    try:
        yield made
    finally:
        made.close()


def test_plain(balancer: FakeAdmin) -> None:
    """
    The plain view fills the terminal, takes keys, survives a balancer that is away, and
    gives the terminal back as it was.
    """
    with onTerminal(balancer.path, "top", "--plain", "--interval", "100ms") as terminal:
        terminal.until(lambda shown: shown.count("DESTINATION") >= 2)
        assert "q quit; sort by n name, a active" in terminal.shown
        assert "\x1b[31mdown \x1b[0m" in terminal.shown
        line = max(terminal.shown.replace("\x1b[H", "\r\n").split("\r\n"), key=len)
        assert len(line.replace("\x1b[31m", "").replace("\x1b[0m", "")) < 90
        terminal.type("s")
        terminal.until(
            lambda shown: (
                shown.rpartition("DESTINATION")[2].find("web/b")
                < shown.rpartition("DESTINATION")[2].find("web/a")
            )
        )
        balancer.answers["GET /status"] = b""
        terminal.until(lambda shown: "complete" in shown)
        terminal.type("xq")
        assert terminal.ended() == 0
        assert terminal.modes() == terminal.before
        assert terminal.shown.endswith("\x1b[?25h\x1b[?1049l")


def test_interrupted(balancer: FakeAdmin) -> None:
    """
    Ctrl-C ends the plain view in order too.
    """
    with onTerminal(balancer.path, "top", "--plain") as terminal:
        terminal.until(lambda shown: "DESTINATION" in shown)
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.ended() == 0
        assert terminal.modes() == terminal.before


@contextmanager
def _inProcess(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """
    Have this process's outputs and input on a terminal.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 70, 0, 0))
    with (
        open(theirs, "w", closefd=False) as output,
        open(theirs, closefd=False) as source,
        monkeypatch.context() as patch,
    ):
        patch.setattr(sys, "stdout", output)
        patch.setattr(sys, "stdin", source)
        patch.setenv("TERM", "xterm")
        try:
            yield ours
        finally:
            os.close(theirs)
            os.close(ours)


def test_watchedHere(balancer: FakeAdmin, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The plain view takes keys until q, and shows why there is nothing to show.
    """
    seen = bytearray()

    def play(ours: int) -> None:
        def until(wanted: bytes) -> None:
            while wanted not in seen:
                seen.extend(os.read(ours, 65536))

        until(b"DESTINATION")
        seen.clear()
        until(b"DESTINATION")
        os.write(ours, b"s")
        balancer.answers["GET /status"] = b""
        until(b"complete")
        os.write(ours, b"xq")
        until(b"\x1b[?1049l")

    with _inProcess(monkeypatch) as ours:
        playing = threading.Thread(target=play, args=(ours,))
        playing.start()
        assert (
            main(["top", "--plain", "--interval", "0", "--admin", balancer.path]) == 0
        )
        playing.join(30)
    assert not playing.is_alive()


def test_interruptedHere(balancer: FakeAdmin, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Ctrl-C ends it, also where nobody can type.
    """

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    with _inProcess(monkeypatch) as ours:
        monkeypatch.setattr(sys, "stdin", None)
        monkeypatch.setattr(time, "sleep", interrupt)
        assert main(["top", "--plain", "--admin", balancer.path]) == 0
        shown = b""
        while not shown.endswith(b"\x1b[?25h\x1b[?1049l"):
            shown += os.read(ours, 65536)


def test_choosesTextual(balancer: FakeAdmin, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Textual is used if it is there and nothing else was asked for.
    """
    ran: list[object] = []
    monkeypatch.setattr(TopScreen, "run", lambda self: ran.append(self))
    with _inProcess(monkeypatch):
        assert main(["top", "--admin", balancer.path]) == 0
    assert len(ran) == 1


def test_noKeys(balancer: FakeAdmin) -> None:
    """
    Without a terminal to type on it is shown all the same.
    """
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [SCRIPT, "top", "--plain", "--interval", "100ms"],
            env={"IAWLB_ADMIN": balancer.path, "TERM": "xterm"},
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
        )
        shown = ""
        while shown.count("DESTINATION") < 2:
            shown += os.read(ours, 65536).decode()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    finally:
        os.close(ours)
        os.close(theirs)


def test_textual(balancer: FakeAdmin) -> None:
    """
    With textual the tables are renewed, sorted by keys, and q ends it.
    """

    async def play() -> None:
        view, _ = _view(balancer)
        screen = TopScreen(view, view.next(), 0.05)

        def names() -> list[str]:
            table = screen.query_one("#destinations", DataTable)
            rows = range(table.row_count)
            return [str(table.get_row_at(each)[0]) for each in rows]

        async def until(true: Callable[[], object]) -> None:
            for _ in range(300):
                await pilot.pause(0.02)
                if true():
                    return
            raise AssertionError("did not become true")

        async with screen.run_test(size=(100, 40)) as pilot:
            await pilot.pause()
            assert names() == ["web/a", "web/b"]
            head = screen.query_one("#head", Static)
            assert "running for 3m12s" in str(head.render())
            await pilot.press("s")
            await until(lambda: names() == ["web/b", "web/a"])
            balancer.answers["GET /status"] = b""
            await until(lambda: "closed the connection" in str(head.render()))
            assert names() == []
            await pilot.press("q")

    asyncio.run(asyncio.wait_for(play(), 60))


def test_textualOnTerminal(balancer: FakeAdmin) -> None:
    """
    On a terminal it is the view of textual that is shown, if that is installed.
    """
    with onTerminal(balancer.path, "top", "--interval", "100ms") as terminal:
        terminal.until(lambda shown: "DESTINATION" in shown and "Quit" in shown)
        terminal.type("q")
        assert terminal.ended() == 0


def test_withoutTextual(balancer: FakeAdmin) -> None:
    """
    Without textual it is the plain one.
    """
    code = (
        "import sys, importlib.util as u; found = u.find_spec; "
        "u.find_spec = lambda name: None if name == 'textual' else found(name); "
        "from iawlb.command.main import main; sys.exit(main(['top']))"
    )
    made = Terminal(balancer.path, [sys.executable, "-c", code])
    try:
        made.until(lambda shown: "q quit; sort by" in shown)
        made.type("q")
        assert made.ended() == 0
    finally:
        made.close()
