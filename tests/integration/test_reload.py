"""
Reloads of a real process under the load of real clients.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sysconfig
import time
from pathlib import Path
from random import Random

import pytest

from tests.integration.conftest import Balancers, Start
from tests.integration.programs import (
    LIMIT,
    Balancer,
    Web,
    ask,
    connect,
    find,
    freePort,
    until,
)

COMMAND = str(Path(sysconfig.get_path("scripts"), "iawlb"))

ROUNDS = 25
"""
The number of reloads under load.
"""

CYCLES = 10
"""
The number of times that destinations are removed and added under load.
"""


class Site:
    """
    A balancer that was made from a file, before web servers.
    """

    def __init__(self, folder: Path, start: Start, balancer: Balancers) -> None:
        self.webs = []
        for number in range(3):
            own = folder / str(number)
            own.mkdir()
            web = Web(own)
            web.put("page", b"here" * 1000)
            start(web)
            self.webs.append(web)
        self.ports = [freePort(), freePort()]
        self.file = folder / "iawlb.toml"
        self.folder = folder
        self._balancers = balancer
        self.front: Balancer

    def run(self, text: str) -> None:
        """
        Start the balancer.
        """
        self.write(text)
        arguments = ["--config", str(self.file), "--log=errors"]
        self.front = self._balancers.run(self.ports[0], arguments)

    def write(self, text: str) -> None:
        """
        Write the file. C{$0} stands for the address of the first server, and C{$P} for
        that of the first listener.
        """
        for number, web in enumerate(self.webs):
            text = text.replace(f"${number}", f"127.0.0.1:{web.port}")
        text = text.replace("$P", f"127.0.0.1:{self.ports[0]}")
        self.file.write_text(text.replace("$Q", f"127.0.0.1:{self.ports[1]}"))

    def reload(self, text: str) -> None:
        """
        Write the file, and have it read again.
        """
        self.write(text)
        before = self.front.text().count("] reloaded ")
        assert self.front.pid is not None
        os.kill(self.front.pid, signal.SIGHUP)

        def reloaded() -> bool:
            text = self.front.text()
            assert "reload failed" not in text, text[-1000:]
            return text.count("] reloaded ") > before

        until(reloaded, "a reload")

    def load(self, seconds: int) -> list[subprocess.Popen[str]]:
        """
        Begin to load both listeners.
        """
        loads = []
        for header, port in (
            ("Connection: keep-alive", self.ports[0]),
            ("Connection: close", self.ports[0]),
            ("Connection: close", self.ports[1]),
        ):
            command = [find("wrk"), "-t1", "-c10", f"-d{seconds}s", "--timeout", "20s"]
            command += ["-H", header, f"http://127.0.0.1:{port}/page"]
            loads.append(
                subprocess.Popen(
                    command,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
            )
        return loads


BASE = """
[pools.web]
listen = "$P"
destinations = { a = "$0", b = "$1" }
[pools.shop]
listen = "$Q"
destinations = { c = "$2" }
"""


def variant(random: Random) -> str:
    """
    Make a file: any destinations, policies and time-outs, and listeners that change
    places.
    """
    listen = random.sample(["$P", "$Q"], 2)
    numbers = random.sample(range(3), random.randint(1, 3))
    destinations = "\n".join(
        f'd{random.randint(0, 1)}{number} = {{ address = "${number}", '
        f"slots = {random.choice([0, 30])}, weight = {random.randint(1, 3)} }}"
        for number in numbers
    )
    return f"""
        [global]
        drain-timeout = "{random.randint(20, 30)}s"
        [pools.web]
        listen = "{listen[0]}"
        policy = "{random.choice(["least", "fifo", "first", "source"])}"
        queue-timeout = "{random.randint(20, 30)}s"
        connect-timeout = "{random.randint(4, 6)}s"
        [pools.web.destinations]
        {destinations}
        [pools.{random.choice(["shop", "store"])}]
        listen = "{listen[1]}"
        destinations = {{ z = "${random.randint(0, 2)}" }}
    """


def finished(loads: list[subprocess.Popen[str]]) -> None:
    """
    Wait for the loads; all their requests were answered.
    """
    for each in loads:
        said = each.communicate(timeout=LIMIT)[0]
        assert re.search(r"\d+ requests in", said), said
        assert "Socket errors" not in said and "Non-2xx" not in said, said


@pytest.fixture
def site(tmp_path: Path, start: Start, balancer: Balancers) -> Site:
    """
    Web servers, and a balancer to be.
    """
    return Site(tmp_path, start, balancer)


def test_underLoad(site: Site) -> None:
    """
    Pools, listeners, destinations, policies and time-outs change again and again, and
    destinations come and go, while browsers load pages: no request fails. Afterwards
    the process has the descriptors and about the memory that it had before.
    """
    site.run(BASE)
    front, random = site.front, Random(1)
    site.reload(variant(random))
    site.reload(BASE)
    ask(front.port, "/page")
    until(lambda: front.connections() == 0, "the end of all connections")
    descriptors, memory = front.descriptors(), front.memory()
    loads = site.load(ROUNDS // 4 + CYCLES // 4)
    for _ in range(ROUNDS):
        site.reload(variant(random))
        time.sleep(0.1)  # some requests between two reloads
    for number in range(CYCLES):
        site.reload(BASE.replace('a = "$0", ', "") if number % 2 else BASE)
        time.sleep(0.1)
    finished(loads)
    site.reload(BASE)
    until(lambda: front.connections() == 0, "the end of all connections")
    until(lambda: front.descriptors() <= descriptors, "the end of all sockets")
    assert front.memory() < memory + 15


def test_longSession(site: Site) -> None:
    """
    A connection that is open goes on through every reload, also when its destination,
    its listener and its pool are removed.
    """
    site.run(BASE)
    with connect(site.front.port) as client:
        client.sendall(b"GET /page HTTP/1.1\r\nHost: a\r\n")
        site.reload(BASE.replace("$0", "$2", 1))
        site.reload(BASE.replace("web", "other").replace("$0", "$2", 1))
        site.reload('[pools.x]\nlisten = "$Q"\ndestinations = { c = "$2" }')
        client.sendall(b"Connection: close\r\n\r\n")
        got = b""
        while part := client.recv(65_536):
            got += part
    assert got.endswith(b"here" * 1000)


def test_restartedWhilePaused(site: Site) -> None:
    """
    A balancer that is killed while it is paused is paused when it is started again: its
    clients wait, and are served when it is resumed.
    """
    admin, state = site.folder / "admin.sock", site.folder / "state.json"
    text = f'{BASE}[admin]\nlisten = "{admin}"\nstate = "{state}"\n'
    site.run(text)

    def control(*arguments: str) -> None:
        subprocess.run(
            [COMMAND, "--admin", str(admin), *arguments],
            check=True,
            timeout=LIMIT,
            capture_output=True,
        )

    control("pause", "web", "--no-wait")
    until(lambda: state.exists() and "paused" in state.read_text(), "the state file")
    assert site.front.pid is not None
    os.kill(site.front.pid, signal.SIGKILL)
    until(lambda: not site.front.running, "the end of the process")
    site.run(text)
    with connect(site.front.port) as client:
        client.sendall(b"GET /page HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        client.settimeout(0.5)
        with pytest.raises(TimeoutError):
            client.recv(1)
        client.settimeout(LIMIT)
        control("resume", "web")
        assert client.recv(12) == b"HTTP/1.1 200"


def test_hangupWithoutFile(web: Web, balancer: Balancers) -> None:
    """
    Without a file SIGHUP does not end the process, which says that there is nothing to
    reload.
    """
    web.put("page", b"here")
    front = balancer(web.port)
    assert front.pid is not None
    os.kill(front.pid, signal.SIGHUP)
    until(lambda: "nothing to reload" in front.text(), "the line")
    assert b"here" in ask(front.port, "/page")
