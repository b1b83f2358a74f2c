"""
The programs of a test: started in its folder, and none outlives it.
"""

from __future__ import annotations

import shutil
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.integration.programs import (
    Address,
    Balancer,
    Peers,
    Program,
    Web,
    freePort,
    lacking,
    run,
)

Start = Callable[[Program], None]
Serve = Callable[..., int]


@pytest.fixture
def start() -> Iterator[Start]:
    """
    Starts a program, for this test.
    """
    with ExitStack() as stack:

        def started(program: Program) -> None:
            stack.callback(program.destroy)
            program.start()

        yield started


class Balancers:
    """
    Starts balancers.
    """

    def __init__(self, folder: Path, start: Start) -> None:
        self._folder = folder
        self._start = start
        self.started: list[Balancer] = []

    def __call__(
        self,
        *destinations: Address,
        listen: str | None = None,
        options: Sequence[str] = (),
        files: int | None = None,
    ) -> Balancer:
        """
        Start a balancer that forwards to destinations.

        @param listen: The address to listen on, C{PORT} standing for a free port; by
            default such a port of 127.0.0.1.
        @param options: More options.
        @param files: How many files the balancer may open.
        """
        port = freePort()
        where: Address = port
        if listen is not None and "PORT" not in listen:
            where = listen
        listen = (listen or "127.0.0.1:PORT").replace("PORT", str(port))
        arguments = ["--listen", listen, *options]
        for each in destinations:
            text = f"127.0.0.1:{each}" if isinstance(each, int) else each
            arguments += ["--dest", text]
        return self.run(where, arguments, files=files)

    def run(
        self,
        where: Address,
        arguments: Sequence[str],
        files: int | None = None,
        before: Sequence[str] = (),
    ) -> Balancer:
        """
        Start one with a command line of the test's own.
        """
        balancer = Balancer(where, arguments, self._folder, files, before)
        self.started.append(balancer)
        self._start(balancer)
        return balancer


@pytest.fixture
def balancer(tmp_path: Path, start: Start) -> Iterator[Balancers]:
    """
    Starts balancers. After the test they end by SIGTERM, and their logs hold no
    traceback.
    """
    balancers = Balancers(tmp_path, start)
    yield balancers
    for each in balancers.started:
        if each.running:
            assert each.stop() == -signal.SIGTERM
        each.check()


@pytest.fixture
def web(tmp_path: Path, start: Start) -> Web:
    """
    A web server.
    """
    server = Web(tmp_path)
    start(server)
    return server


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """
    The files of a certificate for localhost, and of its key.
    """
    files = (tmp_path / "certificate.pem", tmp_path / "key.pem")
    run(
        *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
        *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
        *("-out", str(files[0]), "-keyout", str(files[1])),
    )
    return files


@pytest.fixture
def serve() -> Iterator[Serve]:
    """
    Serves connections in threads: takes a function that handles one, and gives
    the port.
    """
    with ExitStack() as stack:

        def served(
            handle: Callable[[socket.socket], None], host: str = "127.0.0.1"
        ) -> int:
            peers = Peers(handle, host)
            stack.callback(peers.close)
            return peers.port

        yield served


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """
    A browser.
    """
    path = shutil.which("chromium")
    if path is None:
        lacking("chromium is not installed")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        lacking("playwright is not installed")
    with sync_playwright() as playwright:
        # Its own sandbox needs what root, in a container, does not have.
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()
