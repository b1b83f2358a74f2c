"""
Checks of real servers: nginx, Redis, PostgreSQL, and agents as HAProxy knows them.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.integration.conftest import Balancers, Start
from tests.integration.programs import (
    Balancer,
    Peers,
    Program,
    Web,
    answers,
    ask,
    freePort,
    run,
    until,
)
from tests.integration.test_protocols import postgres

QUICK = (
    *("--check-interval", "100ms", "--check-fast", "50ms", "--check-down", "50ms"),
    *("--check-timeout", "500ms", "--backoff", "1h", "--backoff-max", "1h"),
)
"""
Options with which checks come quickly, and probes never.
"""

__all__ = ["postgres"]


def seen(front: Balancer, *texts: str) -> None:
    """
    Wait until the balancer has logged texts, one behind the other.
    """

    def all_() -> bool:
        log, at = front.text(), 0
        for text in texts:
            at = log.find(text, at)
            if at < 0:
                return False
            at += len(text)
        return True

    until(all_, f"{texts} in the log")


def test_web(web: Web, balancer: Balancers) -> None:
    """
    An nginx is checked by a page: while the page is missing, or nginx is stopped and
    accepts without answering, its client waits; then it is served.
    """
    web.put("page", b"hello")
    front = balancer(
        web.port, options=["--health-check", "http:/up", "--admin", "", *QUICK]
    )
    down = f"destination 127.0.0.1:{web.port} is down: check: "
    up = f"destination 127.0.0.1:{web.port} is up"
    seen(front, f"{down}status 404 Not Found")
    web.put("up", b"yes")
    assert ask(front.port, "/page").endswith(b"hello")
    seen(front, down, up)
    web.send(signal.SIGSTOP)
    seen(front, up, f"{down}no answer in 0.5 s")
    web.send(signal.SIGCONT)
    seen(front, up, down, up)
    assert ask(front.port, "/page").endswith(b"hello")
    assert web.stop() == 0
    seen(front, up, up, f"{down}Connection was refused")
    web.start()
    assert ask(front.port, "/page").endswith(b"hello")


def test_tlsWeb(
    tmp_path: Path, start: Start, certificate: tuple[Path, Path], balancer: Balancers
) -> None:
    """
    An nginx that ends TLS itself is checked within TLS.
    """
    web = Web(tmp_path, certificate)
    start(web)
    web.put("up", b"yes")
    front = balancer(
        f"127.0.0.1:{web.port} name=a",
        f"127.0.0.1:{web.port} name=b health-check=https:/gone",
        f"127.0.0.1:{web.port} name=c health-check=tls",
        f"127.0.0.1:{web.port} name=d health-check=http:/up",
        options=["--health-check", "https:/up", *QUICK],
    )
    seen(front, "destination b is down: check: status 404 Not Found")
    # nginx says in plain HTTP that it wants TLS.
    seen(front, "destination d is down: check: status 400 Bad Request")
    web.stop()
    seen(front, "destination a is down")
    seen(front, "destination c is down")
    web.start()
    seen(front, "destination a is down", "destination a is up")
    seen(front, "destination c is down", "destination c is up")


def test_redis(tmp_path: Path, start: Start, balancer: Balancers) -> None:
    """
    A Redis with a password is checked with it; and one that does not get the password
    says so.
    """
    port = freePort()
    password = tmp_path / "password"
    password.write_text("secret\n")
    server = Program(
        [
            *("redis-server", "--bind", "127.0.0.1", "--port", str(port)),
            *("--save", "", "--requirepass", "secret"),
        ],
        tmp_path,
        ready=lambda: answers(port),
    )
    start(server)
    front = balancer(
        f"127.0.0.1:{port} name=a check-password-file={password}",
        f"127.0.0.1:{port} name=b",
        options=["--health-check", "redis", *QUICK],
    )
    seen(front, "destination b is down: check: Redis: '-NOAUTH")
    server.send(signal.SIGSTOP)
    seen(front, "destination a is down: check: no answer in 0.5 s")
    server.send(signal.SIGCONT)
    seen(front, "destination a is down", "destination a is up")
    through = ("redis-cli", "-p", str(front.port), "-a", "secret", "--no-auth-warning")
    assert run(*through, "PING") == b"PONG\n"


def test_postgresql(postgres: int, balancer: Balancers) -> None:
    """
    A PostgreSQL is well, whether or not the user of the check exists; another server is
    not.
    """
    other = Peers(lambda peer: peer.sendall(b"SSH-2.0-x\r\n"))
    try:
        front = balancer(
            f"127.0.0.1:{postgres} name=a health-check=postgresql:tester",
            f"127.0.0.1:{postgres} name=b health-check=postgresql",
            f"127.0.0.1:{other.port} name=c health-check=postgresql",
            options=QUICK,
        )
        seen(front, "destination c is down: check: no PostgreSQL: 'SSH-2.0-x")
        through = ("-h", "127.0.0.1", "-p", str(front.port), "-U", "tester")
        found = run("psql", *through, "-d", "postgres", "-Atc", "select 6 * 7")
        assert found == b"42\n"
        for name in "ab":
            assert f"destination {name} is down" not in front.text()
    finally:
        other.close()


class Agent:
    """
    An agent as HAProxy's users write it: it says a line and closes.
    """

    def __init__(self) -> None:
        self.line = b"up\n"
        self.peers = Peers(lambda peer: peer.sendall(self.line))


@pytest.fixture
def agent() -> Iterator[Agent]:
    """
    An agent.
    """
    made = Agent()
    yield made
    made.peers.close()


def test_agent(
    agent: Agent, web: Web, tmp_path: Path, start: Start, balancer: Balancers
) -> None:
    """
    An agent has the same effect here as on HAProxy.
    """
    stats = tmp_path / "stats"
    configuration = tmp_path / "haproxy.cfg"
    configuration.write_text(
        f"global\n stats socket {stats}\n"
        "defaults\n mode tcp\n timeout connect 5s\n timeout client 5s\n"
        " timeout server 5s\n"
        f"listen web\n bind 127.0.0.1:{freePort()}\n server a 127.0.0.1:{web.port} "
        f"weight 100 agent-check agent-port {agent.peers.port} agent-inter 100ms\n"
    )
    start(
        Program(
            ["haproxy", "-db", "-f", str(configuration)], tmp_path, ready=stats.exists
        )
    )

    def status() -> str:
        # Without a check of its own, what is up has the state "no check".
        with socket.socket(socket.AF_UNIX) as asking:
            asking.connect(str(stats))
            asking.sendall(b"show stat\n")
            lines = b"".join(iter(lambda: asking.recv(65536), b"")).decode()
        (line,) = [each for each in lines.splitlines() if each.startswith("web,a,")]
        return " ".join(line.split(",")[17:19])

    def is_(wanted: str) -> bool:
        return status().startswith(wanted)

    front = balancer(
        f"127.0.0.1:{web.port} name=a agent={agent.peers.port} weight=100",
        options=QUICK,
    )
    said: list[str] = []
    for line, theirs, ours in (
        (b"drain\n", "DRAIN", "withdrawn: the agent says drain"),
        (b"up ready\n", "no check", "returned"),
        (b"down # for a test\n", "DOWN", "down: the agent says down: for a test"),
        (b"ready up 100%\n", "no check", "up"),
        (b"0%\n", "no check 0", "withdrawn: the agent says 0%"),
        (b"50%\n", "no check", "returned"),
        (b"maint\n", "MAINT", "withdrawn: the agent says maint"),
        (b"ready\n", "no check", "returned"),
    ):
        agent.line = line
        until(partial(is_, theirs), f"{theirs} of HAProxy behind {line!r}")
        said.append(f"destination a is {ours}")
        seen(front, *said)
