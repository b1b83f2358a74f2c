"""
The access log: what other programs read of it, and that no line is lost.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Balancers, Serve, Start
from tests.integration.programs import (
    LIMIT,
    Balancer,
    Program,
    answers,
    connect,
    freePort,
    readAll,
    run,
    until,
)
from tests.test_formats import TCPLOG

PREFIX = re.compile(r"[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \S+ (\w+)\[\d+\]: ")


def answer(peer: socket.socket) -> None:
    """
    Answer a question.
    """
    peer.recv(100)
    peer.sendall(b"x" * 212)


def slowAnswer(peer: socket.socket) -> None:
    """
    Answer a question later.
    """
    peer.recv(100)
    time.sleep(0.1)
    peer.sendall(b"x" * 212)


def exchange(port: int) -> bool:
    """
    Ask a question.

    @return: Whether the whole answer came.
    """
    try:
        with connect(port) as client:
            client.sendall(b"question")
            return len(readAll(client)) == 212
    except OSError:
        return False


class Load:
    """
    Clients that ask one question after the other, until told to stop.
    """

    def __init__(self, port: int, number: int = 6) -> None:
        self.done = 0
        self._port = port
        self._going = True
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._ask) for _ in range(number)]
        for each in self._threads:
            each.start()

    def _ask(self) -> None:
        while self._going:
            if exchange(self._port):
                with self._lock:
                    self.done += 1
            elif not answers(self._port):
                return

    def reach(self, number: int) -> None:
        """
        Wait until so many questions were answered.
        """
        until(lambda: self.done >= number, f"{number} answers")

    def stop(self) -> int:
        """
        Stop.

        @return: How many questions were answered.
        """
        self._going = False
        for each in self._threads:
            each.join(LIMIT)
        return self.done


def exchanges(port: int, number: int) -> None:
    """
    Ask so many questions at once, each of which is answered.
    """
    answered: list[bool] = []
    threads = [
        threading.Thread(target=lambda: answered.append(exchange(port)))
        for _ in range(number)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join(LIMIT)
    assert answered == [True] * number


def lines(path: Path, number: int) -> list[str]:
    """
    Wait for so many lines of a log, and return them.
    """
    until(lambda: path.exists() and path.read_text().count("\n") >= number)
    found = path.read_text().splitlines()
    assert len(found) == number
    return found


def halog(path: Path, *options: str) -> list[list[str]]:
    """
    Return the words of what C{halog} says of a log.
    """
    said = run("halog", "-q", *options, give=path.read_bytes()).decode()
    return [line.split() for line in said.splitlines() if not line.startswith("#")]


def test_halog(serve: Serve, balancer: Balancers, tmp_path: Path) -> None:
    """
    halog counts the sessions of each destination and their ends, and finds the slow
    destination.
    """
    path = tmp_path / "access"
    front = balancer(
        f"127.0.0.1:{serve(answer)} name=quick slots=1",
        f"127.0.0.1:{serve(slowAnswer)} name=slow slots=2",
        options=["--log-format", "halog", "--log-to", str(path)],
    )
    exchanges(front.port, 30)
    with connect(front.port) as client:
        client.sendall(b"question")
        client.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0"
        )  # reset
    lines(path, 31)
    servers = {row[0]: row for row in halog(path, "-srv")}
    assert set(servers) == {"default/quick", "default/slow"}
    # Of each server: 1xx to 5xx, other, all, those without a -1, their share, the mean
    # connect and the mean response.
    assert sum(int(row[7]) for row in servers.values()) == 31
    assert sum(int(row[2]) for row in servers.values()) == 30
    assert sum(int(row[4]) for row in servers.values()) == 1
    quick, slow = (int(servers[f"default/{name}"][11]) for name in ("quick", "slow"))
    assert quick < 100 <= slow
    codes = {row[0]: int(row[1]) for row in halog(path, "-tc")}
    assert codes["--"] == 30
    assert sum(codes.values()) == 31
    assert halog(path, "-tcn", "--", "-c") == [["30"]]
    assert int(halog(path, "-pct")[-1][1]) == 31
    assert int(halog(path, "-Q", "-c")[0][0]) > 5
    assert [row[:2] for row in halog(path, "-uc")] == [["31", "0"]]
    assert [row[0] for row in halog(path, "-ic")] == ["31"]


def test_tcplog(
    serve: Serve, balancer: Balancers, start: Start, tmp_path: Path
) -> None:
    """
    The tcplog line is HAProxy's own: the same expression reads both, and the two agree
    about the same sessions.
    """
    backend = serve(slowAnswer)
    path = tmp_path / "access"
    front = balancer(
        f"127.0.0.1:{backend} name=s1 slots=1",
        listen="127.0.0.1:PORT name=web",
        options=["--log-format", "tcplog", "--log-to", str(path)],
    )
    port = freePort()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as syslog:
        syslog.bind(("127.0.0.1", 0))
        syslog.settimeout(LIMIT)
        configuration = tmp_path / "haproxy.cfg"
        configuration.write_text(
            f"global\n  log 127.0.0.1:{syslog.getsockname()[1]} local0\n"
            "defaults\n  mode tcp\n  option tcplog\n  log global\n"
            "  timeout connect 5s\n  timeout client 9s\n  timeout server 9s\n"
            f"listen web\n  bind 127.0.0.1:{port}\n"
            f"  server s1 127.0.0.1:{backend} maxconn 1\n"
        )
        start(
            Program(
                ["haproxy", "-f", str(configuration), "-db"],
                tmp_path,
                ready=lambda: answers(port),
            )
        )
        ours, theirs = [], []
        # The first connection was only a look whether HAProxy has started.
        syslog.recv(2000)
        for number in (1, 4):
            exchanges(front.port, number)
            exchanges(port, number)
            for _ in range(number):
                theirs.append(syslog.recv(2000).decode().rstrip())
        ours = lines(path, 5)
    found = []
    for line in ours:
        head = PREFIX.match(line)
        assert head is not None and head[1] == "iawlb", line
        match = TCPLOG.match(line[head.end() :])
        assert match is not None, line
        found.append(match.groupdict())
    expected = []
    for line in theirs:
        _, _, rest = line.partition("]: ")
        match = TCPLOG.match(rest)
        assert match is not None, line
        expected.append(match.groupdict())

    def counts(rows: list[dict[str, Any]]) -> list[Counter[str]]:
        # Each session's place among the others depends on who came first.
        return [
            Counter(row[name] for row in rows)
            for name in ("frontend", "server", "bytes", "code", "rc", "ac", "fc")
        ]

    assert counts(found[:1]) == counts(expected[:1])
    assert counts(found) == counts(expected)
    # The fourth of four that came at once waited for three.
    assert max(int(row["bq"]) for row in found) == 2
    # They were not all there in the same moment.
    assert max(int(row["tw"]) for row in found) >= 200


def test_json(serve: Serve, balancer: Balancers, tmp_path: Path) -> None:
    """
    Each line is an object that jq reads, also of sessions that nobody served, and of
    those that still run.
    """
    path = tmp_path / "access"
    front = balancer(
        f"127.0.0.1:{serve(slowAnswer)} name=s1 slots=1",
        options=[
            *("--log-format", "json", "--log-to", str(path), "--log-connect"),
            *("--log-interval", "50ms", "--queue-timeout", "50ms"),
        ],
    )
    threads = [threading.Thread(target=exchange, args=(front.port,)) for _ in range(2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(LIMIT)
    until(lambda: path.read_text().count('"end"') == 2, "two ends")
    events = run("jq", "-r", ".event", str(path)).decode().split()
    assert events.count("end") == 2
    assert events.count("connect") == 1
    assert events.count("interval") >= 1
    ends = run(
        *("jq", "-c", 'select(.event == "end") | [.code, .destination, .connect]'),
        str(path),
    )
    assert [json.loads(line)[:2] for line in ends.decode().splitlines()] == [
        ["sQ", None],
        ["--", "s1"],
    ]


def test_slowReader(serve: Serve, balancer: Balancers, tmp_path: Path) -> None:
    """
    Told to end under load, while the reader of the log is far behind, the balancer
    loses no line.
    """
    path = tmp_path / "pipe"
    os.mkfifo(path)
    read = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    came = bytearray()
    hold = threading.Event()

    def reading() -> None:
        assert hold.wait(LIMIT)
        os.set_blocking(read, True)
        while part := os.read(read, 4096):
            came.extend(part)
            time.sleep(0.01)

    reader = threading.Thread(target=reading)
    reader.start()
    front = balancer(
        serve(answer), options=["--log-format", "json", "--log-to", str(path)]
    )
    load = Load(front.port)
    load.reach(1000)  # more than a pipe holds
    front.send(signal.SIGTERM)
    front.drained()
    done = load.stop()
    hold.set()
    assert front.ended() == -signal.SIGTERM
    reader.join(LIMIT)
    os.close(read)
    found = [json.loads(line) for line in came.decode().splitlines()]
    # Looking whether the balancer still answers makes a session, too.
    assert sum(each["bytesOut"] == 212 for each in found) >= done
    numbers = [each["id"] for each in found]
    assert sorted(numbers) == list(range(1, len(numbers) + 1))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """
    A small disk.
    """
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(path)]
    if subprocess.run(
        mount, check=False, capture_output=True, timeout=LIMIT
    ).returncode:
        pytest.skip("no disk can be mounted here")
    yield path
    run("umount", "-l", str(path))


def test_fullDisk(serve: Serve, balancer: Balancers, disk: Path) -> None:
    """
    On a full disk no line is cut in two, clients are served, and what had to be dropped
    is counted and said when there is space again.
    """
    path = disk / "access"
    template = "{id} {client} {destination:<300} {code}"  # long lines
    front = balancer(
        serve(answer), options=["--log-format", template, "--log-to", str(path)]
    )
    filler = disk / "filler"
    with filler.open("wb") as file:
        file.write(b"x" * 4_080_000)
    load = Load(front.port)
    load.reach(4500)
    until(lambda: "No space left on device" in front.text(), "a full disk")
    full = path.read_text()
    assert full.endswith("\n")
    filler.unlink()
    until(lambda: "were dropped" in front.text(), "the report")
    load.stop()
    assert front.stop() == -signal.SIGTERM
    match = re.search(
        r"(\d+) lines of the access log \(\S+\) were dropped", front.text()
    )
    assert match is not None
    found = path.read_text().splitlines()
    assert all(line.endswith("--") and line.count(" ") > 300 - 20 for line in found)
    numbers = [int(line.split()[0]) for line in found]
    assert len(numbers) == len(set(numbers))
    assert len(numbers) + int(match[1]) == max(numbers)


def _rename(path: Path, number: int, front: Balancer) -> None:
    path.rename(f"{path}.{number}")


def _renameAndSignal(path: Path, number: int, front: Balancer) -> None:
    path.rename(f"{path}.{number}")
    front.send(signal.SIGUSR1)


@pytest.mark.parametrize("move", [_rename, _renameAndSignal])
def test_moved(
    serve: Serve,
    balancer: Balancers,
    tmp_path: Path,
    move: Callable[[Path, int, Balancer], None],
) -> None:
    """
    A log that is moved away under load, time and again, loses no line and doubles
    none.
    """
    path = tmp_path / "access"
    front = balancer(
        serve(answer), options=["--log-format", "{id}", "--log-to", str(path)]
    )
    load = Load(front.port)
    for number in range(4):
        load.reach(load.done + 100)
        until(path.exists, "a new file")
        move(path, number, front)
    load.reach(load.done + 100)
    until(path.exists, "a new file")
    load.stop()
    assert front.stop() == -signal.SIGTERM
    numbers = [
        int(line)
        for each in tmp_path.glob("access*")
        for line in each.read_text().splitlines()
    ]
    assert sorted(numbers) == list(range(1, len(numbers) + 1))
    assert len(numbers) >= load.done
