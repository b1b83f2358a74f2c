"""
Tests for the commands that show what the balancer does, and for the command itself.
"""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
import sysconfig
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from iawlb.command import output as outputModule
from iawlb.command.main import COMMANDS, main
from iawlb.command.text import width
from tests.fakeadmin import (
    DATE,
    DESTINATION_A,
    POOL,
    SESSION,
    STATUS,
    Commands,
    FakeAdmin,
    admin,
    http,
    problem,
    run,
)

__all__ = ["admin", "run"]

SCRIPT = str(Path(sysconfig.get_path("scripts"), "iawlb"))


def test_list(admin: FakeAdmin, run: Commands) -> None:
    """
    C{list} shows pools and destinations, and below them why one is down and what is not
    as in the file.
    """
    admin.answers["GET /pools"] = http([POOL], more=DATE)
    for name in ("list", "ls"):
        ended = run(name)
        assert ended.status == 0
        assert ended.lines == [
            "POOL  DESTINATION  STATE  SINCE  ACTIVE/SLOTS  WAITING  MAXWAIT  WEIGHT  "
            "SERVED  ADDRESS",
            "web                up                   2/100        3     1.2s          "
            "   130  0.0.0.0:8080",
            "web   a            up     3m12s           2/4                         1  "
            "   120  tcp:localhost:9001",
            "web   b            down   3m12s            0*                        2*  "
            "     7  tcp:localhost:9002",
            "",
            "web/b: Connection refused",
            "web/b: not as in the file: slots, weight",
        ]


def test_listAnswerTimes(admin: FakeAdmin, run: Commands) -> None:
    """
    Under a policy that times answers, C{list} shows the median of each destination.
    """
    times: list[Any] = [0.0004, 0.0123, 2.5, None]
    pool = {
        **POOL,
        "destinations": [
            {**DESTINATION_A, "answerTime": each, "changed": []} for each in times
        ],
    }
    admin.answers["GET /pools"] = http([pool], more=DATE)
    ended = run("list")
    assert ended.lines[0].split()[-2:] == ["ANSWER", "ADDRESS"]
    shown = [line.split()[-2] for line in ended.lines[2:]]
    assert shown == ["0.4ms", "12ms", "2.5s", "120"]


def test_listChecks(admin: FakeAdmin, run: Commands) -> None:
    """
    The list says which check has failed of a destination that is up, and what takes
    fewer connections than its slots, or has a part of its weight, for now.
    """
    failed = {"passed": False, "why": "status 503\x1b", "at": "2026-11-25T12:03:09Z"}
    many: list[dict[str, Any]] = [
        {"check": {**failed, "passed": True}},
        {"check": failed, "slots": 4, "limit": 2},
        {"check": failed, "why": "refused", "slots": 4, "limit": 4},
        {"weightPercent": 50},
    ]
    found = [
        {**DESTINATION_A, "why": None, "changed": [], "name": name, **each}
        for name, each in zip("abcd", many, strict=True)
    ]
    admin.answers["GET /pools"] = http([{**POOL, "destinations": found}], more=DATE)
    assert run("list").lines[7:] == [
        "web/b: a check failed 3.0s ago: status 503\\x1b",
        "web/b: takes 2 at a time for now",
        "web/c: refused",
        "web/d: has 50% of its weight, as its agent says",
    ]


def test_listOne(admin: FakeAdmin, run: Commands) -> None:
    """
    One pool can be listed; its name is quoted in the request.
    """
    admin.answers["GET /pools/%2E%2E"] = {**POOL, "destinations": []}
    ended = run("list", "..")
    assert len(ended.lines) == 2
    admin.answers["GET /pools/%2E%2E"] = problem("404 Not Found", "no pool '..'")
    assert run("list", "..").errors == "iawlb: no pool '..'\n"


def test_listPaused(admin: FakeAdmin, run: Commands) -> None:
    """
    A pause says who, until when, and how long a client waits at most.
    """
    paused = {
        "by": "uid 0",
        "since": "2026-11-25T12:03:00Z",
        "until": "2026-11-25T12:13:12Z",
        "maxPause": 30,
    }
    pool = {**POOL, "state": "paused", "paused": paused, "destinations": []}
    admin.answers["GET /pools"] = http([pool], more=DATE)
    assert run("list").lines[1].startswith("web                paused    12s")
    assert run("list").lines[3:] == [
        "web: paused by uid 0, resumes in 10m00s, a client waits at most 30s"
    ]
    pool["paused"] = {**paused, "until": None, "maxPause": None}
    admin.answers["GET /pools"] = [pool]
    assert run("list").lines[3:] == ["web: paused by uid 0"]


def test_json(admin: FakeAdmin, run: Commands) -> None:
    """
    With --json the balancer's answer is printed as it came.
    """
    text = '{"a": [1,  2], "name": "\N{SNOWMAN}"}'
    for path, command in (
        ("/pools", "list"),
        ("/status", "status"),
        ("/sessions", "sessions"),
        ("/config", "config"),
        ("/live", "healthcheck"),
        ("/status", "top"),
    ):
        admin.answers[f"GET {path}"] = http(text.encode())
        assert run(command, "--json").output == text + "\n"
    ended = run("status", "--json", encoding="ascii")
    assert ended.output == '{"a": [1,  2], "name": "\\u2603"}\n'


@pytest.mark.parametrize("terminal", [20, 40, 80, 200])
def test_fits(
    admin: FakeAdmin, run: Commands, monkeypatch: pytest.MonkeyPatch, terminal: int
) -> None:
    """
    A thousand destinations with long and wide names fit every terminal.
    """
    wide = "\N{CJK UNIFIED IDEOGRAPH-6F22}" * 9
    many = [{**DESTINATION_A, "name": f"worker-{wide}-{n}"} for n in range(1000)]
    admin.answers["GET /pools"] = [{**POOL, "destinations": many}]
    monkeypatch.setenv("COLUMNS", str(terminal))
    ended = run("list")
    assert ended.status == 0
    assert len(ended.lines) == 1002
    for line in ended.lines:
        assert width(line) <= terminal
    assert ended.lines[0].startswith("POOL")


def test_hostileNames(admin: FakeAdmin, run: Commands) -> None:
    """
    A name cannot write on the terminal.
    """
    name = "a\x1b]0;x\x07\r\n\x9b2J"
    admin.answers["GET /pools"] = [
        {**POOL, "name": name, "destinations": [{**DESTINATION_A, "why": name}]}
    ]
    admin.answers["GET /status"] = {**STATUS, "why": name, "ready": False}
    for command in ("list", "status"):
        ended = run(command)
        assert "a\\x1b]0;x\\x07\\r\\n\\x9b2J" in ended.output
        for bad in "\x1b\x07\r\x9b":
            assert bad not in ended.output


def test_missingMembers(admin: FakeAdmin, run: Commands) -> None:
    """
    An answer of another version, in which much is missing or new, is shown as far as it
    is known.
    """
    strange: dict[str, Any] = {
        "name": "web",
        "new": {},
        "destinations": [{"since": "?"}],
        "listeners": [{}],
    }
    admin.answers["GET /pools"] = http([strange], more="Date: never\r\n")
    admin.answers["GET /status"] = http(
        {"pools": [strange]}, more="Date: Wed, 25 Nov 2026 12:03:12 -0000\r\n"
    )
    admin.answers["GET /sessions"] = {"sessions": [{}]}
    for command in ("list", "status", "sessions"):
        assert run(command).status == 0
    admin.answers["GET /sessions"] = {}
    ended = run("sessions")
    assert ended.status == 1
    assert "--json" in ended.errors


def test_status(admin: FakeAdmin, run: Commands) -> None:
    """
    C{status} says in a few lines whether all is well.
    """
    admin.answers["GET /status"] = http(STATUS, more=DATE)
    assert run("status").lines == [
        "iawlb 0.1.0, process 4711, running for 3m12s, ready",
        "clients       5 of at most 5000, 3 waiting, the oldest for 1.2s",
        "destinations  1 up of 2",
        "pool web      up, 2/100 active, 3 waiting, 4 delayed, 11 refused so far",
    ]


def test_statusTls(admin: FakeAdmin, run: Commands) -> None:
    """
    C{status} says when a certificate expires soon, or has expired, and when its renewal
    cannot be used.
    """

    def listener(expires: str, problem: str | None = None) -> dict[str, Any]:
        tls = {"expires": expires, "expiring": "example.org", "problem": problem}
        return {"name": "s", "address": ":443", "state": "listening", "tls": tls}

    listeners = [
        listener("2027-01-25T12:00:00Z"),
        listener("2026-11-28T12:03:12Z", "there is no private key in '/a.pem'"),
        listener("2026-11-25T12:03:00Z"),
        {"name": "p", "address": ":80", "state": "listening", "tls": None},
    ]
    pools = [{**POOL, "listeners": listeners}]
    admin.answers["GET /status"] = http({**STATUS, "pools": pools}, more=DATE)
    assert run("status").lines[4:] == [
        "  :443: certificates have changed and cannot be used: there is no private key "
        "in '/a.pem'",
        "  :443: the certificate of example.org expires in 3d00h",
        "  :443: the certificate of example.org expired 12s ago",
    ]


def test_statusIll(admin: FakeAdmin, run: Commands) -> None:
    """
    C{status} says what is not well: a failed reload with its messages, lost log lines,
    a busy process, no destination, no more clients.
    """
    ill = {
        **STATUS,
        "state": "stopping",
        "ready": False,
        "why": "nothing is up",
        "oldestWait": None,
        "accepting": False,
        "pools": [],
        "reload": {
            "successful": False,
            "at": "2026-11-25T12:03:00Z",
            "messages": ["iawlb.toml:3: pools.web.slotz is not a setting: write slots"],
            "file": "iawlb.toml",
        },
        "log": {"dropped": 12, "level": "info"},
        "loopLag": 0.31,
    }
    admin.answers["GET /status"] = http(ill, more=DATE)
    assert run("status").lines == [
        "iawlb 0.1.0, process 4711, stopping, has run for 3m12s, not ready: "
        "nothing is up",
        "clients       5 of at most 5000, 3 waiting; accepts no more for now",
        "destinations  1 up of 2",
        "file          iawlb.toml, FAILED to reload 12s ago",
        "  iawlb.toml:3: pools.web.slotz is not a setting: write slots",
        "log           12 lines dropped",
        "loop lag      0.31s: this process is busy",
    ]
    ill["reload"] = {"successful": None, "file": "iawlb.toml", "at": None}
    admin.answers["GET /status"] = ill
    assert "file          iawlb.toml, as at the start" in run("status").lines
    ill["reload"] = {"successful": True, "file": "a.toml", "at": "2026-11-25T12:03:00Z"}
    admin.answers["GET /status"] = http(ill, more=DATE)
    assert "file          a.toml, read 12s ago" in run("status").lines


def test_sessions(admin: FakeAdmin, run: Commands) -> None:
    """
    C{sessions} lists them, and asks only for those that were wanted.
    """
    admin.answers["GET /sessions"] = {
        "sessions": [SESSION],
        "total": 1,
        "truncated": False,
    }
    ended = run("sessions")
    assert ended.lines == [
        "ID  POOL  CLIENT           DESTINATION  STATE       AGE  WAITED  IDLE   IN   "
        "OUT  TRIES",
        "17  web   127.0.0.1:50312  a            relaying  1m01s    0.2s  3.0s  812  "
        "4.8M      1",
    ]
    assert admin.requests[0].query == {"limit": "100"}
    given = "--older 1h --dest web/a --pool web --waiting --limit 7"
    assert run("sessions", *given.split()).status == 0
    assert admin.requests[1].query == {
        "older": "3600.0",
        "destination": "web/a",
        "pool": "web",
        "waiting": "true",
        "limit": "7",
    }
    admin.answers["GET /sessions"] = {
        "sessions": [SESSION],
        "total": 400,
        "truncated": True,
    }
    assert run("sessions").lines[2] == "(1 of 400: --limit shows more)"


def test_config(admin: FakeAdmin, run: Commands) -> None:
    """
    C{config} shows what is not as by default, with --all everything, and what differs
    from the file.
    """
    setting = {
        "path": "pools.web.queue-timeout",
        "value": 10.0,
        "default": 30.0,
        "origin": "iawlb.toml:4",
        "live": True,
    }
    usual = {**setting, "path": "pools.web.slots", "origin": "default", "live": False}
    value: dict[str, Any] = {"file": "iawlb.toml", "settings": [setting, usual]}
    admin.answers["GET /config"] = value
    assert run("config").lines == [
        "file: iawlb.toml",
        "SETTING                  VALUE  DEFAULT  FROM          LIVE",
        "pools.web.queue-timeout  10     30       iawlb.toml:4  yes",
    ]
    assert len(run("config", "--all").lines) == 4
    value["differences"] = [{"path": "pools.web.slots", "file": 4, "runtime": 2}]
    assert run("config").lines[3:] == [
        "",
        "Not as in the file:",
        "SETTING          FILE  RUNNING",
        "pools.web.slots  4     2",
    ]


def test_healthcheck(
    admin: FakeAdmin, run: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    C{healthcheck} ends with 0 or 1, and never with another status.
    """
    admin.answers["GET /live"] = {"live": True}
    assert run("healthcheck").status == 0
    admin.answers["GET /ready"] = {"ready": True}
    assert run("healthcheck", "--ready").output == "ready\n"
    admin.answers["GET /ready"] = http(
        {"ready": False, "why": "no destination is up"}, "503 Service Unavailable"
    )
    ended = run("healthcheck", "--ready")
    assert (ended.status, ended.errors) == (1, "iawlb: no destination is up\n")
    ended = run("healthcheck", "--ready", "--json")
    assert (ended.status, '"ready": false' in ended.output) == (1, True)
    monkeypatch.setenv("IAWLB_ADMIN", "/nowhere")
    assert run("healthcheck").status == 1
    assert run("healthcheck", "--json").status == 1


def test_help(run: Commands) -> None:
    """
    Every command has help, and is in that of the whole.
    """
    whole = run("--help").output
    assert run().status == 2
    assert run().output.rstrip() == whole.rstrip()
    for name, (_, text) in COMMANDS.items():
        assert name in whole
        assert text in whole
        ended = run(name, "--help")
        assert ended.status == 0
        assert ended.output.startswith(f"Usage: iawlb {name}")


def test_eachHasJson(run: Commands) -> None:
    """
    Every command that asks the balancer takes --json.
    """
    local = ("run", "check", "schema", "completion")
    for name in COMMANDS:
        assert ("--json" in run(name, "--help").output) == (name not in local)


def test_wrongUse(run: Commands) -> None:
    """
    Wrong usage is one line that says what to write, and 2.
    """
    for words, said in (
        ("lsit", "there is no command 'lsit': write list (iawlb --help)"),
        ("xyz", "there is no command 'xyz': iawlb --help lists those there are"),
        ("list --jsn", "--json"),
        ("pause --for x", "'x' is not a duration: write 500ms, 30s, 5m or 1h"),
        ("kill", "Missing argument"),
        ("--nothing", "No such option"),
        ("wait a --until never", "'drained', 'up', 'removable'"),
    ):
        ended = run(*words.split())
        assert ended.status == 2
        assert said in ended.errors
        assert ended.errors.startswith("iawlb: ")
        assert ended.errors.count("\n") == 1


def test_version(run: Commands) -> None:
    """
    C{--version} says which version it is.
    """
    assert run("--version").output == f"iawlb {version('iawlb')}\n"


def test_starts(admin: FakeAdmin) -> None:
    """
    The installed command asks a balancer without Twisted, and without a home, a locale
    and most of the environment.
    """
    admin.answers["GET /status"] = {**STATUS, "version": "\N{SNOWMAN}"}
    done = subprocess.run(
        [SCRIPT, "status"],
        env={"IAWLB_ADMIN": admin.path, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"iawlb ")
    code = (
        "import sys; from iawlb.command.main import main; main(['status']); "
        "sys.exit(any(each.startswith('twisted') for each in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"IAWLB_ADMIN": admin.path},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_readerLeaves(admin: FakeAdmin) -> None:
    """
    A reader that has seen enough, such as C{head}, ends the command quietly.
    """
    many = [{**DESTINATION_A, "name": f"worker-{n}"} for n in range(5000)]
    admin.answers["GET /pools"] = [{**POOL, "destinations": many}]
    done = subprocess.run(
        f"{SCRIPT} list | head -1; echo ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        env={"IAWLB_ADMIN": admin.path, "PATH": os.environ["PATH"]},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == b""
    assert done.stdout.splitlines()[1] == b"141"


def test_outputFails(admin: FakeAdmin, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The same in this process: a reader that left, and a full disk.
    """
    admin.answers["GET /pools"] = [POOL]
    reading, writing = os.pipe()
    os.close(reading)
    for descriptor, status in (
        (writing, 141),
        (os.open("/dev/full", os.O_WRONLY), 1),
    ):
        with open(descriptor, "w") as output, monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", output)
            assert main(["list", "--admin", admin.path]) == status


def test_fullDisk(admin: FakeAdmin) -> None:
    """
    An output that cannot be written is one line, and 1.
    """
    admin.answers["GET /pools"] = [POOL]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [SCRIPT, "list"],
            env={"IAWLB_ADMIN": admin.path},
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == (b"iawlb: cannot write the output: No space left on device\n")


def test_noOutput(admin: FakeAdmin, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    With both outputs closed, the status is still right.
    """
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    admin.answers["GET /live"] = {"live": True}
    assert main(["healthcheck"]) == 0
    assert outputModule.isTerminal(None) is False
    assert main(["list"]) == 1
    sys.stdout.close()


def _onTerminal(words: str, **environment: str) -> str:
    """
    Run a command on a terminal of 60 columns.
    """
    ours, theirs = pty.openpty()
    try:
        os.set_blocking(ours, True)
        import fcntl
        import struct
        import termios

        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 20, 60, 0, 0))
        subprocess.run(
            [SCRIPT, *words.split()],
            env=environment,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            timeout=60,
            check=False,
        )
        os.close(theirs)
        theirs = -1
        parts = []
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # what Linux says at the end
                break
            parts.append(part)
        return b"".join(parts).decode()
    finally:
        os.close(ours)
        if theirs >= 0:
            os.close(theirs)


def test_colours(admin: FakeAdmin) -> None:
    """
    On a terminal states have colours and lines fit; not with NO_COLOR, and not on one
    that is dumb.
    """
    admin.answers["GET /pools"] = [POOL]
    given = {"IAWLB_ADMIN": admin.path, "TERM": "xterm"}
    shown = _onTerminal("list", **given)
    assert "\x1b[31mdown \x1b[0m" in shown
    plain = _onTerminal("list", NO_COLOR="1", **given)
    assert "\x1b" not in plain
    assert max(len(line) for line in plain.splitlines()) <= 60
    assert "\x1b" not in _onTerminal("list", **{**given, "TERM": "dumb"})


def test_noWidth(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Without a terminal nothing is shortened.
    """
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert outputModule.columns() is None
    assert outputModule.outputDescriptor() == -1
    monkeypatch.setenv("COLUMNS", "0")
    assert outputModule.columns() is None
    monkeypatch.setenv("COLUMNS", "41")
    assert outputModule.columns() == 41
