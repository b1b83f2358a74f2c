"""
Tests for the commands run, check, schema and completion, and for the command against a
real balancer.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sysconfig
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.scripts import twistd

from iawlb import tap
from iawlb.command import local, serving
from iawlb.command.local import withFile
from tests.fakeadmin import Commands, Ended, run
from tests.integration.programs import (
    Peers,
    Program,
    answers,
    connect,
    echo,
    freePort,
    readAll,
    until,
)

__all__ = ["run"]

SCRIPT = str(Path(sysconfig.get_path("scripts"), "iawlb"))

GOOD = """\
[pools.web]
listen = "127.0.0.1:{port}"
slots = 4
[pools.web.destinations]
a = {{ address = "localhost:{a}", slots = 2 }}
"""


def test_check(run: Commands, tmp_path: Path) -> None:
    """
    C{check} prints every mistake of every file, and ends with 1 if there is one. What
    C{run} refuses is a mistake, such as a file of tokens that there is not.
    """
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    good.write_text(GOOD.format(port=8080, a=9001))
    bad.write_text("[pools.web]\nlisten = 8080\nslotz = 1\nqueue-timeout = 'x'\n")
    ended = run("check", str(good))
    assert (ended.status, ended.output) == (0, f"{good}: valid\n")
    ended = run("check", str(bad), str(good))
    assert (ended.status, ended.output) == (1, f"{good}: valid\n")
    lines = ended.errors.splitlines()
    assert len(lines) >= 2
    for line in lines:
        assert re.match(rf"{re.escape(str(bad))}:\d+: ", line)
    good.write_text(f"{good.read_text()}[admin]\nlisten = '0.0.0.0:8405'\n")
    ended = run("check", str(good))
    assert ended.status == 1
    assert f"{good}:7: admin.listen: 0.0.0.0:8405 can be reached" in ended.errors
    tokens = tmp_path / "tokens"
    good.write_text(f"{good.read_text()}tokens = '{tokens}'\n")
    ended = run("check", str(good))
    assert ended.status == 1
    assert f"{good}:8: admin.tokens: cannot read {tokens}" in ended.errors
    ended = run("check", str(tmp_path / "none"))
    assert ended.status == 1
    assert "No such file" in ended.errors
    assert run("check").status == 2


def test_schema(run: Commands) -> None:
    """
    C{schema} prints the JSON Schema of the file.
    """
    schema = json.loads(run("schema").output)
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert "pools" in schema["properties"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(run: Commands, shell: str) -> None:
    """
    C{completion} prints the script of the shell.
    """
    ended = run("completion", shell)
    assert ended.status == 0
    assert "_IAWLB_COMPLETE" in ended.output
    assert run("completion", "csh").status == 2


def test_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The first word that is a file is the configuration file.
    """
    monkeypatch.chdir(tmp_path)
    Path("conf").write_text("")
    for given, made in (
        (["a.toml"], ["--config=a.toml"]),
        (["conf", "--slots", "4"], ["--config=conf", "--slots", "4"]),
        (["--slots", "conf", "8080"], ["--slots", "conf", "8080"]),
        (["--slots=4", "a.toml"], ["--slots=4", "--config=a.toml"]),
        (["8080", "9001"], ["8080", "9001"]),
        (["--", "conf"], ["--", "conf"]),
        (["--admin=x.toml"], ["--admin=x.toml"]),
        ([], []),
    ):
        assert withFile(given) == made


def test_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The process is that of twistd in the foreground, with the admin socket at the usual
    place.
    """
    ran: list[Any] = []
    monkeypatch.setattr(twistd, "runApp", ran.append)
    monkeypatch.setattr("iawlb.process.options.raiseFileLimit", lambda: None)
    monkeypatch.setattr(serving, "usualPlace", lambda *_: "/run/x/admin.sock")
    monkeypatch.delenv("IAWLB_ADMIN", raising=False)
    serving.serve(["8080", "9001"])
    (launcher,) = ran
    assert [launcher[each] for each in ("nodaemon", "no_save", "pidfile")] == [1, 1, ""]
    options = launcher.subOptions
    assert options.parent is launcher
    assert options.processSettings.admin == "/run/x/admin.sock"
    maker = launcher.loadedPlugins[launcher.subCommand]
    assert maker.makeService is tap.makeService


def test_noPlace(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    A user without a place for the admin socket is told so, and is served.
    """
    ran: list[Any] = []
    monkeypatch.setattr(twistd, "runApp", ran.append)
    monkeypatch.setattr("iawlb.process.options.raiseFileLimit", lambda: None)
    monkeypatch.setattr(serving, "usualPlace", lambda *_: None)
    monkeypatch.delenv("IAWLB_ADMIN", raising=False)
    serving.serve(["8080", "9001"])
    assert capsys.readouterr().err == (
        "iawlb: without XDG_RUNTIME_DIR and a home there is no usual place for the "
        "admin socket: give --admin ADDRESS to control this balancer\n"
    )
    assert len(ran) == 1
    serving.serve(["8080", "9001", "--admin", "/tmp/x.sock"])
    assert capsys.readouterr().err == ""


def test_runCommand(
    run: Commands, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """
    All options reach the balancer as they were written, also those that C{click} has
    never seen.
    """
    served: list[list[str]] = []
    monkeypatch.setattr(serving, "serve", served.append)
    file = str(tmp_path / "a.toml")
    assert run("run", file, "--queue-timeout", "3s", "--new=1", "-x").status == 0
    assert served == [[f"--config={file}", "--queue-timeout", "3s", "--new=1", "-x"]]


def test_runHelp(run: Commands) -> None:
    """
    The help of C{run} has every option of C{twistd iawlb}.
    """
    text = run("run", "--help").output
    for option in tap.Options().longOpt:
        if option.rstrip("=") not in ("reactor", "help-reactors"):
            assert f"--{option.rstrip('=')}" in text, option
    assert "twistd -n iawlb" not in text
    assert "iawlb run 8080 9001 9002" in text


def test_completesOptions() -> None:
    """
    The shell completes the options of C{run}, and names of files.
    """
    context = local.runCommand.make_context("run", [])
    found = local.runCommand.shell_complete(context, "--queue-")
    assert [each.value for each in found] == ["--queue-size", "--queue-timeout"]
    (found,) = local.runCommand.shell_complete(context, "ia")
    assert (found.value, found.type) == ("ia", "file")


class Real:
    """
    A balancer that C{iawlb run} runs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = freePort()
        self.servers = [Peers(echo), Peers(echo)]
        self.file = folder / "iawlb.toml"
        self.write()
        self.environment = {
            "HOME": str(folder),
            "XDG_RUNTIME_DIR": str(folder),
            "PATH": os.environ["PATH"],
        }
        # Root's usual place is the machine's own; the tests have theirs.
        self.admin = str(folder / "admin.sock")
        self.environment["IAWLB_ADMIN"] = self.admin
        command = ["env", "-i"]
        command += [f"{name}={value}" for name, value in self.environment.items()]
        self.program = Program(
            [*command, SCRIPT, "run", str(self.file)],
            folder,
            ready=lambda: answers(self.admin),
        )
        self.program.start()

    def write(self, more: str = "") -> None:
        """
        Write the file.
        """
        text = GOOD.format(port=self.port, a=self.servers[0].port)
        self.file.write_text(text + more)

    def __call__(self, *arguments: str) -> Ended:
        """
        Run a command.
        """
        done = subprocess.run(
            [SCRIPT, *arguments],
            env=self.environment,
            capture_output=True,
            timeout=60,
            check=False,
        )
        errors = done.stderr.decode()
        assert "Traceback" not in errors, errors
        return Ended(done.returncode, done.stdout.decode(), errors)

    def client(self) -> socket.socket:
        """
        Be a client.
        """
        return connect(self.port)

    def destroy(self) -> None:
        """
        End all.
        """
        self.program.destroy()
        for each in self.servers:
            each.close()


@pytest.fixture
def real(tmp_path: Path) -> Iterator[Real]:
    """
    Gives a real balancer.
    """
    made = Real(tmp_path)
    yield made
    made.destroy()


def _talk(client: socket.socket) -> bytes:
    client.sendall(b"hello")
    client.shutdown(socket.SHUT_WR)
    return readAll(client)


def test_looksAtReal(real: Real) -> None:
    """
    Every command that shows something does so with a real balancer, also as JSON.
    """
    with real.client() as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        shown = {
            "status": "ready",
            "list": "1/2",
            "ls": "web   a",
            "sessions": "relaying",
            "config": "pools.web.slots",
            "config --all": "queue-timeout",
            "top --snapshot 1": "web/a",
            "healthcheck": "live",
            "healthcheck --ready": "ready",
        }
        for words, said in shown.items():
            ended = real(*words.split())
            assert ended.status == 0, ended
            assert said in ended.output
            ended = real(*words.split(), "--json")
            assert ended.status == 0
            json.loads(ended.output.splitlines()[0])
        assert real("sessions", "--older", "1h").lines[1:] == []
        assert len(real("sessions", "--dest", "web/a").lines) == 2


def test_changesReal(real: Real) -> None:
    """
    Destinations and pools are changed, and what cannot be done is said.
    """
    b = real.servers[1].port
    for words, status in (
        ("set web/a slots=3 weight=2", 0),
        ("set web queue-timeout=10s slots=9", 0),
        (f"add web localhost:{b} name=b slots=2", 0),
        ("wait web/b --until up --timeout 10s", 0),
        ("drain a", 0),
        ("wait a --until removable --timeout 10s", 0),
        ("resume a", 0),
        ("remove b", 0),
        ("stop web", 0),
        ("resume", 0),
        ("log warn", 0),
        ("pause nobody", 1),
        ("remove nobody", 1),
        ("kill 12345", 1),
        ("set web/a slots=x", 1),
        ("set web nothing=4", 1),
        ("add web 99999", 1),
    ):
        ended = real(*words.split())
        assert ended.status == status, (words, ended)
        assert ended.errors.count("\n") == (1 if status else 0), (words, ended)
    assert "0/3*" in real("list").output
    assert "not as in the file" in real("list").output


def test_pausesReal(real: Real) -> None:
    """
    A pause ends with 3 while a connection is left, is told when another resumes it, and
    holds clients meanwhile; an interrupted one says what it left.
    """
    with real.client() as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        ended = real("pause", "web", "--drain-timeout", "100ms")
        assert ended.status == 3
        assert real("resume", "web").status == 0
        process = subprocess.Popen(
            [SCRIPT, "pause", "web", "--drain-timeout", "50s"],
            env=real.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        until(lambda: "paused" in real("list").output)
        with real.client() as waiting:
            waiting.sendall(b"y")
            until(lambda: "waiting" in real("sessions", "--waiting").output)
            assert real("resume").status == 0
            assert waiting.recv(1) == b"y"
        assert process.wait(60) == 4
        process.communicate()
        process = subprocess.Popen(
            [SCRIPT, "pause", "web", "--drain-timeout", "50s", "--for", "10m"],
            env=real.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        until(lambda: "paused" in real("list").output)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
        assert (process.returncode, output) == (130, b"")
        assert errors.startswith(b"iawlb: interrupted: web is paused until ")
        assert errors.endswith(b"1 connection left; iawlb resume web undoes it\n")
    assert real("pause", "web").status == 0
    assert real("resume", "web", "--spread", "100ms").status == 0
    with real.client() as client:
        assert _talk(client) == b"hello"


def test_deploysReal(real: Real) -> None:
    """
    A deploy replaces the destinations, and one that is not ready changes nothing. The
    new ones may have any setting, and a mistake has the name that was written.
    """
    closed = freePort()
    ended = real(
        *f"deploy web --dest localhost:{closed} --deploy-timeout 200ms".split()
    )
    assert ended.status == 1
    assert "is not ready" in ended.errors
    assert "web   a" in real("list").output
    b = real.servers[1].port
    ended = real("deploy", "web", "--dest", f"localhost:{b} name=b slots=2")
    assert ended.status == 0
    assert "web   b" in real("list").output
    assert "web   a" not in real("list").output
    ended = real("deploy", "web", "--dest", f"localhost:{b} name=c backup=yes")
    assert (ended.status, ended.errors) == (0, "")
    (one,) = json.loads(real("list", "--json").output)[0]["destinations"]
    assert one["name"] == "c"
    ended = real("deploy", "web", "--dest", "/x tls=yes")
    assert "destinations: [0] tls-name: the address has no host" in ended.errors
    ended = real("add", "web", "/x tls=yes")
    assert ended.errors.startswith("iawlb: tls-name: the address has no host")


def test_reloadsReal(real: Real) -> None:
    """
    C{reload} says what has changed, --diff what would, and a file with a mistake
    changes nothing.
    """
    b = real.servers[1].port
    real.write(f'b = "localhost:{b}"\n')
    assert "add" in real("reload", "--diff").output
    ended = real("reload")
    assert ended.status == 0, ended
    assert "pools.web.destinations.b" in ended.output
    assert "web   b" in real("list").output
    assert real("reload").output == "reloaded; nothing has changed\n"
    real.write("b = 99999\n")
    ended = real("reload")
    assert ended.status == 1
    assert f"iawlb: {real.file}:6: " in ended.errors
    assert "nothing was changed" in ended.errors
    assert "FAILED to reload" in real("status").output


def test_eventsOfReal(real: Real) -> None:
    """
    What others change is seen as it happens.
    """
    process = subprocess.Popen(
        [SCRIPT, "events", "--count", "2", "--types", "pool-paused,pool-resumed"],
        env=real.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    seen: list[bytes] = []
    reading = threading.Thread(target=lambda: seen.extend(process.communicate()))
    reading.start()

    def ended() -> bool:
        if process.poll() is None:
            assert real("pause", "web").status == 0
            assert real("resume", "web").status == 0
        return process.poll() is not None

    until(ended)
    reading.join(60)
    assert process.returncode == 0
    assert b"pool-paused" in seen[0]
    assert b"pool-resumed" in seen[0]


def test_acceptsAgain(real: Real) -> None:
    """
    After a pool had no room, because it was paused and its queue was full, C{status}
    says no more that no clients are accepted, though none has ended since.
    """
    assert real("set", "web", "queue-size=1").status == 0
    assert real("pause", "web").status == 0
    with real.client() as one, real.client() as two:
        until(lambda: "accepts no more" in real("status").output)
        assert real("resume", "web").status == 0
        for client in (one, two):
            client.sendall(b"x")
            assert client.recv(1) == b"x"
        assert "accepts no more" not in real("status").output


def test_stopsReal(real: Real) -> None:
    """
    SIGTERM stops it when its connections have finished; then no balancer runs.
    """
    real.program.send(signal.SIGTERM)
    assert real.program.ended() in (0, -signal.SIGTERM)
    assert "Traceback" not in real.program.text()
    assert real("list").status == 5
    assert real("healthcheck").status == 1


def test_usualPlace(tmp_path: Path) -> None:
    """
    Without an address both the balancer and the command use the usual place.
    """
    place = tmp_path / "iawlb" / "admin.sock"
    # Root's usual place is that of the whole machine, on which another may run.
    code = (
        f"import sys; from iawlb import adminplace as a; a.SYSTEM = {str(place)!r}; "
        "from iawlb.command.main import main; sys.exit(main())"
    )
    python = str(Path(sysconfig.get_path("scripts"), "python"))
    environment = ["env", "-i", f"XDG_RUNTIME_DIR={tmp_path}", python, "-c", code]
    program = Program(
        [*environment, "run", str(freePort()), "9001"],
        tmp_path,
        ready=lambda: answers(str(place)),
    )
    try:
        program.start()
        assert place.parent.stat().st_mode & 0o777 == 0o700
        done = subprocess.run(
            [*environment, "healthcheck"], capture_output=True, timeout=60, check=False
        )
        assert (done.returncode, done.stdout) == (0, b"live\n")
        program.stop()
    finally:
        program.destroy()


def test_cannotRun(tmp_path: Path) -> None:
    """
    What is wrong with the options or the file of C{run} is said in lines, and it ends
    with 1.
    """
    bad = tmp_path / "bad.toml"
    bad.write_text("[pools.web]\nlisten = 8080\nslotz = 1\n")
    for words, said in (
        (["--nothing", "8080", "9001"], "iawlb: there is no option '--nothing'"),
        (["8080"], "iawlb: no destination"),
        ([str(bad)], f"{bad}:3: "),
    ):
        done = subprocess.run(
            [SCRIPT, "run", *words],
            env={"IAWLB_ADMIN": str(tmp_path / "s")},
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 1
        assert done.stderr.decode().startswith(said) or said in done.stderr.decode()
        assert b"Traceback" not in done.stderr
