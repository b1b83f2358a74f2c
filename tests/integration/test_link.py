"""
A link that goes down without a packet: neither side learns of it from the other.
Clients and destinations live in network namespaces, behind links of their own.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import TypeVar

import pytest

from tests.integration.conftest import Balancers
from tests.integration.programs import LIMIT, Balancer, connect, lacking, until

_NETWORK = 0x40000000
"""
The kernel's C{CLONE_NEWNET}.
"""

SLACK = 15.0
"""
How much later than set something may be noticed on a busy machine, in seconds. Without
the settings it would be minutes, or never.
"""

T = TypeVar("T")


def ip(*words: str) -> None:
    """
    Run C{ip}.
    """
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=LIMIT)


class Host:
    """
    A host behind a link of its own.

    @ivar near: The address of this end of the link.
    @ivar address: The address of the host.
    """

    def __init__(self, number: int) -> None:
        self._name = f"iawlb-{os.getpid()}-{number}"
        self._link = f"iw{os.getpid() % 100_000}n{number}"
        network = f"10.213.{number}"
        self.near, self.address = f"{network}.1", f"{network}.2"
        self._stack = ExitStack()

    def open(self) -> None:
        """
        Make the host.
        """
        ip("netns", "add", self._name)
        pair = (self._link, "type", "veth", "peer", "name", "eth0")
        ip("link", "add", *pair, "netns", self._name)
        ip("addr", "add", f"{self.near}/24", "dev", self._link)
        ip("link", "set", self._link, "up")
        self._inside("addr", "add", f"{self.address}/24", "dev", "eth0")
        self._inside("link", "set", "eth0", "up")

    def _inside(self, *words: str) -> None:
        ip("-n", self._name, *words)

    def cut(self) -> None:
        """
        Take the link down. The host cannot say a word about it.
        """
        self._inside("link", "set", "eth0", "down")

    def mend(self) -> None:
        """
        Take the link up again.
        """
        self._inside("link", "set", "eth0", "up")

    def make(self, call: Callable[[], T]) -> T:
        """
        Call a function in the host; a socket that it makes stays there.
        """
        made: list[T] = []

        def enter() -> None:
            with open(f"/run/netns/{self._name}") as handle:
                assert ctypes.CDLL(None).setns(handle.fileno(), _NETWORK) == 0
            made.append(call())

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join(LIMIT)
        return made[0]

    def listen(self) -> socket.socket:
        """
        Listen in the host.
        """
        listening = self.make(lambda: socket.create_server((self.address, 9000)))
        listening.settimeout(LIMIT)
        return self._stack.enter_context(listening)

    def connect(self, port: int) -> socket.socket:
        """
        Connect from the host to this machine.
        """
        client = self.make(lambda: socket.create_connection((self.near, port), LIMIT))
        return self._stack.enter_context(client)

    def close(self) -> None:
        """
        Remove the host.
        """
        self._stack.close()
        for words in (("link", "del", self._link), ("netns", "del", self._name)):
            with suppress(subprocess.CalledProcessError):
                ip(*words)


@pytest.fixture
def hosts() -> Iterator[tuple[Host, Host]]:
    """
    Two hosts.
    """
    if os.geteuid() != 0 or shutil.which("ip") is None:
        lacking("network namespaces need root and ip")
    try:
        ip("netns", "add", f"iawlb-{os.getpid()}-try")
        ip("netns", "del", f"iawlb-{os.getpid()}-try")
    except subprocess.CalledProcessError:
        lacking("this machine allows no network namespaces")
    with ExitStack() as stack:
        made = []
        for number in (1, 2):
            made.append(Host(number))
            stack.callback(made[-1].close)
            made[-1].open()
        yield made[0], made[1]


def logged(front: Balancer, text: str) -> Callable[[], bool]:
    """
    Return whether a balancer has logged a text.
    """
    return lambda: re.search(text, front.text()) is not None


def noticed(front: Balancer, text: str, seconds: float, since: float) -> None:
    """
    Wait for a line in the balancer's log, and check that it comes in time.

    @param seconds: The time that is set.
    @param since: When the link went down.
    """
    until(logged(front, text), text)
    # The kernel's clock is a little coarser than ours.
    assert seconds - 1.5 <= time.monotonic() - since <= seconds + SLACK


KEEPALIVE = (
    *("--keepalive-idle", "2s", "--keepalive-interval", "1s"),
    *("--keepalive-count", "2"),
)
"""
Four seconds in all.
"""

relays = pytest.mark.parametrize("relay", ["fast", "portable"])
sides = pytest.mark.parametrize("which", ["client", "destination"])


def session(
    balancer: Balancers, hosts: tuple[Host, Host], relay: str, *options: str
) -> tuple[Balancer, socket.socket, socket.socket]:
    """
    Connect a client on one host to a destination on the other, and have them exchange a
    few bytes.
    """
    left, right = hosts
    listening = right.listen()
    front = balancer(
        f"{right.address}:9000",
        listen="0.0.0.0:PORT",
        options=["--relay", relay, *options],
    )
    client = left.connect(front.port)
    destination, _ = listening.accept()
    destination.settimeout(LIMIT)
    client.sendall(b"question")
    assert destination.recv(8) == b"question"
    destination.sendall(b"answer")
    assert client.recv(6) == b"answer"
    return front, client, destination


@relays
@sides
def test_keepAlive(
    balancer: Balancers, hosts: tuple[Host, Host], relay: str, which: str
) -> None:
    """
    A silent client or destination whose link goes down is noticed by keepalive within
    its time, and the other side's connection is reset.
    """
    front, client, destination = session(balancer, hosts, relay, *KEEPALIVE)
    time.sleep(2)  # the options are set when they may matter
    hosts[which == "destination"].cut()
    began = time.monotonic()
    other = client if which == "destination" else destination
    with destination:
        noticed(front, f"reset by the {which} ", 2, began)
        with pytest.raises(ConnectionResetError):
            other.recv(1)


@sides
def test_userTimeout(balancer: Balancers, hosts: tuple[Host, Host], which: str) -> None:
    """
    A peer that does not confirm what it was sent is noticed within the user time-out.
    """
    options = ("--user-timeout", "2s", "--keepalive-idle", "0")
    front, client, destination = session(balancer, hosts, "auto", *options)
    time.sleep(2.5)
    hosts[which == "destination"].cut()
    other = client if which == "destination" else destination
    with destination:
        other.sendall(b"more")
        began = time.monotonic()
        noticed(front, f"reset by the {which} ", 2, began)
        with pytest.raises(ConnectionResetError):
            other.recv(1)


@sides
def test_silent(balancer: Balancers, hosts: tuple[Host, Host], which: str) -> None:
    """
    Without either, the client and the answer time-out notice the same.
    """
    name = "client" if which == "client" else "answer"
    options = (f"--{name}-timeout", "2s", "--keepalive-idle", "0")
    front, client, destination = session(balancer, hosts, "auto", *options)
    with destination:
        if which == "destination":
            client.sendall(b"question")
            assert destination.recv(8) == b"question"
        hosts[which == "destination"].cut()
        began = time.monotonic()
        text = {
            "client": "client was silent for too long",
            "destination": "destination did not answer",
        }
        noticed(front, text[which], 2, began)


def test_connect(balancer: Balancers, hosts: tuple[Host, Host]) -> None:
    """
    A destination behind a link that is down costs its first client the connect
    time-out, and no client more: another destination serves them.
    """
    listening, other = hosts[0].listen(), hosts[1].listen()
    front = balancer(
        *(f"{each.address}:9000" for each in hosts),
        options=["--connect-timeout", "2s", "--policy", "first"],
    )
    hosts[0].cut()
    with listening, other, ExitStack() as stack:
        for number in range(5):
            began = time.monotonic()
            client = stack.enter_context(connect(front.port))
            client.sendall(b"question")
            destination = stack.enter_context(other.accept()[0])
            destination.settimeout(LIMIT)
            assert destination.recv(8) == b"question"
            # A connect that fails sooner may be tried once more.
            if number == 1:
                assert time.monotonic() - began <= 4 + SLACK
        until(logged(front, rf"{hosts[0].address}:9000 is down"), "its end")


def test_check(balancer: Balancers, hosts: tuple[Host, Host]) -> None:
    """
    A check notices a link that is down although no client comes, and the sessions on
    that destination are ended if asked; when the link is up again, so is the
    destination.
    """
    front, client, destination = session(
        *(balancer, hosts, "auto"),
        *("--health-check", "tcp", "--check-interval", "1s", "--check-fast", "1s"),
        *("--check-timeout", "1s", "--fall", "2", "--end-on-down"),
    )
    hosts[1].cut()
    began = time.monotonic()
    with destination:
        noticed(front, rf"{hosts[1].address}:9000 is down", 2, began)
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    until(logged(front, "its destination went down"), "the end of the session")
    hosts[1].mend()
    until(logged(front, rf"{hosts[1].address}:9000 is up"), "its return")
