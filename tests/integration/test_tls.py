"""
TLS at the balancer, with the programs that people use.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.integration.conftest import Balancers
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
        Shake hands with openssl's client; return what it says.
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
    One of each kind.
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
