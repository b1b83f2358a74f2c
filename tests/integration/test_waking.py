"""
Destinations that are started when a client comes: the installed program, real
processes, and stand-ins for the commands of a container engine and of systemd.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import sysconfig
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

import iawlb
from tests.integration.programs import (
    Program,
    answers,
    connect,
    freePort,
    readAll,
    until,
)

IAWLB = str(Path(sysconfig.get_path("scripts"), "iawlb"))
TWISTD = str(Path(sysconfig.get_path("scripts"), "twistd"))

SERVER = '''
"""
Echoes, with its process number before what it echoes.

Arguments: the port, the seconds until it listens, and those that it takes to end.
"""
import os, signal, socket, sys, threading, time
port, begin, end = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
def stop(*_):
    try:
        print("ends", flush=True)
    except OSError:
        pass  # the balancer is gone
    server.close()
    time.sleep(end)
    os._exit(0)
def serve(client):
    try:
        with client:
            client.sendall(b"%d:" % os.getpid())
            while data := client.recv(65536):
                client.sendall(data)
    except OSError:
        pass  # a look whether it is ready, which has closed already
print("begins as", os.getuid(), flush=True)
time.sleep(begin)
server = socket.create_server(("127.0.0.1", port), backlog=4096)
signal.signal(signal.SIGTERM, stop)
print("listens", flush=True)
while True:
    try:
        threading.Thread(target=serve, args=[server.accept()[0]], daemon=True).start()
    except OSError:
        time.sleep(60)
'''


class Awaker(Program):
    """
    A balancer with a file, and a destination that sleeps.
    """

    def __init__(self, folder: Path, *destination: str, more: str = "") -> None:
        """
        @param destination: The lines of the destination's table, without its address.
        @param more: More of the file.
        """
        self.port, self.behind = freePort(), freePort()
        self.file = folder / "iawlb.toml"
        self.write(*destination, more=more)
        super().__init__(
            [IAWLB, "run", str(self.file)],
            folder,
            # This is a client that wakes nobody, as it leaves at once.
            ready=lambda: answers(self.port),
        )

    def write(self, *destination: str, more: str = "") -> None:
        """
        Write the file.
        """
        lines = "\n".join(destination).replace("PORT", str(self.behind))
        self.file.write_text(
            f'[pools.web]\nlisten = "127.0.0.1:{self.port}"\n'
            f"[pools.web.destinations.app]\n"
            f'address = "127.0.0.1:{self.behind}"\n{lines}\n{more}\n'
        )

    def says(self, text: str, times: int = 1) -> None:
        """
        Wait until the log has something so many times.
        """
        until(lambda: self.text().count(text) >= times, f"{text!r}, {times} times")

    def processes(self) -> list[int]:
        """
        The numbers of the programs that were started, in order.
        """
        return [int(each) for each in re.findall(r"as process (\d+)", self.text())]


def runs(number: int) -> bool:
    """
    Return whether a process runs.
    """
    with suppress(OSError):
        text = Path(f"/proc/{number}/stat").read_text()
        return text.rpartition(")")[2].split()[0] not in "ZX"
    return False


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """
    End what was started.
    """
    with ExitStack() as made:
        yield made


def started(stack: ExitStack, program: Awaker) -> Awaker:
    """
    Start a balancer, which is ended with the test.
    """
    stack.callback(program.destroy)
    program.start()
    return program


def server(folder: Path, begin: float, end: float) -> str:
    """
    Write the server, and return the line of the file that starts it.
    """
    path = folder / "server.py"
    path.write_text(SERVER)
    words = [sys.executable, "-IS", str(path), "PORT", str(begin), str(end)]
    return f"command = {words}".replace("'", '"')


def come(port: int, number: int) -> list[socket.socket]:
    """
    Connect many clients, each of which sends something of its own.
    """
    clients = []
    for each in range(number):
        client = connect(port)
        client.sendall(b"client %d" % each)
        client.shutdown(socket.SHUT_WR)
        clients.append(client)
    return clients


def served(clients: list[socket.socket]) -> set[int]:
    """
    Check that each client gets its own bytes back, in full.

    @return: The numbers of the processes that have served them.
    """
    found = set()
    for number, client in enumerate(clients):
        with client:
            process, _, text = readAll(client).partition(b":")
        assert text == b"client %d" % number
        found.add(int(process))
    return found


def test_mustShow(tmp_path: Path, stack: ExitStack) -> None:
    """
    A program that the first client starts serves the hundred that come meanwhile. It is
    stopped when it is idle; and a thousand clients that come during the stop are all
    served, by its successor.
    """
    front = started(
        stack,
        Awaker(tmp_path, server(tmp_path, 0.5, 1.0), 'idle-timeout = "300ms"'),
    )
    began = time.monotonic()
    clients = come(front.port, 100)
    came = time.monotonic() - began
    (first,) = served(clients)
    took = time.monotonic() - began
    assert front.processes() == [first]
    front.says("app: ends")
    assert runs(first)
    began = time.monotonic()
    clients = come(front.port, 1000)
    assert runs(first), "the thousand have to come during the stop"
    cameLater = time.monotonic() - began
    (second,) = served(clients)
    tookLater = time.monotonic() - began
    assert front.processes() == [first, second] and not runs(first)
    print(
        f"100 clients came in {came:.2f} s and were served after {took:.2f} s; "
        f"1000 came in {cameLater:.2f} s of the stop and were served after "
        f"{tookLater:.2f} s"
    )
    front.says("closed by both sides (--)", 1100)
    assert front.stop() == -signal.SIGTERM
    assert not runs(second) and "Traceback" not in front.text()


def test_thousandWhileItStarts(tmp_path: Path, stack: ExitStack) -> None:
    """
    A thousand clients that come while the program starts are served; those that leave
    meanwhile are forgotten.
    """
    front = started(stack, Awaker(tmp_path, server(tmp_path, 1.0, 0.0)))
    clients = come(front.port, 1000)
    for each in clients[::2]:
        each.close()
    with ExitStack() as left:
        for number, client in enumerate(clients):
            if number % 2:
                left.enter_context(client)
                assert readAll(client).partition(b":")[2] == b"client %d" % number
    assert len(front.processes()) == 1


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ('["no-such-program"]', "there is no program 'no-such-program' on the PATH"),
        ('["sh", "-c", "echo oh; exit 7"]', "exited with status 7"),
        ('["sleep", "600"]', "not ready within 0.5 s: "),
        ('["sh", "-c", "trap : TERM; while :; do sleep 1; done"]', "not ready within"),
    ],
)
def test_cannotStart(tmp_path: Path, stack: ExitStack, command: str, why: str) -> None:
    """
    When the program cannot be started, the clients that wait are told by a close, the
    log says why, and nothing is left of it when the balancer has stopped.
    """
    front = started(
        stack,
        Awaker(
            tmp_path,
            f"command = {command}",
            'wake-timeout = "500ms"',
            'stop-timeout = "300ms"',
        ),
    )
    for each in come(front.port, 20):
        with each, suppress(ConnectionResetError):
            assert readAll(each) == b""
    front.says("no destination could be started (sC)", 20)
    front.says(f"destination app is down: could not be started: {why}")
    assert front.stop() == -signal.SIGTERM
    assert not [each for each in front.processes() if runs(each)]


def test_stopWhileWaking(tmp_path: Path, stack: ExitStack) -> None:
    """
    A balancer that is told to stop while a program starts still serves those that wait
    for it; told twice, it leaves nothing behind.
    """
    front = started(stack, Awaker(tmp_path, server(tmp_path, 1.0, 0.0)))
    clients = come(front.port, 10)
    front.says("app: begins")
    front.send(signal.SIGTERM)
    served(clients)
    front.ended()
    (first,) = front.processes()
    assert not runs(first)
    front.start()
    clients = come(front.port, 10)
    front.says("app: begins", 2)
    front.send(signal.SIGTERM)
    front.says("Received SIGTERM", 2)
    front.send(signal.SIGTERM)
    front.ended()
    assert not [each for each in front.processes() if runs(each)]
    for each in clients:
        each.close()


def test_balancerKilled(tmp_path: Path, stack: ExitStack) -> None:
    """
    When the balancer is killed, its program is asked to end, and a new balancer starts
    another.
    """
    if sys.platform != "linux":
        pytest.skip("only Linux tells the program")
    front = started(stack, Awaker(tmp_path, server(tmp_path, 0.0, 0.0)))
    (first,) = served(come(front.port, 1))
    front.says("started as process")
    front.send(signal.SIGKILL)
    front.ended()
    until(lambda: not runs(first), "the end of the program")
    front.start()
    served(come(front.port, 1))


def test_floods(tmp_path: Path, stack: ExitStack) -> None:
    """
    A program that writes without end neither fills the log nor keeps the balancer from
    its clients.
    """
    path = tmp_path / "server.py"
    path.write_text(SERVER)
    script = f"yes flood & exec {sys.executable} -IS {path} PORT 0 0"
    front = started(stack, Awaker(tmp_path, f'command = ["sh", "-c", "{script}"]'))
    flooding = time.monotonic()
    served(come(front.port, 1))
    began = time.monotonic()
    for _ in range(200):
        served(come(front.port, 1))
    took = time.monotonic() - began
    front.says("lines are left out", 2)
    print(f"200 clients, one after the other, beside a flood: {took:.2f} s")
    lines = front.text().count("app: flood")
    # A hundred a second, of which the first and the last are not whole.
    assert lines <= 100 * (time.monotonic() - flooding + 2)
    front.stop()


def test_reload(tmp_path: Path, stack: ExitStack) -> None:
    """
    A reload that removes the destination stops its program, once its clients have
    left; one that changes the command holds from the next start on.
    """
    line = server(tmp_path, 0.0, 0.0)
    front = started(stack, Awaker(tmp_path, line))
    (first,) = served(come(front.port, 1))
    front.write(line.replace("]", ', "other"]'), 'idle-timeout = "100ms"')
    front.send(signal.SIGHUP)
    front.says("app: ends")
    until(lambda: not runs(first))
    with connect(front.port) as held:
        held.sendall(b"x")
        second = int(held.recv(100).partition(b":")[0])
        assert b"other" in Path(f"/proc/{second}/cmdline").read_bytes()
        front.file.write_text(f'[pools.web]\nlisten = "127.0.0.1:{front.port}"\n')
        front.send(signal.SIGHUP)
        front.says("is draining")
        held.sendall(b"y")
        while b"y" not in held.recv(100):
            pass
        assert runs(second)
    until(lambda: not runs(second), "the end of the program")
    assert front.stop() == -signal.SIGTERM


def test_otherUser(
    tmp_path: Path, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A balancer that has given up its rights starts programs as the user that it is.
    """
    if os.geteuid() != 0:
        pytest.skip("only root becomes another user")
    tmp_path.chmod(0o755)
    for folder in tmp_path.parents:
        if folder.is_relative_to("/tmp") and folder != Path("/tmp"):
            folder.chmod(0o755)
    # The user must be allowed to run the Python that runs the balancer.
    python = f"/usr/bin/python3.{sys.version_info.minor}"
    if not Path(python).exists():
        pytest.skip("there is no Python that everybody may run")
    front = Awaker(tmp_path, server(tmp_path, 0.0, 0.0).replace(sys.executable, python))
    ours = str(Path(iawlb.__file__).parent.parent), sysconfig.get_path("purelib")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(ours))
    front._arguments = [
        *(python, TWISTD, "-n", "--pidfile=", "--uid=65534", "--gid=65534"),
        *("iawlb", "--config", str(front.file)),
    ]
    started(stack, front)
    served(come(front.port, 1))
    front.says("app: begins as 65534")
    assert front.stop() == -signal.SIGTERM
    assert not [each for each in front.processes() if runs(each)]


STAND_IN = """#!/bin/sh
# A stand-in for {name}: notes how it was called, and starts and stops a server.
echo "$@" >> {folder}/calls
case "$1" in
    start) setsid '{python}' -IS {folder}/server.py {port} 0.2 0 > /dev/null 2>&1 &
        echo $! > {folder}/pid
        echo "$2" ;;
    stop) kill "$(cat {folder}/pid)" ;;
esac
"""


@pytest.mark.parametrize(
    ("name", "unit"), [("docker", "wiki"), ("systemctl", "wiki.service")]
)
def test_recipes(
    tmp_path: Path,
    stack: ExitStack,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    unit: str,
) -> None:
    """
    The recipes of the guide start and stop a container, and a unit of systemd, by the
    commands of these. Here others stand in for them.
    """
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    front = Awaker(
        tmp_path,
        f'command = ["{name}", "start", "{unit}"]',
        f'stop-command = ["{name}", "stop", "{unit}"]',
        'idle-timeout = "200ms"',
    )
    server(tmp_path, 0.0, 0.0)
    script = bin_ / name
    script.write_text(
        STAND_IN.format(
            name=name, folder=tmp_path, python=sys.executable, port=front.behind
        )
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_}{os.pathsep}{os.environ['PATH']}")
    started(stack, front)
    calls = tmp_path / "calls"
    for times in (1, 2):
        served(come(front.port, 5))
        until(
            lambda times=times: calls.read_text().count("stop") == times,  # type: ignore[misc]
            "the stop",
        )
        until(lambda: not answers(front.behind), "its end")
    served(come(front.port, 1))
    # The balancer stops what it has started.
    assert front.stop() == -signal.SIGTERM
    assert calls.read_text() == f"start {unit}\nstop {unit}\n" * 3
    until(lambda: not answers(front.behind), "the end of the server")
    assert f"app: {unit}" in front.text()
