"""
Listeners that end TLS, with the programs that people use, and with clients that mean no
good.
"""

from __future__ import annotations

import grp
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import threading
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Balancers, Serve, Start
from tests.integration.programs import (
    LIMIT,
    Balancer,
    Program,
    Web,
    answers,
    echo,
    find,
    freePort,
    readAll,
    run,
    until,
)
from tests.pem import Issued

ROOT = Issued("root", authority=True)
SERVER = Issued("localhost", ROOT, ["localhost"], days=90)
CLIENTS = Issued("clients", authority=True)
CLIENT = Issued("a client", CLIENTS)

PAGE = b"x" * 100_000

HOWTO = Path(__file__).parents[2] / "docs" / "howto.md"


class Files:
    """
    The files of a test.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = self.write("root.pem", ROOT.pem)
        self.own = self.write("own.pem", SERVER.keyPem, SERVER.pem)
        self.clients = self.write("clients.pem", CLIENTS.pem)
        self.client = self.write("client.pem", CLIENT.keyPem, CLIENT.pem)

    def write(self, name: str, *parts: bytes) -> Path:
        """
        Write a file, at once and whole.
        """
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        fresh = path.with_suffix(".new")
        fresh.write_bytes(b"".join(parts))
        return fresh.rename(path)

    def trusting(self) -> ssl.SSLContext:
        """
        Make a client's context, which trusts the root.
        """
        return ssl.create_default_context(cafile=str(self.root))


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """
    Write the files.
    """
    folder = tmp_path / "files"
    folder.mkdir()
    return Files(folder)


@pytest.fixture
def page(web: Web) -> Web:
    """
    A web server with a page.
    """
    web.put("page", PAGE)
    return web


def listening(files: Files, more: str = "") -> str:
    """
    Write the address of a listener.
    """
    return f"127.0.0.1:PORT certificate={files.own} {more}".strip()


def url(front: Balancer) -> str:
    """
    Where the page is.
    """
    return f"https://localhost:{front.port}/page"


def s_client(front: Balancer, *options: str, give: bytes = b"") -> str:
    """
    Shake hands with openssl's client; return what the client prints.
    """
    done = subprocess.run(
        [
            *(find("openssl"), "s_client"),
            *("-connect", f"localhost:{front.port}", "-4", *options),
        ],
        input=give,
        capture_output=True,
        timeout=LIMIT,
        check=False,
    )
    return (done.stdout + done.stderr).decode(errors="replace")


# Programs.


@pytest.mark.parametrize("form", ["own", "tls", "ssl"])
def test_sslyze(files: Files, balancer: Balancers, form: str, serve: Serve) -> None:
    """
    sslyze finds nothing against Mozilla's intermediate configuration, at the defaults
    of every form of a TLS listener.
    """
    sslyze = find("sslyze")
    listen = {
        "own": listening(files),
        "ssl": f"ssl:PORT:interface=127.0.0.1:privateKey={files.own}",
        "tls": f"tls:{files.own.parent}:port=PORT",
    }[form]
    for path in (files.client, files.root, files.clients):
        path.rename(path.with_suffix(".txt"))
    front = balancer(serve(echo), listen=listen)
    found = files.folder / "found.json"
    done = subprocess.run(
        [
            *(sslyze, "--mozilla_config=intermediate", f"--json_out={found}"),
            f"--certinfo_ca_file={files.root.with_suffix('.txt')}",
            f"localhost:{front.port}",
        ],
        capture_output=True,
        timeout=LIMIT,
        check=False,
    )
    said = done.stdout.decode()
    assert "OK - Compliant" in said, said[-2000:]
    assert done.returncode == 0
    (scan,) = json.loads(found.read_text())["server_scan_results"]
    results = {
        name: each["result"]
        for name, each in scan["scan_result"].items()
        if each["status"] == "COMPLETED"
    }
    assert not results["tls_compression"]["supports_compression"]
    assert not results["heartbleed"]["is_vulnerable_to_heartbleed"]
    assert not results["openssl_ccs_injection"]["is_vulnerable_to_ccs_injection"]
    renegotiation = results["session_renegotiation"]
    assert not renegotiation["is_vulnerable_to_client_renegotiation_dos"]
    assert results["robot"]["robot_result"].startswith("NOT_VULNERABLE")


@pytest.mark.parametrize("form", ["own", "tls", "ssl", "alpn"])
def test_chromium(
    files: Files, page: Web, balancer: Balancers, chromium: Any, form: str
) -> None:
    """
    Chromium, which offers HTTP/2 and HTTP/1.1, loads a page through every form of a TLS
    listener.
    """
    page.put("index.html", b"<title>served</title><p>hello")
    folder = files.write("only/own.pem", files.own.read_bytes()).parent
    listen = {
        "own": listening(files),
        "alpn": listening(files, "alpn=http/1.1"),
        "ssl": f"ssl:PORT:interface=127.0.0.1:privateKey={files.own}",
        "tls": f"tls:{folder}:port=PORT",
    }[form]
    front = balancer(page.port, listen=listen, options=["--log-format", "json"])
    context = chromium.new_context(ignore_https_errors=True)
    try:
        tab = context.new_page()
        answer = tab.goto(f"https://localhost:{front.port}/index.html")
        assert (answer.status, tab.title()) == (200, "served")
        assert answer.security_details()["protocol"] == "TLS 1.3"
    finally:
        context.close()
    until(lambda: '"sni":"localhost"' in front.text())
    assert ('"alpn":"http/1.1"' in front.text()) is (form == "alpn")


def test_curl(files: Files, page: Web, balancer: Balancers) -> None:
    """
    curl, which offers HTTP/2 and HTTP/1.1 as browsers do, trusts the certificate and
    gets its page, by every version of TLS from 1.2 on.
    """
    front = balancer(page.port, listen=listening(files))
    for option in ("--http2", "--http1.1", "--no-alpn", "--tls-max=1.2", "--tlsv1.3"):
        got = run(
            *("curl", "-sSf", "-m", "20", *option.split("=")),
            *("-w", "%{http_version}", "--cacert", str(files.root), url(front)),
        )
        assert got == PAGE + b"1.1"


def test_http2(files: Files, tmp_path: Path, balancer: Balancers, start: Start) -> None:
    """
    With alpn=h2, curl speaks HTTP/2 to a server that speaks it without TLS.
    """
    server = Web(tmp_path)
    configuration = tmp_path / f"nginx-{server.port}.conf"
    text = configuration.read_text()
    configuration.write_text(text.replace("backlog=4096", "backlog=4096 http2"))
    start(server)
    server.put("page", PAGE)
    front = balancer(server.port, listen=listening(files, "alpn=h2"))
    got = run(
        *("curl", "-sSf", "-m", "20", "--http2", "-w", "%{http_version}"),
        *("--cacert", str(files.root), url(front)),
    )
    assert got == PAGE + b"2"
    done = subprocess.run(
        [find("curl"), "-sS", "--http1.1", "--cacert", str(files.root), url(front)],
        capture_output=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 35, done.stderr
    until(lambda: "no application protocol in common" in front.text())


def test_openssl(files: Files, page: Web, balancer: Balancers) -> None:
    """
    openssl's client is served by TLS 1.2 and 1.3, is refused by 1.1, cannot shake hands
    again, and has its half-close passed on.
    """
    front = balancer(page.port, listen=listening(files))
    verify = ("-CAfile", str(files.root), "-verify_return_error")
    for version in ("-tls1_2", "-tls1_3"):
        said = s_client(front, *verify, version, "-alpn", "h2,http/1.1")
        assert "Verify return code: 0 (ok)" in said
        assert "No ALPN negotiated" in said
        assert "Compression: NONE" in said
    said = s_client(front, "-tls1_1", "-cipher", "ALL:@SECLEVEL=0")
    assert "protocol version" in said
    said = s_client(front, *verify, "-tls1_2", give=b"R\n")
    assert "RENEGOTIATING" in said
    assert "no renegotiation" in said
    # It ends its half when its input ends, and still gets the answer.
    ask = b"GET /page HTTP/1.0\r\nHost: a\r\n\r\n"
    said = s_client(front, *verify, "-quiet", "-no_ign_eof", give=ask)
    until(lambda: "TLS handshake failed" in front.text())


def test_clientCertificates(files: Files, page: Web, balancer: Balancers) -> None:
    """
    Where certificates of clients are required, only those with a good one are served;
    where they are asked for, those with none are too. The log has the client's name.
    """
    own = ("--cert", str(files.client))
    for word, status in (("required", 56), ("asked", 0)):
        more = f"client-ca={files.clients} client-certificate={word}"
        front = balancer(
            page.port,
            listen=listening(files, more),
            options=["--log-format", "{code} {tlsClient} {tls}"],
        )
        curl = ("curl", "-sSf", "-m", "20", "--cacert", str(files.root))
        assert run(*curl, *own, url(front)) == PAGE
        until(lambda f=front: "-- a client TLSv1.3/TLS_" in f.text())  # type: ignore[misc]
        done = subprocess.run(
            [find("curl"), *curl[1:], url(front)], capture_output=True, check=False
        )
        assert done.returncode == status
        wrong = files.write("wrong.pem", SERVER.keyPem, SERVER.pem)
        done = subprocess.run(
            [find("curl"), *curl[1:], "--cert", str(wrong), url(front)],
            capture_output=True,
            check=False,
        )
        assert done.returncode == 56
        until(lambda f=front: "refused: the TLS handshake failed" in f.text())  # type: ignore[misc]


def test_nginx(
    files: Files, page: Web, balancer: Balancers, tmp_path: Path, start: Start
) -> None:
    """
    nginx as the client: it verifies the certificate, sends the name and shows a
    certificate of its own, and keeps connections open.
    """
    more = f"client-ca={files.clients} client-certificate=required"
    front = balancer(
        page.port,
        listen=listening(files, more),
        options=["--log-format", "{sni} {tlsClient} {bytesOut}"],
    )
    folder = tmp_path / "front"
    folder.mkdir()
    proxy = Web(folder)
    configuration = folder / f"nginx-{proxy.port}.conf"
    text = configuration.read_text()
    location = (
        f"location / {{ proxy_pass https://127.0.0.1:{front.port}; "
        "proxy_ssl_verify on; proxy_ssl_name localhost; proxy_ssl_server_name on; "
        f"proxy_ssl_trusted_certificate {files.root}; "
        f"proxy_ssl_certificate {files.client}; "
        f"proxy_ssl_certificate_key {files.client}; "
        "proxy_http_version 1.1; proxy_set_header Connection close; }"
    )
    configuration.write_text(text.replace("root ", f"{location} root "))
    start(proxy)
    for _ in range(20):
        assert run("curl", "-sSf", f"http://127.0.0.1:{proxy.port}/page") == PAGE
    until(lambda: front.text().count("localhost a client 100") == 20)


@pytest.mark.parametrize("version", ["send-proxy", "send-proxy-v2"])
def test_behindProxy(
    files: Files,
    page: Web,
    balancer: Balancers,
    tmp_path: Path,
    start: Start,
    version: str,
) -> None:
    """
    HAProxy passes TLS on behind a header of the PROXY protocol: the log has the client
    of the header, and what it has said over TLS.
    """
    front = balancer(
        page.port,
        listen=listening(files, "accept-proxy=127.0.0.0/8"),
        options=["--log-format", "{client} {sni} {code}"],
    )
    port = freePort()
    configuration = tmp_path / "haproxy.cfg"
    configuration.write_text(
        "defaults\n mode tcp\n timeout connect 9s\n timeout client 9s\n"
        f" timeout server 9s\nlisten a\n bind 127.0.0.1:{port}\n"
        f" source 127.0.0.3\n server a 127.0.0.1:{front.port} {version}\n"
    )
    start(
        Program(
            ["haproxy", "-db", "-f", str(configuration)],
            tmp_path,
            ready=lambda: answers(port),
        )
    )
    got = run(
        *("curl", "-sSf", "-m", "20", "--cacert", str(files.root)),
        *("--interface", "127.0.0.2", f"https://localhost:{port}/page"),
    )
    assert got == PAGE
    until(lambda: re.search(r"127\.0\.0\.2:\d+ localhost --", front.text()))


# Renewal.


class Load:
    """
    Clients that ask for a page again and again, each time with a new handshake.

    @ivar served: How many pages they have got.
    @ivar errors: What has failed.
    @ivar seen: The serial numbers of the certificates that they were shown.
    """

    def __init__(self, files: Files, port: int, number: int) -> None:
        self.served = 0
        self.errors: list[str] = []
        self.seen: set[str] = set()
        self._files = files
        self._port = port
        self._over = False
        self._threads = [threading.Thread(target=self._ask) for _ in range(number)]
        for each in self._threads:
            each.start()

    def _ask(self) -> None:
        while not self._over:
            try:
                with (
                    socket.create_connection(("127.0.0.1", self._port), LIMIT) as raw,
                    self._files.trusting().wrap_socket(
                        raw, server_hostname="localhost"
                    ) as client,
                ):
                    found: Any = client.getpeercert()
                    self.seen.add(found["serialNumber"])
                    client.sendall(b"GET /page HTTP/1.0\r\n\r\n")
                    got = b"".join(iter(lambda: client.recv(65536), b""))
                    assert got.endswith(PAGE), len(got)
                    self.served += 1
            except Exception as error:
                self.errors.append(repr(error))

    def stop(self) -> None:
        """
        Stop the clients.
        """
        self._over = True
        for each in self._threads:
            each.join(LIMIT)


def test_renewedUnderLoad(files: Files, page: Web, balancer: Balancers) -> None:
    """
    Certificate and key are replaced again and again under load, also one file after
    the other, and now and then by a half: no client sees an error, and all new ones are
    used. The log says once what cannot be used.
    """
    certificate = files.write("pair/cert.pem", SERVER.pem)
    key = files.write("pair/key.pem", SERVER.keyPem)
    front = balancer(
        page.port,
        listen=f"127.0.0.1:PORT certificate={certificate} certificate-key={key}",
        options=["--log", "errors"],
    )
    load = Load(files, front.port, 4)
    try:
        for number in range(2):
            new = Issued("localhost", ROOT, ["localhost"], days=90 + number)
            files.write("pair/cert.pem", new.pem)
            # The key comes a while later: the pair does not fit meanwhile.
            until(lambda n=number: front.text().count("do not belong") == n + 1)  # type: ignore[misc]
            half = new.keyPem[:100]
            key.write_bytes(half)
            until(lambda n=number: front.text().count("is cut off") == n + 1)  # type: ignore[misc]
            files.write("pair/key.pem", new.keyPem)
            until(lambda n=number: front.text().count("were read again") == n + 1)  # type: ignore[misc]
            serial = f"{new.certificate.serial_number:X}"
            until(lambda s=serial: any(each.endswith(s) for each in load.seen))  # type: ignore[misc]
    finally:
        load.stop()
    assert load.errors == []
    assert load.served > 50
    assert len(load.seen) == 3


def test_reloadedUnderLoad(
    files: Files, page: Web, balancer: Balancers, tmp_path: Path
) -> None:
    """
    TLS begins, changes and moves to another certificate by reloads under load: no
    client sees an error, also none in the middle of its handshake.
    """
    other = Issued("localhost", ROOT, ["localhost"], days=99)
    second = files.write("second.pem", other.keyPem, other.pem)
    file, port = tmp_path / "iawlb.toml", freePort()

    def write(settings: str) -> None:
        file.write_text(
            f'[pools.web]\nlisten = {{ address = "127.0.0.1:{port}", {settings} }}\n'
            f'destinations = {{ a = "127.0.0.1:{page.port}" }}\n'
        )

    write(f'certificate = "{files.own}"')
    front = balancer.run(port, ["--config", str(file), "--log=errors"])
    load = Load(files, port, 4)
    try:
        for number in range(9):
            write(
                (
                    f'certificate = "{files.own}", tls-min = "1.3"',
                    f'certificate = ["{second}", "{files.own}"], alpn = ["http/1.1"]',
                    f'certificate = "{files.own}", client-certificate = "asked", '
                    f'client-ca = "{files.clients}"',
                )[number % 3]
            )
            before = load.served
            os.kill(front.pid, signal.SIGHUP)
            until(lambda n=number: front.text().count("] reloaded ") == n + 1)  # type: ignore[misc]
            until(lambda b=before: load.served > b + 8)  # type: ignore[misc]
    finally:
        load.stop()
    assert load.errors == []
    assert len(load.seen) == 2


def hook() -> str:
    """
    Return the hook for certbot that the guide has.
    """
    (found,) = re.findall(r"```sh\n(#!/bin/sh\n.*?)```", HOWTO.read_text(), re.DOTALL)
    return str(found)


def test_certbot(files: Files, page: Web, balancer: Balancers, tmp_path: Path) -> None:
    """
    certbot runs the hook of the guide after a renewal, and the new certificate is
    served without a restart.
    """
    group = grp.getgrgid(os.getegid()).gr_name
    served = tmp_path / "served"
    served.mkdir()
    text = hook().replace("/etc/iawlb/certificates", str(served))
    script = tmp_path / "hook"
    script.write_text(text.replace("chgrp iawlb", f"chgrp {group}"))
    script.chmod(0o755)
    lineage = tmp_path / "live" / "example.org"
    lineage.mkdir(parents=True)

    def renew(issued: Issued) -> None:
        (lineage / "privkey.pem").write_bytes(issued.keyPem)
        (lineage / "fullchain.pem").write_bytes(issued.pem + ROOT.pem)
        (lineage / "cert.pem").write_bytes(issued.pem)
        (lineage / "chain.pem").write_bytes(ROOT.pem)
        find("certbot")
        # The function that certbot calls after a renewal, with Debian's Python.
        call = (
            "import sys; from certbot._internal import hooks; hooks._run_deploy_hook("
            "sys.argv[1], ['example.org'], sys.argv[2], False)"
        )
        run("/usr/bin/python3", "-c", call, str(script), str(lineage))

    renew(SERVER)
    (file,) = served.iterdir()
    assert file.name == "example.org.pem"
    assert file.stat().st_mode & 0o777 == 0o640
    front = balancer(page.port, listen=f"127.0.0.1:PORT certificate={served}")
    load = Load(files, front.port, 2)
    try:
        until(lambda: load.served)
        new = Issued("localhost", ROOT, ["localhost"], days=90)
        renew(new)
        until(lambda: len(load.seen) == 2)
    finally:
        load.stop()
    assert load.errors == []


# Clients that mean no good.


def test_floods(files: Files, page: Web, balancer: Balancers) -> None:
    """
    A thousand handshakes that stop half-way, and a thousand clients that send garbage,
    take no slot, hold up nobody, and are gone after the time-out; memory is bounded.
    """
    front = balancer(
        page.port,
        listen=listening(files),
        options=["--slots", "1", "--handshake-timeout", "3s", "--log", "errors"],
    )
    curl = ("curl", "-sSf", "-m", "20", "--cacert", str(files.root), url(front))
    assert run(*curl) == PAGE
    before = front.memory()
    hello = ssl.MemoryBIO()
    half = files.trusting().wrap_bio(ssl.MemoryBIO(), hello, server_hostname="a")
    with suppress(ssl.SSLWantReadError):
        half.do_handshake()
    first = hello.read()
    with ExitStack() as stack:
        for number in range(1000):
            client = socket.create_connection(("127.0.0.1", front.port), LIMIT)
            stack.callback(client.close)
            # Some send nothing, some a part, some all of it.
            client.sendall(first[: (number % 3) * len(first) // 2])
        assert run(*curl) == PAGE
        grown = front.memory() - before
        assert grown < 150, grown
        for _ in range(1000):
            with socket.create_connection(("127.0.0.1", front.port), LIMIT) as client:
                client.sendall(b"\x80garbage" * 20)
        assert run(*curl) == PAGE
        until(lambda: front.connections() == 0)
    assert run(*curl) == PAGE
    assert 1 <= front.text().count("the TLS handshake failed") <= 100


def test_huge(files: Files, page: Web, balancer: Balancers) -> None:
    """
    A client whose first message has no end is closed before it fills the memory.
    """
    front = balancer(page.port, listen=listening(files))
    record = b"\x16\x03\x01\x40\x00"
    with socket.create_connection(("127.0.0.1", front.port), LIMIT) as client:
        client.sendall(record + b"\x01\xff\xff\xff" + bytes(16380))
        sent = 0
        with suppress(OSError):
            while sent < 10_000_000:
                client.sendall(record + bytes(16384))
                sent += 16384
        assert sent < 10_000_000
    until(lambda: "excessive message size" in front.text())


def test_silentAfterHello(files: Files, serve: Serve, balancer: Balancers) -> None:
    """
    A client that reads nothing of what it is sent, while it goes on asking, does not
    make the balancer grow.
    """
    front = balancer(serve(echo), listen=listening(files))
    with (
        socket.create_connection(("127.0.0.1", front.port), LIMIT) as raw,
        files.trusting().wrap_socket(raw, server_hostname="localhost") as client,
    ):
        client.sendall(b"ask")
        assert client.recv(10) == b"ask"
        before = front.memory()
        client.settimeout(1)
        sent = 0
        with suppress(TimeoutError):
            while sent < 200_000_000:
                sent += client.send(bytes(1 << 16))
        assert sent < 100_000_000
        assert front.memory() - before < 30


def test_halfClose(files: Files, serve: Serve, balancer: Balancers) -> None:
    """
    A client that ends its half with close_notify gets the whole answer of a server that
    waits for the end, and then an end in order.
    """

    def answer(peer: socket.socket) -> None:
        asked = readAll(peer)
        peer.sendall(asked * 3)

    front = balancer(serve(answer), listen=listening(files))
    question = os.urandom(300_000)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = files.trusting().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with socket.create_connection(("127.0.0.1", front.port), LIMIT) as client:

        def step(call: Any) -> Any:
            while True:
                try:
                    found = call()
                except ssl.SSLWantReadError:
                    client.sendall(outgoing.read())
                    data = client.recv(65536)
                    assert data, "TCP has ended before TLS"
                    incoming.write(data)
                else:
                    client.sendall(outgoing.read())
                    return found

        step(tls.do_handshake)
        step(lambda: tls.write(question))
        with suppress(ssl.SSLWantReadError):
            tls.unwrap()
        client.sendall(outgoing.read())
        got = b""
        with suppress(ssl.SSLZeroReturnError):
            while data := step(lambda: tls.read(65536)):
                got += data
    assert got == question * 3
    until(lambda: "closed by both sides (--)" in front.text())
