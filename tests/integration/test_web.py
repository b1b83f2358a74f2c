"""
Web servers and clients through the balancer, as they are without it.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
from pathlib import Path

import pytest

from tests.integration.conftest import Balancers, Start
from tests.integration.programs import Web, run

SIZES = (0, 1, 1000, 16 * 1024, 65_537, 3_000_000)

SCRIPT = """
local file = io.open("{page}", "rb")
local expected = file:read("*a")
file:close()
right, wrong = 0, 0
local threads = {{}}
function setup(thread) table.insert(threads, thread) end
function response(status, headers, body)
  if status == 200 and body == expected then right = right + 1
  else wrong = wrong + 1 end
end
function done(summary, latency, requests)
  for _, thread in ipairs(threads) do
    print("right", thread:get("right"), "wrong", thread:get("wrong"))
  end
end
"""
"""
Has wrk compare each body, which it does not do by itself.
"""


def fetch(url: str, *options: str) -> bytes:
    """
    Get a page with curl, which fails on anything but success.
    """
    return run("curl", "-sSf", "-m", "10", *options, url)


@pytest.mark.parametrize("header", ["Connection: keep-alive", "Connection: close"])
def test_wrk(web: Web, balancer: Balancers, tmp_path: Path, header: str) -> None:
    """
    Under the load of many browsers at once, which keep their connections or make
    one for each page, every answer is complete and right, and none is missing.
    """
    web.put("page", os.urandom(16 * 1024))
    script = tmp_path / "check.lua"
    script.write_text(SCRIPT.format(page=web.root / "page"))
    front = balancer(web.port)
    said = run(
        *("wrk", "-t1", "-c32", "-d2s", "--timeout", "10s", "-H", header),
        *("-s", str(script), f"http://127.0.0.1:{front.port}/page"),
    ).decode()
    assert "Socket errors" not in said and "Non-2xx" not in said, said
    counted = re.search(r"right\s+(\d+)\s+wrong\s+(\d+)", said)
    assert counted is not None, said
    assert int(counted[1]) > 0 and int(counted[2]) == 0, said


def test_bodies(web: Web, balancer: Balancers) -> None:
    """
    A page of any size is the same, byte by byte, as without the balancer, over
    a connection of its own and over one that is kept.
    """
    for size in SIZES:
        web.put(str(size), os.urandom(size))
    front = balancer(web.port)
    for option in ("Connection: close", "Connection: keep-alive"):
        for size in SIZES:
            bodies = [
                fetch(f"http://127.0.0.1:{port}/{size}", "-H", option)
                for port in (web.port, front.port)
            ]
            assert bodies[0] == bodies[1] and len(bodies[0]) == size
    urls = [f"http://127.0.0.1:{front.port}/{size}" for size in SIZES]
    assert len(fetch(urls[0], *urls[1:])) == sum(SIZES)


def test_tlsPassedThrough(
    balancer: Balancers, start: Start, tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    """
    TLS goes through untouched: the client sees the destination's certificate.
    """
    secure = Web(tmp_path, certificate)
    secure.put("page", os.urandom(1_000_000))
    start(secure)
    front = balancer(secure.port)
    trust = ("--cacert", str(certificate[0]))
    bodies = [
        fetch(f"https://localhost:{port}/page", *trust)
        for port in (secure.port, front.port)
    ]
    assert bodies[0] == bodies[1] and len(bodies[0]) == 1_000_000


def test_tlsEnded(
    web: Web, balancer: Balancers, certificate: tuple[Path, Path]
) -> None:
    """
    A TLS listener decrypts: the destination is asked in the clear, and the
    client sees the balancer's certificate.
    """
    web.put("page", os.urandom(1_000_000))
    front = balancer(
        web.port,
        listen=f"ssl:PORT:interface=127.0.0.1:certKey={certificate[0]}"
        f":privateKey={certificate[1]}",
    )
    secure = fetch(
        f"https://localhost:{front.port}/page", "--cacert", str(certificate[0])
    )
    plain = fetch(f"http://127.0.0.1:{web.port}/page")
    assert hashlib.sha256(secure).digest() == hashlib.sha256(plain).digest()


def test_restartUnnoticed(web: Web, balancer: Balancers) -> None:
    """
    The only destination is restarted under load: the clients notice only a wait.
    """
    web.put("page", b"here")
    front = balancer(web.port)
    between, over = threading.Lock(), threading.Event()
    failures: list[BaseException] = []
    fetched: list[bytes] = []
    urls = [f"http://127.0.0.1:{front.port}/page"] * 4

    def load() -> None:
        try:
            while not over.is_set():
                # What a web server cuts off when it ends is its own fault, so it
                # does not end in the middle of an answer.
                with between:
                    if web.running:
                        fetched.append(fetch(urls[0], "-Z", *urls[1:]))
                        continue
                fetched.append(fetch(urls[0], "-Z", *urls[1:]))
        except BaseException as error:
            failures.append(error)

    clients = [threading.Thread(target=load) for _ in range(2)]
    for client in clients:
        client.start()
    try:
        for _ in range(3):
            with between:
                web.stop()
            # Clients come meanwhile.
            assert not over.wait(0.4)
            web.start()
            assert not over.wait(0.4)
    finally:
        over.set()
        for client in clients:
            client.join()
    assert not failures, failures
    assert fetched and set(fetched) == {b"here" * 4}
    assert "is down" in front.text() and "is up" in front.text()
