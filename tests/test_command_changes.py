"""
Tests for the commands that change what the balancer does.
"""

from __future__ import annotations

import signal
import subprocess
import sysconfig
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from iawlb.command import outcome
from iawlb.command.main import main
from iawlb.command.output import Progress
from tests.fakeadmin import (
    DESTINATION_A,
    DESTINATION_B,
    POOL,
    Commands,
    FakeAdmin,
    Request,
    admin,
    http,
    problem,
    run,
)

__all__ = ["admin", "run"]

SCRIPT = str(Path(sysconfig.get_path("scripts"), "iawlb"))
DONE = {"result": "done", "left": 0, "messages": []}

PAUSE: dict[str, Any] = {
    "target": "*",
    "maxPause": None,
    "drainTimeout": 30.0,
    "for": None,
    "wait": True,
    "kill": False,
}


@pytest.mark.parametrize(
    ("words", "asked", "body", "said"),
    [
        ("pause", "POST /pause", PAUSE, "all: paused"),
        (
            "pause web --max-pause 20s --drain-timeout 1m --for 10m --no-wait --kill",
            "POST /pause",
            {
                "target": "web",
                "maxPause": 20.0,
                "drainTimeout": 60.0,
                "for": 600.0,
                "wait": False,
                "kill": True,
            },
            "web: paused",
        ),
        ("resume", "POST /resume", {"target": "*", "spread": 0.0}, "all: resumed"),
        (
            "resume web/a --spread 2s",
            "POST /resume",
            {"target": "web/a", "spread": 2.0},
            "web/a: resumed",
        ),
        ("stop web", "POST /stop", {"target": "web"}, "web: stopped"),
        (
            "drain web/a",
            "POST /drain",
            {"target": "web/a", "timeout": 300.0, "kill": False, "wait": True},
            "web/a: drained",
        ),
        (
            "drain a --timeout 1s --kill --no-wait",
            "POST /drain",
            {"target": "a", "timeout": 1.0, "kill": True, "wait": False},
            "a: draining",
        ),
        (
            "deploy web --dest localhost:9003 --dest tcp:h:1\x20name=d\x20slots=4 "
            "--deploy-timeout 5s --drain-timeout 6s --force",
            "POST /deploy",
            {
                "pool": "web",
                "destinations": [
                    {"address": "localhost:9003", "name": None},
                    {"address": "tcp:h:1", "name": "d", "slots": 4},
                ],
                "deployTimeout": 5.0,
                "drainTimeout": 6.0,
                "force": True,
            },
            "web: deployed",
        ),
        (
            "wait web/a",
            "POST /wait",
            {"target": "web/a", "until": "drained", "timeout": 60.0},
            "web/a: drained",
        ),
        (
            "wait a --until up --timeout 2s",
            "POST /wait",
            {"target": "a", "until": "up", "timeout": 2.0},
            "a: up",
        ),
        (
            "add web localhost:9003 name=c slots=4 weight=2",
            "POST /destinations",
            {
                "pool": "web",
                "address": "localhost:9003",
                "name": "c",
                "slots": 4,
                "weight": 2,
            },
            "web/c: added",
        ),
        (
            "remove web/a --timeout 5s --kill",
            "DELETE /destinations/web/a",
            None,
            "web/a: removed",
        ),
        (
            "set web slots=4 queue-timeout=10s",
            "POST /set",
            {"target": "web", "slots": 4, "queue-timeout": "10s"},
            "web: slots=4 queue-timeout=10s",
        ),
        ("kill 17", "DELETE /sessions/17", None, "17: closed"),
        (
            "log debug",
            "POST /log",
            {"level": "debug"},
            "messages from debug on are written",
        ),
    ],
)
def test_asks(
    admin: FakeAdmin, run: Commands, words: str, asked: str, body: Any, said: str
) -> None:
    """
    Each command asks for what was written, and says that it is done, and then what the
    balancer adds to that; with --json it prints what the balancer says.
    """
    admin.answers["GET /destinations"] = [DESTINATION_A, DESTINATION_B]
    admin.answers[asked] = DONE
    given = words.replace(" name=d slots=4 --", "\0name=d\0slots=4 --").split()
    arguments = [each.replace("\0", " ") for each in given]
    if arguments[0] == "add":
        arguments = words.split()
    ended = run(*arguments)
    assert (ended.status, ended.output, ended.errors) == (0, f"{said}\n", "")
    assert admin.asked() == [(asked, body)]
    admin.answers[asked] = {**DONE, "messages": ["one\x1b", "two"]}
    assert run(*arguments).output == f"{said}\none\\x1b\ntwo\n"
    answer = b'{"result": "done",  "left": 0}'
    admin.answers[asked] = http(answer)
    assert run(*arguments, "--json").output == answer.decode() + "\n"


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        ({"result": "left", "left": 3, "messages": []}, 3, "timed out with 3 conn"),
        ({"result": "left", "left": 0}, 3, "timed out\n"),
        ({"result": "left", "left": 1}, 3, "timed out with 1 connection left\n"),
        ({"result": "left", "left": 3, "messages": ["3 are left"]}, 3, "3 are left"),
        ({"result": "undone", "left": 3, "messages": []}, 4, "undone by another"),
        ({"result": "failed", "messages": ["no"]}, 1, "no"),
        ({"result": "maybe"}, 1, "the result is maybe"),
        ({"result": [1]}, 1, "the result is 1"),
    ],
)
def test_results(
    admin: FakeAdmin, run: Commands, answer: Any, status: int, said: str
) -> None:
    """
    The exit status says what became of it: 3 if connections are left, 4 if another has
    undone it.
    """
    admin.answers["POST /pause"] = answer
    ended = run("pause", "web")
    assert (ended.status, ended.output) == (status, "")
    assert ended.errors.startswith(f"iawlb: {said}")
    assert run("pause", "web", "--json").status == status


def test_deployUndone(admin: FakeAdmin, run: Commands) -> None:
    """
    A deploy whose destinations are not ready is undone, and ends with 1.
    """
    admin.answers["POST /deploy"] = {"result": "undone", "messages": ["c is not ready"]}
    ended = run("deploy", "web", "--dest", "localhost:1")
    assert (ended.status, ended.errors) == (1, "iawlb: c is not ready\n")


def test_answerWithoutResult(admin: FakeAdmin, run: Commands) -> None:
    """
    A destination that was added is called by the name that the balancer gave it.
    """
    admin.answers["POST /destinations"] = http(
        {"name": "9003", "pool": "web"}, "201 Created"
    )
    assert run("add", "web", "localhost:9003").output == "web/9003: added\n"
    admin.answers["POST /destinations"] = http(["?"], "201 Created")
    assert run("add", "web", "localhost:9003").output == "web/localhost:9003: added\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("set web slots", "'slots' is not of the form NAME=VALUE: write slots=4"),
        ("set web =4", "'=4' is not of the form NAME=VALUE"),
        ("set web a=1 a=2", "'a=2' is given twice"),
        ("set web target=b", "'target=b' is given twice"),
        ("add web localhost:1 slots=1 slots=2", "slots is given twice"),
    ],
)
def test_wrongSettings(admin: FakeAdmin, run: Commands, words: str, said: str) -> None:
    """
    What cannot be read as settings is wrong usage, and nothing is asked for.
    """
    ended = run(*words.split())
    assert ended.status == 2
    assert ended.errors.startswith(f"iawlb: {said}")
    assert admin.requests == []


def test_findsDestination(admin: FakeAdmin, run: Commands) -> None:
    """
    The destination to remove can be named without its pool, and its name may hold a
    slash; a name that several pools have is refused, and an unknown one too.
    """
    every = [
        {"pool": "web", "name": "/run/app.sock"},
        {"pool": "web", "name": "a"},
        {"pool": "db", "name": "a"},
        {"pool": "db", "name": "web/a"},
    ]
    admin.answers["GET /destinations"] = every
    admin.answers["DELETE /destinations/web/%2Frun%2Fapp%2Esock"] = DONE
    admin.answers["DELETE /destinations/web/a"] = DONE
    for target in ("/run/app.sock", "web//run/app.sock", "web/a"):
        assert run("remove", target).status == 0
    assert admin.requests[1].query == {"timeout": "300.0", "kill": "false"}
    ended = run("remove", "a")
    assert ended.status == 1
    assert ended.errors == "iawlb: there are several destinations 'a': web/a, db/a\n"
    ended = run("remove", "c")
    assert ended.errors.startswith("iawlb: there is no destination 'c'; there is web//")
    admin.answers["GET /destinations"] = []
    assert run("remove", "c").errors.endswith("there is none\n")
    admin.answers["GET /destinations"] = [
        {"pool": "web", "name": str(n)} for n in range(1000)
    ]
    assert run("remove", "c").errors.endswith("web/9, ...\n")


def test_killSeveral(admin: FakeAdmin, run: Commands) -> None:
    """
    Several sessions can be closed at once.
    """
    admin.answers["DELETE /sessions/1"] = DONE
    admin.answers["DELETE /sessions/2"] = {"result": "left"}
    admin.answers["DELETE /sessions/3"] = DONE
    ended = run("kill", "1", "2", "3")
    assert (ended.status, ended.output) == (3, "1: closed\n3: closed\n")


CHANGE = {"path": "pools.web.slots", "before": 4, "after": 8, "action": "change"}


def test_reload(admin: FakeAdmin, run: Commands) -> None:
    """
    C{reload} shows what has changed, and with --diff what would.
    """
    value: dict[str, Any] = {"result": "done", "changes": [CHANGE], "messages": []}
    admin.answers["POST /reload"] = value
    shown = [
        "CHANGE  SETTING          BEFORE  AFTER",
        "change  pools.web.slots  4       8",
    ]
    assert run("reload").lines == [*shown, "reloaded"]
    assert run("reload", "--diff").lines == [*shown, "these would change"]
    assert admin.asked()[1] == ("POST /reload", {"diff": True})
    assert '"pools.web.slots"' in run("reload", "--json").output
    value["messages"] = ["pools.web.destinations.a: it finishes 2 sessions"]
    assert run("reload").lines == [*shown, "reloaded", *value["messages"]]
    value["changes"] = value["messages"] = []
    assert run("reload").lines == ["reloaded; nothing has changed"]
    assert run("reload", "--diff").lines == ["nothing would change"]


def test_reloadFails(admin: FakeAdmin, run: Commands) -> None:
    """
    A file with mistakes changes nothing, and every mistake is a line.
    """
    admin.answers["POST /reload"] = problem(
        "422 Unprocessable", "2 mistakes", mistakes=["a.toml:1: no", "a.toml:2: no\n"]
    )
    ended = run("reload")
    assert (ended.status, ended.output) == (1, "")
    assert ended.errors == (
        "iawlb: a.toml:1: no\niawlb: a.toml:2: no\\n\niawlb: nothing was changed\n"
    )
    assert '"mistakes"' in run("reload", "--json").output
    admin.answers["POST /reload"] = problem("403 Forbidden", "admins only")
    assert run("reload").errors == "iawlb: permission denied: admins only\n"
    admin.answers["POST /reload"] = http(["?"], "409 Conflict")
    assert run("reload").errors == "iawlb: 409 Conflict\n"


def _later(seconds: float) -> Callable[[Request], bytes]:
    def answer(request: Request) -> bytes:
        time.sleep(seconds)
        return http(DONE)

    return answer


def test_progress(
    admin: FakeAdmin, run: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    On a terminal, a line says how many connections are left; it is gone in the end, and
    a balancer that cannot say costs nothing.
    """
    made = Progress.__init__

    def onTerminal(self: Progress) -> None:
        made(self)
        self.wanted = True

    monkeypatch.setattr(Progress, "__init__", onTerminal)
    monkeypatch.setattr("iawlb.command.client.EVERY", 0.05)
    admin.answers["POST /pause"] = _later(0.15)
    admin.answers["GET /pools"] = [POOL, {**POOL, "name": "db", "active": 5}]
    for target, left in (("*", 7), ("web", 2), ("web/a", 2), ("a", 4), ("b", 0)):
        ended = run("pause", target)
        name = "all" if target == "*" else target
        assert ended.errors.startswith(f"\r\x1b[K{name}: {left} connections left\r")
        assert ended.errors.endswith("left\r\x1b[K")
        assert ended.output == f"{name}: paused\n"
    admin.answers["GET /pools"] = [{"name": "web", "active": "?"}]
    assert run("pause", "web").errors == ""
    del admin.answers["GET /pools"]
    assert run("pause", "web").errors == ""


def test_noProgress(
    admin: FakeAdmin, run: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Elsewhere there is no such line.
    """
    monkeypatch.setattr("iawlb.command.client.EVERY", 0.05)
    admin.answers["POST /pause"] = _later(0.3)
    assert run("pause").errors == ""
    assert [each.method for each in admin.requests] == ["POST"]


def _paused(until: str | None, **more: Any) -> dict[str, Any]:
    pause = {"by": "x", "since": "2026-11-25T12:00:00Z", "until": until}
    return {**POOL, "state": "paused", "paused": pause, **more}


def test_interrupted(
    admin: FakeAdmin, run: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Ctrl-C says in what state all was left, and how to undo it.
    """

    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("iawlb.command.connection.Connection.awaitAnswer", interrupt)
    admin.answers["POST /pause"] = DONE
    admin.answers["GET /pools"] = [_paused(None)]
    ended = run("pause", "web")
    assert ended.status == 130
    assert ended.errors == (
        "iawlb: interrupted: web is paused until it is resumed with 2 connections "
        "left; iawlb resume web undoes it\n"
    )
    admin.answers["GET /pools"] = [_paused("2026-11-25T12:10:00Z", active=0)]
    ended = run("pause")
    assert ended.errors.startswith("iawlb: interrupted: web is paused until ")
    assert ended.errors.endswith("; iawlb resume undoes it\n")
    admin.answers["GET /pools"] = [{**POOL, "name": str(n)} for n in range(7)]
    assert "4 is up with 2 connections left, and 2 more" in run("pause").errors
    admin.answers["GET /pools"] = []
    assert run("pause").errors == "iawlb: interrupted: nothing is left\n"
    del admin.answers["GET /pools"]
    assert run("pause", "web").errors == (
        "iawlb: interrupted; iawlb list shows the state of web\n"
    )


def test_reallyInterrupted(admin: FakeAdmin) -> None:
    """
    The installed command does so on SIGINT.
    """
    came = threading.Event()

    def wait(request: Request) -> bytes:
        came.set()
        time.sleep(0.5)
        return http(DONE)

    admin.answers["POST /drain"] = wait
    admin.answers["GET /pools"] = [
        {**POOL, "destinations": [{**DESTINATION_A, "state": "draining"}]}
    ]
    process = subprocess.Popen(
        [SCRIPT, "drain", "web/a"],
        env={"IAWLB_ADMIN": admin.path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert came.wait(60)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (130, b"")
    assert errors == (
        b"iawlb: interrupted: web/a is draining with 2 connections left; "
        b"iawlb resume web/a undoes it\n"
    )


def test_interruptedElsewhere(
    admin: FakeAdmin, run: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Ctrl-C in another command ends it with 130 and without a word.
    """

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("iawlb.command.connection.Connection.connect", interrupt)
    ended = run("list")
    assert (ended.status, ended.errors.strip()) == (130, "")


def test_waitsLonger(
    admin: FakeAdmin, run: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The command waits for as long as it has told the balancer to wait, and somewhat
    more.
    """
    monkeypatch.setattr("iawlb.command.calls.LIMIT", 0.2)
    admin.answers["POST /pause"] = _later(0.5)
    assert run("pause", "--drain-timeout", "3s").status == 0
    ended = run("pause", "--drain-timeout", "0s")
    assert (ended.status, "did not answer in time" in ended.errors) == (1, True)


def test_completesNames(
    admin: FakeAdmin, run: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The shell completes names of pools and destinations, commands and options, and
    offers nothing where no balancer answers soon.
    """

    def complete(*words: str) -> list[str]:
        given = {
            "_IAWLB_COMPLETE": "bash_complete",
            "COMP_WORDS": " ".join(("iawlb", *words)),
            "COMP_CWORD": str(len(words)),
            "IAWLB_ADMIN": admin.path,
        }
        done = subprocess.run(
            [SCRIPT], env=given, capture_output=True, timeout=60, check=False
        )
        assert done.stderr == b""
        return done.stdout.decode().split()

    odd = {**DESTINATION_A, "name": "x\x1b"}
    admin.answers["GET /pools"] = [{**POOL, "destinations": [DESTINATION_A, odd]}]
    assert complete("pause", "") == ["plain,web", "plain,web/a"]
    assert complete("pause", "web/") == ["plain,web/a"]
    assert complete("drain", "") == ["plain,web/a"]
    assert complete("stop", "") == ["plain,web"]
    assert complete("--admin", admin.path, "stop", "w") == ["plain,web"]
    assert complete("pau") == ["plain,pause"]
    assert "plain,--max-pause" in complete("pause", "--m")
    assert "plain,--admin" in complete("--a")
    admin.answers["GET /pools"] = [{"strange": 1}]
    assert complete("pause", "") == []
    admin.answers["GET /pools"] = _later(1)
    assert complete("pause", "") == []


def test_completesHere(
    admin: FakeAdmin,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """
    The same in this process.
    """

    def complete(*words: str) -> list[str]:
        monkeypatch.setenv("_IAWLB_COMPLETE", "bash_complete")
        monkeypatch.setenv("COMP_WORDS", " ".join(("iawlb", *words)))
        monkeypatch.setenv("COMP_CWORD", str(len(words)))
        with pytest.raises(SystemExit):
            main([])
        return capsys.readouterr().out.split()

    admin.answers["GET /pools"] = [{**POOL, "destinations": [DESTINATION_A]}]
    assert complete("pause", "w") == ["plain,web", "plain,web/a"]
    assert complete("stop", "w") == ["plain,web"]
    assert complete("drain", "w") == ["plain,web/a"]
    assert complete("pau") == ["plain,pause"]
    assert complete("--adm") == ["plain,--admin"]
    admin.answers["GET /pools"] = ["strange"]
    assert complete("pause", "w") == []


def test_looksBriefly() -> None:
    """
    What is shown beside the answer never holds it up for long.
    """
    assert outcome.LOOK <= 2
