"""
Bytes through the installed program, and ways to name a destination.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from pathlib import Path

import pytest

from tests.integration.conftest import Balancers, Serve
from tests.integration.programs import (
    LIMIT,
    MIB,
    connect,
    exchange,
    freePort,
    lacking,
    readAll,
    run,
    until,
)


def test_bothWaysAtOnce(serve: Serve, balancer: Balancers) -> None:
    """
    64 MiB one way and 64 MiB the other way at the same time arrive exactly.
    """
    hashes: list[str] = []
    size = 64 * MIB
    port = serve(lambda peer: hashes.append(exchange(peer, 2, size)))
    front = balancer(port)
    got = []
    for via in (port, front.port):
        with connect(via) as client:
            got.append(exchange(client, 1, size))
    until(lambda: len(hashes) == 2)
    assert got[0] == got[1] != hashes[0] == hashes[1]


@pytest.mark.parametrize("stalled", ["client", "destination"])
def test_stalledReader(serve: Serve, balancer: Balancers, stalled: str) -> None:
    """
    A sender that offers 512 MiB to a reader that does not read waits; the balancer does
    not keep the bytes. When the reader reads, all bytes come.
    """
    size, block = 512 * MIB, bytes(MIB)
    sent = [0]
    go = threading.Event()
    received: list[int] = []

    def offer(peer: socket.socket) -> None:
        while sent[0] < size:
            sent[0] += peer.send(block[: size - sent[0]])
        peer.shutdown(socket.SHUT_WR)

    def stall(peer: socket.socket) -> None:
        assert go.wait(LIMIT)
        total = 0
        while number := peer.recv_into(buffer):
            total += number
        received.append(total)

    buffer = bytearray(MIB)
    handle, act = (offer, stall) if stalled == "client" else (stall, offer)
    front = balancer(serve(handle))
    before = front.memory()
    with connect(front.port) as client:
        acting = threading.Thread(target=act, args=(client,))
        acting.start()
        try:
            # It stalls: nothing is taken for a while.
            until(lambda: sent[0] and _still(sent))
            offered = sent[0]
            assert offered < size
            grown = front.memory() - before
            busy = front.seconds()
            time.sleep(0.5)
            busy = front.seconds() - busy
        finally:
            go.set()
            acting.join(LIMIT)
        until(lambda: received)
    print(f"{offered / MIB:.0f} MiB sent, grown {grown:.1f}, {busy:.2f} s busy")
    print(f"grown {front.memory() - before:.1f} MiB after all came")
    assert received == [size]
    assert grown < 8
    assert front.memory() - before < 8
    assert busy < 0.25


def _still(count: list[int]) -> bool:
    before = count[0]
    time.sleep(0.5)
    return count[0] == before


def test_positional(serve: Serve, balancer: Balancers) -> None:
    """
    The short command line, C{PORT [[HOST:]PORT]...}, serves all its
    destinations.
    """
    ports = [serve(lambda peer, n=n: peer.sendall(b"%d" % n)) for n in range(2)]
    port = freePort()
    front = balancer.run(port, [str(port), str(ports[0]), f"127.0.0.1:{ports[1]}"])
    got = set()
    for _ in range(10):
        with connect(front.port) as client:
            got.add(readAll(client))
    assert got == {b"0", b"1"}


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_localhost(
    serve: Serve, balancer: Balancers, tmp_path: Path, host: str
) -> None:
    """
    A destination called localhost is reached, whichever of the two addresses of
    that name it listens on.
    """
    before: list[str] = []
    found = {each[4][0] for each in socket.getaddrinfo("localhost", 1)}
    if found != {"127.0.0.1", "::1"}:
        # Give the balancer a hosts file as most machines have.
        if os.geteuid() != 0:
            lacking("localhost has only one address here")
        hosts = tmp_path / "hosts"
        hosts.write_text("127.0.0.1 localhost\n::1 localhost\n")
        run("unshare", "-m", "true")
        mount = f'mount --bind "{hosts}" /etc/hosts && exec "$@"'
        before = ["unshare", "-m", "bash", "-c", mount, "bash"]
    destination = serve(lambda peer: peer.sendall(b"here"), host)
    port = freePort()
    front = balancer.run(
        port,
        ["--listen", f"127.0.0.1:{port}", "--dest", f"localhost:{destination}"],
        before=before,
    )
    for _ in range(20):
        with connect(front.port) as client:
            assert readAll(client) == b"here"
    assert "is down" not in front.text()
