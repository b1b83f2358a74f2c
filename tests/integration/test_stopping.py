"""
How the program ends, and what it leaves.
"""

from __future__ import annotations

import signal
import socket
import threading
from pathlib import Path

import pytest

from tests.integration.conftest import Balancers, Serve
from tests.integration.programs import (
    LIMIT,
    MIB,
    Balancer,
    Web,
    answers,
    ask,
    blocks,
    connect,
    echo,
    readAll,
)


def roundTrip(client: socket.socket) -> None:
    """
    Prove that a session with an echo works.
    """
    client.sendall(b"ping")
    assert client.recv(4) == b"ping"


def closed(client: socket.socket) -> bool:
    """
    Wait for the end of a connection.
    """
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_transferFinishes(serve: Serve, balancer: Balancers, number: int) -> None:
    """
    Told to end during a transfer, the program refuses new connections at once,
    finishes the transfer, and then ends by the signal.
    """
    data = b"".join(blocks(1, 8 * MIB))
    go = threading.Event()

    def send(peer: socket.socket) -> None:
        peer.sendall(data[:MIB])
        assert go.wait(LIMIT)
        peer.sendall(data[MIB:])

    front = balancer(serve(send))
    with connect(front.port) as client:
        begin = client.recv(1)
        front.send(number)
        front.drained()
        go.set()
        assert begin + readAll(client) == data
    assert front.ended() == -number


def test_queuedAreServed(serve: Serve, balancer: Balancers) -> None:
    """
    Told to end while clients wait in the queue, the program serves them first.
    """
    front = balancer(serve(echo), options=["--slots", "1"])
    with connect(front.port) as first, connect(front.port) as second:
        roundTrip(first)
        front.send(signal.SIGTERM)
        front.drained()
        first.close()
        roundTrip(second)
    assert front.ended() == -signal.SIGTERM


def test_drainTimeout(serve: Serve, balancer: Balancers) -> None:
    """
    A session that does not end is closed when the drain time-out is over.
    """
    front = balancer(serve(echo), options=["--drain-timeout", "2s"])
    with connect(front.port) as client:
        roundTrip(client)
        front.send(signal.SIGTERM)
        front.drained()
        roundTrip(client)
        assert closed(client)
    assert front.ended() == -signal.SIGTERM


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_secondSignal(serve: Serve, balancer: Balancers, second: int) -> None:
    """
    A second signal ends the program without waiting for the drain time-out.
    """
    front = balancer(serve(echo), options=["--drain-timeout", "1h"])
    with connect(front.port) as client:
        roundTrip(client)
        front.send(signal.SIGTERM)
        front.drained()
        roundTrip(client)
        front.send(second)
        assert closed(client)
    assert front.ended() == -signal.SIGTERM


def test_signalsTogether(serve: Serve, balancer: Balancers) -> None:
    """
    Two signals that come at the same moment, as when a terminal and a service
    manager both send one, end the program without a traceback.
    """
    front = balancer(serve(echo))
    with connect(front.port) as client:
        roundTrip(client)
        for number in (signal.SIGSTOP, signal.SIGTERM, signal.SIGINT, signal.SIGCONT):
            front.send(number)
        assert closed(client)
    assert front.ended() in (-signal.SIGTERM, -signal.SIGINT)


def test_staleSocket(web: Web, balancer: Balancers, tmp_path: Path) -> None:
    """
    A Unix socket left behind by a killed program is replaced at the next start,
    one in use is not, and one is not left behind by a program that ends.
    """
    web.put("page", b"here")
    path = tmp_path / "front"

    def started() -> Balancer:
        front = balancer(web.port, listen=str(path))
        assert ask(str(path), "/page").endswith(b"\r\n\r\nhere")
        return front

    started().stop(signal.SIGKILL)
    assert path.is_socket() and not answers(str(path))
    front = started()
    with pytest.raises(AssertionError, match="in use by another process"):
        started()
    assert ask(str(path), "/page").endswith(b"\r\n\r\nhere")
    assert front.stop() == -signal.SIGTERM
    assert not path.exists()
