"""
TLS to destinations, and pools by what TLS clients ask for, with the programs that
people use.
"""

from __future__ import annotations

import select
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.integration.conftest import Balancers, Serve, Start
from tests.integration.programs import (
    LIMIT,
    MIB,
    Balancer,
    Program,
    Web,
    answers,
    find,
    freePort,
    run,
    until,
)
from tests.pem import Issued


class Authority:
    """
    An authority, and the files of certificates that it has issued.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = Issued("root", authority=True)
        self.ca = folder / "ca.pem"
        self.ca.write_bytes(self.root.pem)

    def issue(self, name: str, issued: Issued) -> Path:
        """
        Write a certificate and its key.
        """
        path = self.folder / f"{name}.pem"
        path.write_bytes(issued.pem + issued.keyPem)
        return path

    def good(self, host: str = "localhost") -> Path:
        """
        Issue a certificate for a host.
        """
        return self.issue(host, Issued(host, self.root, [host]))


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """
    Make an authority.
    """
    return Authority(tmp_path)


def wrongOnes(authority: Authority) -> Iterator[tuple[Path, str]]:
    """
    Issue certificates that are not right, each with what the balancer says.
    """
    root = authority.root
    stranger = Issued("stranger", authority=True)
    for name, issued, why in (
        ("expired", Issued("a", root, ["localhost"], days=-0.5), "it expired on 20"),
        ("self", Issued("a", hosts=["localhost"]), "it has issued itself (self-si"),
        ("other", Issued("a", root, ["a.example"]), "it is for a.example, and not for"),
        ("unknown", Issued("a", stranger, ["localhost"]), "its issuer is not known"),
    ):
        yield authority.issue(name, issued), why


class OpenSsl(Program):
    """
    C{openssl s_server}, which answers with a page about the connection.
    """

    def __init__(self, folder: Path, certificate: Path, *options: str) -> None:
        self.port = freePort()
        super().__init__(
            [
                *("openssl", "s_server", "-accept", f"127.0.0.1:{self.port}"),
                *("-cert", str(certificate), "-key", str(certificate)),
                *("-www", "-quiet", *options),
            ],
            folder,
            ready=lambda: answers(self.port),
        )


def page(balancer: Balancer) -> bytes:
    """
    Ask for a page, as a plain client.
    """
    url = f"http://127.0.0.1:{balancer.port}/page"
    return run("curl", "-sS", "-m", "20", url)


def test_nginx(balancer: Balancers, authority: Authority, start: Start) -> None:
    """
    nginx with a good certificate is served over TLS, many times and at once.
    """
    own = authority.good()
    web = Web(authority.folder, (own, own))
    start(web)
    web.put("page", b"x" * 300_000)
    front = balancer(f"localhost:{web.port} tls=yes tls-ca={authority.ca}")
    for _ in range(5):
        assert page(front) == b"x" * 300_000
    url = f"http://127.0.0.1:{front.port}/page"
    run("curl", "-sSf", "-m", "20", "-Z", *[url] * 20, "-o", "/dev/null")


def test_wrongCertificates(
    balancer: Balancers, authority: Authority, start: Start
) -> None:
    """
    nginx and openssl with a certificate that is expired, self-signed, for another name
    or of an unknown issuer get no client, and the log says why. Once nginx has a good
    one, the client that waited is served.
    """
    for certificate, why in wrongOnes(authority):
        server = OpenSsl(authority.folder, certificate)
        start(server)
        front = balancer(
            f"localhost:{server.port} tls=yes tls-ca={authority.ca}",
            options=["--queue-timeout=500ms"],
        )
        with pytest.raises(AssertionError, match="curl"):
            page(front)
        assert f"the TLS certificate is refused: {why}" in front.text()
        assert front.stop() == -signal.SIGTERM
    path = authority.folder / "expired.pem"
    web = Web(authority.folder, (path, path))
    start(web)
    web.put("page", b"page")
    front = balancer(f"localhost:{web.port} tls=yes tls-ca={authority.ca}")
    got: list[bytes] = []
    asking = threading.Thread(target=lambda: got.append(page(front)))
    asking.start()
    until(lambda: "it expired on" in front.text())
    assert not got
    path.write_bytes(authority.good().read_bytes())
    assert web.stop() == 0
    web.start()
    asking.join(LIMIT)
    assert got == [b"page"]


def test_clientCertificate(
    balancer: Balancers, authority: Authority, start: Start
) -> None:
    """
    openssl's server asks for a certificate, and gets the balancer's.
    """
    server = OpenSsl(
        authority.folder,
        authority.good("db.example"),
        *("-Verify", "2", "-CAfile", str(authority.ca)),
        *("-verify_return_error",),
    )
    start(server)
    own = authority.issue("own", Issued("balancer", authority.root))
    settings = f"tls=yes tls-ca={authority.ca} tls-name=db.example"
    front = balancer(f"127.0.0.1:{server.port} {settings} tls-certificate={own}")
    said = page(front).decode()
    assert "CN=balancer" in said.replace(" ", "")
    assert "TLSv1.3" in said


SIZE = 64 * MIB


def exchange(peer: ssl.SSLSocket, received: list[int], go: threading.Event) -> None:
    """
    Send much, and read nothing until told to, then all. One thread does both, as
    OpenSSL wants it.
    """
    peer.settimeout(0)
    body, sent, count = bytes(64 * 1024), 0, 0
    while sent < SIZE or count < SIZE:
        idle = True
        if sent < SIZE:
            with suppress(ssl.SSLWantWriteError, ssl.SSLWantReadError):
                sent += peer.send(body)
                idle = False
        if count < SIZE and go.is_set():
            with suppress(ssl.SSLWantReadError):
                part = peer.recv(256 * 1024)
                count += len(part)
                idle = False
                if not part:
                    break
        if idle:
            select.select([peer], [peer] if sent < SIZE else [], [], 0.01)
    received.append(count)


def test_stalledReader(balancer: Balancers, authority: Authority, serve: Serve) -> None:
    """
    64 MiB both ways at once, over TLS in and TLS out, with readers on both sides that
    read nothing for a while: the balancer's memory stays bounded, and all arrives.
    """
    own = authority.good()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(own)
    go, received = threading.Event(), list[int]()

    def handle(peer: socket.socket) -> None:
        with server.wrap_socket(peer, server_side=True) as secure:
            exchange(secure, received, go)

    front = balancer(
        f"localhost:{serve(handle)} tls=yes tls-ca={authority.ca}",
        listen=f"127.0.0.1:PORT certificate={own}",
    )
    before = front.memory()
    context = ssl.create_default_context(cafile=str(authority.ca))
    with (
        socket.create_connection(("127.0.0.1", front.port), LIMIT) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as client,
    ):
        sending = threading.Thread(target=exchange, args=(client, received, go))
        sending.start()
        most = 0.0
        steady = threading.Event()
        for _ in range(10):
            steady.wait(0.1)
            most = max(most, front.memory() - before)
        go.set()
        while sending.is_alive():
            sending.join(0.05)
            most = max(most, front.memory() - before)
        until(lambda: len(received) == 2)
    assert received == [SIZE, SIZE]
    assert most < 16, most


ROUTED = """\
[pools.{entry}]
listen = "127.0.0.1:{port}"
server-names = ["a.example"]
destinations = {{ a = "127.0.0.1:{a}" }}

[pools.b]
through = "{entry}"
server-names = {names}
destinations = {{ b = "127.0.0.1:{b}" }}
"""


def ask(port: int, host: str, ca: Path) -> bytes:
    """
    Ask nginx for its page, as curl does that verifies the certificate.
    """
    return run(
        *("curl", "-sS", "-m", "20", "--cacert", str(ca)),
        *("--connect-to", f"::127.0.0.1:{port}", f"https://{host}/page"),
    )


class Served:
    """
    Two servers of nginx that end TLS, and a file of the pools for them.
    """

    def __init__(self, authority: Authority, start: Start) -> None:
        self.authority = authority
        self.file = authority.folder / "iawlb.toml"
        self.port = freePort()
        self.webs: dict[str, Web] = {}
        for name in "ab":
            own = authority.issue(
                name, Issued(name, authority.root, [f"{name}.example", "c.example"])
            )
            folder = authority.folder / f"web-{name}"
            folder.mkdir()
            self.webs[name] = Web(folder, (own, own))
            start(self.webs[name])
            self.webs[name].put("page", name.encode())

    def write(self, *names: str, entry: str = "a") -> None:
        """
        Write the file.

        @param names: Those that the second server is for.
        @param entry: The name of the pool that listens.
        """
        ports = {name: web.port for name, web in self.webs.items()}
        listed = str([*names]).replace("'", '"')
        text = ROUTED.format(entry=entry, port=self.port, names=listed, **ports)
        self.file.write_text(text)

    def run(self, balancer: Balancers) -> Balancer:
        """
        Start a balancer with the file.
        """
        return balancer.run(self.port, [f"--config={self.file}"])

    def ask(self, host: str) -> bytes:
        """
        Ask for a page.
        """
        return ask(self.port, host, self.authority.ca)


def test_routes(balancer: Balancers, authority: Authority, start: Start) -> None:
    """
    curl, which offers HTTP/2, and openssl reach the nginx that has the name, and verify
    its certificate; a name of nobody gets the alert.
    """
    served = Served(authority, start)
    served.write("b.example", "*.b.example")
    front = served.run(balancer)
    assert served.ask("a.example") == b"a"
    assert served.ask("b.example") == b"b"
    with pytest.raises(AssertionError, match="unrecognized name"):
        served.ask("c.example")
    said = subprocess.run(
        [
            *(find("openssl"), "s_client", "-connect", f"127.0.0.1:{served.port}"),
            *("-servername", "nobody.example"),
        ],
        input=b"",
        capture_output=True,
        timeout=LIMIT,
        check=False,
    )
    assert b"unrecognized name" in said.stderr
    until(lambda: "refused: no pool takes nobody.example" in front.text())


def test_routesUnderLoad(
    balancer: Balancers, authority: Authority, start: Start
) -> None:
    """
    Reloads that add a name and take it away, or give the listener to another pool,
    under load, fail no client.
    """
    served = Served(authority, start)
    served.write("b.example")
    front = served.run(balancer)
    stop = threading.Event()
    answers_: list[bytes] = []
    failed: list[BaseException] = []

    def load(host: str) -> None:
        while not stop.is_set():
            try:
                answers_.append(handshaken(served, host))
            except BaseException as error:
                failed.append(error)
                return

    loading = [threading.Thread(target=load, args=(host,)) for host in HOSTS]
    for each in loading:
        each.start()
    for number in range(9):
        before = len(answers_)
        until(lambda before=before: len(answers_) > before + 20 or failed)  # type: ignore[misc]
        names = ["b.example", *(["d.example"] if number % 2 else [])]
        served.write(*names, entry="c" if number % 3 == 2 else "a")
        front.send(signal.SIGHUP)
        until(lambda number=number: front.text().count("reloaded") > number or failed)  # type: ignore[misc]
    stop.set()
    for each in loading:
        each.join(LIMIT)
    assert not failed
    assert set(answers_) == {b"a", b"b"}


HOSTS = ("a.example", "b.example", "a.example", "b.example")


def handshaken(served: Served, host: str) -> bytes:
    """
    Return the name of the server that answers, by the certificate that it shows.
    """
    context = ssl.create_default_context(cafile=str(served.authority.ca))
    with (
        socket.create_connection(("127.0.0.1", served.port), LIMIT) as plain,
        context.wrap_socket(plain, server_hostname=host) as client,
    ):
        client.sendall(b"GET /page HTTP/1.0\r\n\r\n")
        said = b""
        while part := client.recv(1000):
            said += part
        return said[-1:]
