"""
TLS at the balancer, with the programs that people use.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
import subprocess
from pathlib import Path

import pytest

from tests.integration.conftest import Balancers, Serve
from tests.integration.programs import Balancer, Web, find, run, until
from tests.pem import Chain, Issued

CHAIN = Chain()
LEAF = (CHAIN.leaf.keyPem, CHAIN.leaf.pem, CHAIN.middle.pem)


class Front:
    """
    A balancer with a TLS listener, whose certificate needs its chain.
    """

    def __init__(self, kind: str, web: Web, balancer: Balancers, folder: Path) -> None:
        """
        @param kind: C{"ssl"} or C{"tls"}.
        """
        self.certificate = folder / "certificates" / "own.pem"
        self.certificate.parent.mkdir()
        self.certificate.write_bytes(b"".join(LEAF))
        self.root = folder / "root.pem"
        self.root.write_bytes(CHAIN.root.pem)
        web.put("page", b"x" * 100_000)
        if kind == "ssl":
            listen = f"ssl:PORT:privateKey={self.certificate}"
        else:
            listen = f"tls:{self.certificate.parent}:port=PORT"
        self.balancer: Balancer = balancer(web.port, listen=listen)
        self.url = f"https://localhost:{self.balancer.port}/page"

    def s_client(self, *options: str) -> str:
        """
        Shake hands with openssl's client; return what the client prints.
        """
        done = subprocess.run(
            [
                *(find("openssl"), "s_client", "-CAfile", str(self.root)),
                *("-connect", f"localhost:{self.balancer.port}", *options),
            ],
            input=b"",
            capture_output=True,
            timeout=30,
            check=False,
        )
        return done.stdout.decode(errors="replace")

    def subject(self) -> str:
        """
        Say whose certificate is served.
        """
        found = re.search(r"subject=.*?CN ?= ?(\S+)", self.s_client())
        return found[1] if found is not None else ""


@pytest.fixture(params=["ssl", "tls"])
def front(
    request: pytest.FixtureRequest, web: Web, balancer: Balancers, tmp_path: Path
) -> Front:
    """
    Make one listener of each kind.
    """
    return Front(request.param, web, balancer, tmp_path)


def test_curl(front: Front) -> None:
    """
    curl offers HTTP/2 and HTTP/1.1, knows the root only, and is served by HTTP/1.1.
    """
    for option in ("--http2", "--http1.1", "--no-alpn", "--tls-max=1.2"):
        got = run(
            *("curl", "-sSf", "-m", "20", *option.split("=")),
            *("-w", "%{http_version}", "--cacert", str(front.root), front.url),
        )
        assert got == b"x" * 100_000 + b"1.1"


def test_openssl(front: Front) -> None:
    """
    openssl's client sees the whole chain, trusts it, and no protocol is chosen.
    """
    said = front.s_client("-alpn", "h2,http/1.1", "-showcerts")
    assert said.count("BEGIN CERTIFICATE") == 2
    assert "Verify return code: 0 (ok)" in said
    assert "No ALPN negotiated" in said


def test_renewed(front: Front) -> None:
    """
    A renewed certificate is served without a restart; a broken one is not.
    """
    assert front.subject() == "leaf"
    front.certificate.write_bytes(b"".join(LEAF[:2])[:-100])
    # It is looked at when somebody comes.
    until(lambda: front.subject() and "cannot be used" in front.balancer.text())
    assert front.subject() == "leaf"
    new = Issued("renewed", CHAIN.middle, ["localhost"], days=9)
    fresh = front.certificate.with_suffix(".new")
    fresh.write_bytes(new.keyPem + new.pem + CHAIN.middle.pem)
    os.rename(fresh, front.certificate)
    until(lambda: front.subject() == "renewed")
    until(lambda: "were read again" in front.balancer.text())


@pytest.mark.parametrize("strict", [False, True])
def test_endsWithoutCloseNotify(
    balancer: Balancers, serve: Serve, tmp_path: Path, strict: bool
) -> None:
    """
    Python's ssl closes without close_notify: its clients get whole answers and a clean
    end, and the log says so; unless that counts as a cut.
    """
    own = Issued("localhost", hosts=["localhost"], authority=True)
    pem = tmp_path / "roots" / "own.pem"
    pem.parent.mkdir()
    pem.write_bytes(own.keyPem + own.pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)

    def handle(peer: socket.socket) -> None:
        with context.wrap_socket(peer, server_side=True) as secure:
            secure.recv(1000)
            secure.sendall(b"x" * 300_000)

    front = balancer(
        f"tls:localhost:{serve(handle)}:trustRoots={pem.parent}",
        options=["--strict-tls"] if strict else [],
    )
    for number in range(1, 6):
        with socket.create_connection(("127.0.0.1", front.port), 20) as client:
            client.sendall(b"ask")
            received, wasReset = 0, False
            try:
                while data := client.recv(65536):
                    received += len(data)
            except ConnectionResetError:
                wasReset = True
        assert wasReset is strict
        assert received == 300_000
        expected = "reset by the destination (SD)" if strict else "both sides (--)"
        until(lambda n=number, e=expected: front.text().count(e) == n)  # type: ignore[misc]


def test_clientWithoutCloseNotify(front: Front) -> None:
    """
    A client that closes without TLS's own end has left in order.
    """
    context = ssl.create_default_context(cafile=str(front.root))
    for number in range(1, 6):
        port = front.balancer.port
        with (
            socket.create_connection(("127.0.0.1", port), 20) as raw,
            context.wrap_socket(raw, server_hostname="localhost") as client,
        ):
            client.sendall(b"GET /page HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            received = 0
            while received < 100_000:
                received += len(client.recv(65536))
        until(lambda n=number: front.balancer.text().count("(--)") == n)  # type: ignore[misc]
