"""
The program with a configuration file.
"""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sysconfig
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.programs import (
    LIMIT,
    Address,
    Peers,
    Program,
    answers,
    connect,
    freePort,
    readAll,
    until,
)

TWISTD = str(Path(sysconfig.get_path("scripts"), "twistd"))
FOREGROUND = ("-n", "--pidfile=", "iawlb")


def named(name: str, peer: socket.socket) -> None:
    """
    Answer with a name.
    """
    peer.recv(100)
    peer.sendall(name.encode())


@pytest.fixture
def peers() -> Iterator[list[int]]:
    """
    Serve twice, with C{one} and C{two} as the answers; gives the ports.
    """
    with ExitStack() as stack:
        ports = []
        for name in ("one", "two"):
            each = Peers(lambda peer, name=name: named(name, peer))  # type: ignore[misc]
            stack.callback(each.close)
            ports.append(each.port)
        yield ports


def asked(to: Address, host: str = "127.0.0.1") -> str:
    """
    Be a client.

    @return: The answer.
    """
    with connect(to, host) as client:
        client.sendall(b"x")
        return readAll(client).decode()


def write(folder: Path, peers: list[int]) -> tuple[int, int]:
    """
    Write a file with two pools.

    @return: The ports of the first pool: one for IPv4, and one for both.
    """
    port, both = freePort(), freePort()
    (folder / "iawlb.toml").write_text(
        "[pools.web]\n"
        f'listen = ["127.0.0.1:{port}", {{ address = "[::]:{both}", v6only = true }},\n'
        f'    "0.0.0.0:{both}"]\n'
        f"destinations = {{ a = {peers[0]} }}\n"
        "[pools.db]\n"
        f'listen = {{ address = "{folder}/db.sock", mode = "600" }}\n'
        f'destinations.primary = "127.0.0.1:{peers[1]}"\n'
        "[log]\n"
        'format = "{pool} {destination} {code}"\n'
    )
    return port, both


def test_pools(peers: list[int], tmp_path: Path) -> None:
    """
    Each pool listens where the file says, and forwards to its own destinations; the
    Unix socket has its mode. An option wins over the file.
    """
    port, both = write(tmp_path, peers)
    program = Program(
        [TWISTD, *FOREGROUND, "--config", "iawlb.toml", "--log-connect"],
        tmp_path,
        # The listeners open one after the other, so ask for all four.
        ready=lambda: program.text().count("listening on") == 4,
    )
    program.start()
    try:
        path = str(tmp_path / "db.sock")
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        assert asked(port) == "one"
        assert asked(both) == asked(both, "::1") == "one"
        assert asked(path) == "two"
        program.stop()
    finally:
        program.destroy()
    assert not os.path.exists(path)
    lines = program.text().splitlines()
    assert lines.count("db primary --") == 1
    assert "web a --" in lines
    assert "db primary -" in lines  # connected


def test_daemon(peers: list[int], tmp_path: Path) -> None:
    """
    A daemon reads the file from the folder in which it was started, although it works
    in another.
    """
    port, _ = write(tmp_path, peers)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    pidfile = tmp_path / "pid"
    subprocess.run(
        [
            TWISTD,
            *(f"--rundir={elsewhere}", f"--pidfile={pidfile}"),
            *("iawlb", "--config=iawlb.toml"),
        ],
        cwd=tmp_path,
        timeout=LIMIT,
        check=True,
    )
    number = int(pidfile.read_text())
    try:
        until(lambda: answers(port), "the listener")
        assert asked(port) == "one"
    finally:
        os.kill(number, 15)
    until(lambda: not pidfile.exists())


def test_mistakes(tmp_path: Path) -> None:
    """
    With a file that is wrong nothing is begun: all mistakes are on standard error, and
    the status is 1.
    """
    path = tmp_path / "iawlb.toml"
    path.write_text("[pools.web]\nlisten = 'x'\nrest = 'x'\n")
    done = subprocess.run(
        [TWISTD, *FOREGROUND, "--config=iawlb.toml"],
        cwd=tmp_path,
        timeout=LIMIT,
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "IAWLB_REST": "x"},
    )
    assert done.returncode == 1
    assert [line.partition(": '")[0] for line in done.stderr.splitlines()] == [
        "iawlb.toml:2: pools.web.listen",
        "iawlb.toml:3: pools.web.rest",
        "IAWLB_REST",
    ]
    assert done.stdout == ""
