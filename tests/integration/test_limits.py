"""
Many connections, few descriptors, and what is left of them.
"""

from __future__ import annotations

import contextlib
import resource
import socket
import time

from tests.integration.conftest import Balancers
from tests.integration.programs import Balancer, Web, ask, connect, lacking, until

HELD = 2000
ONE_AFTER_THE_OTHER = 5000

PAGE = b"GET /page HTTP/1.1\r\nHost: a\r\n"


def answer(client: socket.socket, close: bool) -> None:
    """
    End the head of a request, and read the answer.
    """
    client.sendall(b"Connection: close\r\n\r\n" if close else b"\r\n")
    got = b""
    while not got.endswith(b"\r\n\r\nhere"):
        part = client.recv(65_536)
        assert part, got
        got += part
    assert got.startswith(b"HTTP/1.1 200 ")
    if close:
        assert client.recv(1) == b""
        client.close()


def hold(
    stack: contextlib.ExitStack, front: Balancer, number: int
) -> list[socket.socket]:
    """
    Open so many connections, and send the begin of a request on each.
    """
    clients = []
    for _ in range(number):
        client = stack.enter_context(connect(front.port))
        client.sendall(PAGE)
        clients.append(client)
    return clients


def test_manyConnections(web: Web, balancer: Balancers) -> None:
    """
    2,000 connections at once and 5,000 one after the other are all served, and
    leave no descriptor and hardly any memory behind.
    """
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < HELD * 2 + 100:
        lacking("too few files may be open (ulimit -n)")
    web.put("page", b"here")
    front = balancer(web.port)
    # It listens a moment before it runs and has all of its own files.
    assert ask(front.port, "/page").endswith(b"\r\n\r\nhere")
    until(lambda: front.connections() == 0, "the close of the first")
    files, memory = front.descriptors(), [front.memory()]
    for _ in range(3):
        with contextlib.ExitStack() as stack:
            clients = hold(stack, front, HELD)
            for client in clients:
                answer(client, close=False)
            until(lambda: front.connections() == 2 * HELD, "all connections")
            memory.append(front.memory())
        until(lambda: front.descriptors() <= files, "the close of all")
        memory.append(front.memory())
    for _ in range(ONE_AFTER_THE_OTHER):
        assert ask(front.port, "/page").endswith(b"\r\n\r\nhere")
    until(lambda: front.descriptors() <= files, "the close of all")
    memory.append(front.memory())
    print("MiB at start, three times held and after, in the end:")
    print(*(f"{each:.1f}" for each in memory), f"with {files} descriptors")
    # Python keeps what the first rounds needed; what comes then needs no more.
    assert max(memory[5:]) < memory[4] + 4
    assert memory[-1] < memory[0] + 32


def test_fewDescriptors(web: Web, balancer: Balancers) -> None:
    """
    With a limit of 64 open files, 300 clients at once are all served in the end,
    and the program does not spin while they wait.
    """
    web.put("page", b"here")
    front = balancer(web.port, files=64)
    with contextlib.ExitStack() as stack:
        clients = hold(stack, front, 300)
        until(lambda: front.descriptors() > 32, "the first sessions")
        busy = front.seconds()
        time.sleep(1)
        busy = front.seconds() - busy
        print(f"{busy:.2f} s busy in 1 s, {front.descriptors()} descriptors")
        assert busy < 0.5
        for client in clients:
            answer(client, close=True)
