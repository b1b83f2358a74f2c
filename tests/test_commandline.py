"""
The installed command, as processes.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.net import freePort

SCRIPTS = Path(sysconfig.get_path("scripts"))
LIMIT = 30.0
"""
Longest wait for a process, in seconds.
"""


@dataclass
class Ended:
    """
    What a process left behind when it ended.

    @ivar files: The names of the files in its folder.
    """

    status: int
    output: str
    errors: str
    files: list[str]


def run(folder: Path, *command: str) -> Ended:
    """
    Run one of the installed commands in a folder of its own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [SCRIPTS / command[0], *command[1:]],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr, filesIn(folder))


def filesIn(folder: Path) -> list[str]:
    """
    Name the files in a folder.
    """
    return sorted(each.name for each in folder.iterdir())


def wait(true: Callable[[], object]) -> None:
    """
    Wait until something is true; fail when it takes too long.
    """
    end = time.monotonic() + LIMIT
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def answer(port: int) -> str | None:
    """
    Ask a demo server for its name, without work.

    @return: L{None} while no server listens.
    """
    asking = HTTPConnection("127.0.0.1", port, timeout=LIMIT)
    try:
        asking.request("GET", "/0")
    except ConnectionRefusedError:
        return None
    else:
        # Behind the name there is the time that we have waited, if that is long.
        return asking.getresponse().read().split()[0].decode()
    finally:
        asking.close()


BAD = (
    # What is behind "twistd -n iawlb", and what the line on standard error names.
    ("", "nowhere to listen"),
    ("--dest 9001", "nowhere to listen", "--listen"),
    ("8080", "no destination", "--dest"),
    ("9001 --listen 8081", "'9001'", "--dest 9001"),
    ("8080 'localhost: 9001'", "destination", "'localhost:9001'"),
    ("'localhost: 8080' 9001", "PORT", "'localhost:8080'"),
    ("8080 0", "destination", "'0'"),
    ("8080 9001 --through web", "--through", "a command line has one pool"),
    ("8080 9001 --server-names a..b", "--server-names", "'a..b'"),
    ("8080 '9001 tls=maybe'", "destination", "tls: 'maybe'"),
    ("8080 '9001 tls=yes tls-ca=/none'", "destination", "cannot read '/none'"),
    ("8080 '9001 tls=yes tls-ca=ca.pem'", "destination", "tls-ca: 'ca.pem'"),
    ("8080 'tls:a.example:1 tls=yes'", "destination", "is over TLS without it"),
    ("8080 '/run/app tls=yes'", "destination", "tls-name"),
    ("65536 9001", "PORT", "'65536'"),
    ("abc 9001", "PORT", "'abc'"),
    ("8080 ''", "destination", "''"),
    ("8080 -1", "-1"),
    ("--listen '' --dest 9001", "--listen", "''"),
    ("--listen tcp:8080:backlog=x --dest 9001", "--listen", "'x'"),
    ("--listen nothing:a:b --dest 9001", "--listen", "'nothing'"),
    ("--listen '8080 slots=2' --dest 9001", "--listen", "'slots'"),
    ("--listen ssl:8443:privateKey=no.pem --dest 9001", "--listen", "no.pem"),
    ("--listen tls:{file}:8443 --dest 9001", "--listen", "{file}"),
    ("8080 --dest tcp:localhost:99999", "--dest", "'99999'"),
    ("8080 --dest tcp:9001", "--dest", "'tcp:9001'", "'9001'"),
    ("8080 --dest nothing:a:b", "--dest", "'nothing'"),
    ("8080 --dest a..b:80", "--dest", "'a..b'"),
    ("8080 --dest '9001 slots=x'", "--dest", "slots", "'x'"),
    ("8080 --dest '9001 weight=0'", "--dest", "weight", "'0'"),
    ("8080 --dest '9001 wait=1'", "--dest", "'wait'"),
    ("8080 --dest '9001 name=a name=b'", "--dest", "name"),
    ("8080 --dest '9001 name=a' --dest '9002 name=a'", "--dest", "'a'"),
    ("8080 8080", "destination", "'8080' leads back to the listener '8080'"),
    ("8080 9001 --nothing", "--nothing"),
    ("8080 9001 --slots", "--slots"),
    ("8080 9001 --slots=-1", "--slots", "'-1'"),
    ("8080 9001 --idle-timeout 5x", "--idle-timeout", "'5x'"),
    ("8080 9001 --buffer-size 1", "--buffer-size", "'1'"),
    ("8080 9001 --policy best", "--policy", "'best'"),
    ("8080 9001 --when-down stop", "--when-down", "'stop'"),
    ("8080 9001 --max-connections 10000000", "--max-connections", "10000000"),
    ("8080 --demo 0", "--demo", "'0'"),
    ("8080 --demo 1 --dest '9001 name=demo-1'", "--demo", "'demo-1'"),
    # These are seen when it listens.
    ("127.0.0.1:{taken} 9001", "127.0.0.1:{taken}", "in use"),
    ("192.0.2.1:8080 9001", "192.0.2.1:8080"),
    ("{file} 9001", "{file}", "not a socket"),
    ("{busy} 9001", "{busy}", "in use"),
    ("/nowhere/a.sock 9001", "/nowhere/a.sock", "No such file"),
    ("--listen unix:a --listen 127.0.0.1:{taken} --dest 9001", "{taken}"),
    ("--listen haproxy:tcp:{free} --dest {free}", "'haproxy:tcp:{free}'"),
)


@dataclass
class Places:
    """
    Addresses that cannot be listened on.

    @ivar taken: A port that another program listens on.
    @ivar free: A port that can be listened on.
    @ivar busy: The path of a Unix socket that another program listens on.
    @ivar file: The path of a file.
    """

    taken: int
    free: int
    busy: str
    file: str

    def into(self, text: str) -> str:
        """
        Write the addresses into a text.
        """
        return text.format(**vars(self))


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    """
    Take some addresses.
    """
    folder = tmp_path_factory.mktemp("places")
    file = folder / "file"
    file.touch()
    with (
        socket.create_server(("127.0.0.1", 0)) as port,
        socket.socket(socket.AF_UNIX) as unix,
    ):
        unix.bind(str(folder / "busy"))
        unix.listen()
        yield Places(port.getsockname()[1], freePort(), str(folder / "busy"), str(file))


FORKING = """
import gc, json, os, runpy, signal, sys
import iawlb.tap, twisted.scripts.twistd

gc.freeze()  # else each spends most of its time on a last collection of all that
script, limit, lines = json.load(sys.stdin)
for folder, arguments in lines:
    child = os.fork()
    if not child:
        signal.alarm(limit)
        os.mkdir(folder)
        os.chdir(folder)
        for number, name in ((1, "output"), (2, "errors")):
            os.dup2(os.open(f"{folder}.{name}", os.O_CREAT | os.O_WRONLY), number)
        sys.argv = [script, *arguments]
        runpy.run_path(script, run_name="__main__")
        sys.exit()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(json.dumps(status))
"""
"""
A program that runs a command many times, each time in a process of its own that
needs not import everything anew: that would take ten times as long.
"""


@pytest.fixture(scope="module")
def failed(
    places: Places, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Ended]:
    """
    Run all bad command lines.
    """
    folder = tmp_path_factory.mktemp("bad")
    folders = [folder / str(number) for number in range(len(BAD))]
    lines = [
        (str(each), ["-n", "iawlb", *shlex.split(places.into(text))])
        for each, (text, *_) in zip(folders, BAD, strict=True)
    ]
    done = subprocess.run(
        [sys.executable, "-c", FORKING],
        input=json.dumps((str(SCRIPTS / "twistd"), int(LIMIT), lines)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    statuses = [int(line) for line in done.stdout.splitlines()]
    return {
        line: Ended(
            status,
            each.with_suffix(".output").read_text(),
            each.with_suffix(".errors").read_text(),
            filesIn(each),
        )
        for (line, *_), status, each in zip(BAD, statuses, folders, strict=True)
    }


@pytest.mark.parametrize(("line", "parts"), [(line, parts) for line, *parts in BAD])
def test_bad(
    line: str, parts: list[str], places: Places, failed: dict[str, Ended]
) -> None:
    """
    A user who types something wrong gets one line that names the option or address and
    what is wrong with it; the status is 1, and nothing is left behind.
    """
    ended = failed[line]
    assert ended.status == 1
    (message,) = ended.errors.splitlines()
    assert message.startswith("iawlb: ")
    for part in parts:
        assert places.into(part) in message
    assert "Traceback" not in ended.output
    assert ended.files == []


def test_taken(places: Places, tmp_path: Path) -> None:
    """
    A daemon that cannot start does not keep its user waiting: the status is 1,
    and the message and the log name the address.
    """
    address = f"127.0.0.1:{places.taken}"
    ended = run(tmp_path, "twistd", "iawlb", address, "9001")
    assert ended.status == 1
    message = f"iawlb: cannot listen on {address}: Address already in use\n"
    assert ended.errors == message
    assert ended.files == ["twistd.log"]
    log = (tmp_path / "twistd.log").read_text()
    assert f"cannot listen on {address}" in log
    assert "Traceback" not in log + ended.errors


def test_takenWithAsyncio(places: Places, tmp_path: Path) -> None:
    """
    With asyncio's reactor too, an address that is taken leaves nothing of the listeners
    that were opened before.
    """
    address = f"127.0.0.1:{places.taken}"
    socket = f"{tmp_path}/socket"
    listeners = ("--listen", socket, "--listen", address)
    command = ("twistd", "-n", "--reactor=asyncio", "iawlb", *listeners, "--dest", "1")
    ended = run(tmp_path, *command)
    message = f"iawlb: cannot listen on {address}: Address already in use\n"
    assert (ended.status, ended.errors, ended.files) == (1, message, [])


def test_takenUnderTwist(places: Places, tmp_path: Path) -> None:
    """
    The twist command also ends with status 1 and the message when an address is taken.
    """
    address = f"127.0.0.1:{places.taken}"
    ended = run(tmp_path, "twist", "iawlb", address, "9001")
    assert ended.status == 1
    message = f"iawlb: cannot listen on {address}: Address already in use\n"
    assert ended.errors == message


@pytest.mark.parametrize("reactor", ["epoll", "poll"])
def test_check(reactor: str, places: Places, tmp_path: Path) -> None:
    """
    --check finds nothing wrong with a good command line, even if its address is
    taken just now, with whichever reactor; it leaves nothing behind.
    """
    options = ("-n", f"--reactor={reactor}")
    address = f"127.0.0.1:{places.taken}"
    ended = run(tmp_path, "twistd", *options, "iawlb", "--check", address, "9001")
    assert ended == Ended(0, "iawlb: configuration is valid\n", "", [])


WITHOUT_TLS = """
import sys

sys.modules["OpenSSL"] = sys.modules["cryptography"] = None  # not to be imported
from twisted.internet.testing import MemoryReactorClock
from iawlb.tap import Options

for line in sys.argv[1:]:
    try:
        Options(MemoryReactorClock()).parseOptions([*line.split(), "--check"])
    except SystemExit as error:
        print(error)
"""


def test_withoutTls() -> None:
    """
    Without the TLS extra, each way to ask for TLS is refused by a line that says
    what to install, and the rest works.
    """
    done = subprocess.run(
        [
            *(sys.executable, "-c", WITHOUT_TLS),
            "--listen ssl:8443:privateKey=a.pem --dest 9001",
            "--listen tls:certs:8443 --dest 9001",
            "--listen haproxy:ssl:8443 --dest 9001",
            "8080 tls:localhost:9443",
            "8080 ssl:localhost:9443",
            "8080 9001",
        ],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=True,
    )
    *lines, valid, zero = done.stdout.splitlines()
    assert (valid, zero) == ("iawlb: configuration is valid", "0")
    assert len(lines) == 5
    for line in lines:
        assert "TLS is not installed: pip install 'iawlb[tls]'" in line


def test_help(tmp_path: Path) -> None:
    """
    twistd lists the command, and the command its options; the help fits into 80
    columns.
    """
    known = run(tmp_path, "twistd", "--help")
    assert "\n    iawlb " in known.output
    ended = run(tmp_path, "twistd", "iawlb", "--help")
    assert (ended.status, ended.errors) == (0, "")
    assert ended.output.startswith("Usage: twistd [options] iawlb [options] [PORT ")
    assert max(map(len, ended.output.splitlines())) <= 80


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_run(number: signal.Signals, tmp_path: Path) -> None:
    """
    The command serves until a signal, and ends by that signal, as service managers
    expect; nothing is left behind.
    """
    port = freePort()
    command = ("-n", "iawlb", f"127.0.0.1:{port}", "--demo=2")
    with subprocess.Popen(
        [SCRIPTS / "twistd", *command],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            wait(lambda: answer(port))
            assert {answer(port), answer(port)} == {"demo-1", "demo-2"}
            process.send_signal(number)
            output, errors = process.communicate(timeout=LIMIT)
        finally:
            process.kill()
    assert process.returncode == -number
    assert errors == ""
    assert f"curl http://localhost:{port}" in output
    assert "Traceback" not in output
    # A listener takes a turn of the reactor to close; nobody needs to hear that.
    assert "waiting for 0 connections" not in output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("twistd -n", "demo-1: closed by both sides"),
        ("twist", '"code": "--"'),
        ("twist --log-format text", "demo-1: closed by both sides"),
    ],
)
def test_stuck(command: str, shown: str, tmp_path: Path) -> None:
    """
    The command goes on serving while its log is a pipe that is not read, and ends on a
    signal; all lines that are read in time are there.
    """
    port = freePort()
    name, *options = command.split()
    with subprocess.Popen(
        [SCRIPTS / name, *options, "iawlb", f"127.0.0.1:{port}", "--demo=1"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            # A small pipe is full soon.
            fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, 4096)
            wait(lambda: answer(port))
            for _ in range(200):
                assert answer(port) == "demo-1"
            process.send_signal(signal.SIGTERM)
            output, errors = process.communicate(timeout=LIMIT)
        finally:
            process.kill()
    assert (process.returncode, errors) == (-signal.SIGTERM, "")
    assert output.count(shown) > 200
    assert "Main loop terminated" in output


def test_stuckForGood(tmp_path: Path) -> None:
    """
    The command also ends if its log is never read, and says how many lines are lost.
    """
    port = freePort()
    command = ("-n", "iawlb", f"127.0.0.1:{port}", "--demo=1")
    with subprocess.Popen(
        [SCRIPTS / "twistd", *command],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None and process.stderr is not None
            fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, 4096)
            wait(lambda: answer(port))
            for _ in range(100):
                assert answer(port) == "demo-1"
            process.send_signal(signal.SIGTERM)
            assert process.wait(LIMIT) == -signal.SIGTERM
            errors = process.stderr.read()
        finally:
            process.kill()
    assert re.fullmatch(r"iawlb: \d+ lines of the log are lost: .*\n", errors)


def test_rotated(tmp_path: Path) -> None:
    """
    SIGUSR1 has a daemon begin a new log file; no line is lost, and none goes
    into the old file any longer.
    """
    port = freePort()
    run(tmp_path, "twistd", "iawlb", f"127.0.0.1:{port}", "--demo=1")
    file, log = tmp_path / "twistd.pid", tmp_path / "twistd.log"
    old = tmp_path / "twistd.log.1"
    number = int(file.read_text())
    line = "to demo-1: closed by both sides"
    try:
        wait(lambda: answer(port))
        wait(lambda: line in log.read_text())
        os.kill(number, signal.SIGUSR1)
        wait(old.exists)
        before = old.read_text().count(line)
        answer(port)
        wait(lambda: log.exists() and line in log.read_text())
    finally:
        os.kill(number, signal.SIGTERM)
    wait(lambda: not file.exists())
    assert old.read_text().count(line) == before
    assert "Server Shut Down" in log.read_text()


def test_daemon(tmp_path: Path) -> None:
    """
    A daemon that could start prints nothing, serves, and ends by its signal.
    """
    port = freePort()
    ended = run(tmp_path, "twistd", "iawlb", f"127.0.0.1:{port}", "--demo=1")
    file = tmp_path / "twistd.pid"
    number = int(file.read_text())
    try:
        assert (ended.status, ended.output, ended.errors) == (0, "", "")
        wait(lambda: answer(port) == "demo-1")
    finally:
        os.kill(number, signal.SIGTERM)
    wait(lambda: not file.exists())
    assert "Traceback" not in (tmp_path / "twistd.log").read_text()
