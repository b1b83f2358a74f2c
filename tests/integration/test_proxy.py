"""
The PROXY protocol, from and to HAProxy and nginx, and from clients that mean no good.
"""

from __future__ import annotations

import json
import re
import resource
import socket
import subprocess
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.conftest import Balancers, Serve, Start
from tests.integration.programs import (
    LIMIT,
    Address,
    Balancer,
    Program,
    Web,
    answers,
    connect,
    echo,
    exchange,
    find,
    freePort,
    lacking,
    readAll,
    run,
    until,
)
from tests.integration.test_tlsin import Files
from tests.proxyheaders import CHECKED, RIGHT, TRUNCATED, WRONG

STREAM = Path("/usr/lib/nginx/modules/ngx_stream_module.so")

HEADER = b"PROXY TCP4 203.0.113.9 198.51.100.7 56324 443\r\n"

TEMPLATE = "{client} {proxy} {tlvs} {uniqueId} {code}"


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """
    Write certificates.
    """
    folder = tmp_path / "files"
    folder.mkdir()
    return Files(folder)


def haproxy(folder: Path, start: Start, text: str, port: int) -> Program:
    """
    Start HAProxy.

    @param text: Its configuration, but for the defaults.
    """
    path = folder / f"haproxy-{port}.cfg"
    path.write_text(
        "global\n  stats timeout 30s\ndefaults\n  mode tcp\n  timeout connect 5s\n"
        f"  timeout client 60s\n  timeout server 60s\n{text}\n"
    )
    program = Program(
        ["haproxy", "-db", "-f", str(path)], folder, ready=lambda: answers(port)
    )
    start(program)
    return program


def nginx(folder: Path, start: Start, text: str, port: int) -> Program:
    """
    Start nginx.

    @param text: The sections C{http} and C{stream} of its configuration.
    """
    load = ""
    if "stream {" in text:
        if STREAM.exists():
            load = f"load_module {STREAM};"
        elif b"--with-stream " not in subprocess.run(
            [find("nginx"), "-V"], capture_output=True, check=True
        ).stderr.replace(b"\n", b" "):
            lacking("nginx has no stream module")
    temporary = " ".join(
        f"{each}_temp_path {folder}/{each};"
        for each in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    path = folder / f"nginx-{port}.conf"
    path.write_text(
        f"{load} daemon off; master_process off; pid {folder}/nginx-{port}.pid; "
        "error_log stderr info; events { worker_connections 1024; }\n"
        + text.replace("http {", f"http {{ access_log off; {temporary}")
    )
    program = Program(
        ["nginx", "-e", "stderr", "-c", str(path)], folder, ready=lambda: answers(port)
    )
    start(program)
    return program


def name(client: socket.socket) -> str:
    """
    Return the address of a client's own end.
    """
    host, port = client.getsockname()[:2]
    return f"{host}:{port}"


def ask(to: Address, host: str = "127.0.0.1") -> tuple[str, str]:
    """
    Ask a web server for a page.

    @return: The address of the client, and the body.
    """
    with connect(to, host) as client:
        own = name(client) if isinstance(to, int) else ""
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        answer = readAll(client)
    assert answer.startswith(b"HTTP/1.1 200"), answer
    return own, answer.partition(b"\r\n\r\n")[2].decode().strip()


# Others send, and we read.


def lastLine(front: Balancer, number: int = 1) -> str:
    """
    Wait for the log line of a session.
    """
    lines: list[str] = []

    def found() -> bool:
        lines[:] = re.findall(r"^SAID (.*)$", front.text(), re.M)
        return len(lines) >= number

    until(found, "a log line")
    return lines[number - 1]


LOGGED = ["--log-format", f"SAID {TEMPLATE}", "--log-to", "stdout"]


@pytest.mark.parametrize(
    ("sends", "tlvs"),
    [
        ("send-proxy", ""),
        ("send-proxy-v2", ""),
        (
            "send-proxy-v2 proxy-v2-options crc32c,unique-id",
            "crc32c=.* unique-id=x.7f000001",
        ),
    ],
)
def test_fromHAProxy(
    balancer: Balancers,
    serve: Serve,
    tmp_path: Path,
    start: Start,
    sends: str,
    tlvs: str,
) -> None:
    """
    HAProxy sends headers of each kind: the session is known by HAProxy's client, and
    bytes and ends pass both ways. HAProxy's checks are its own.
    """
    front = balancer(
        serve(echo), options=["--accept-proxy", "127.0.0.0/8", *LOGGED, "--log-null=no"]
    )
    port = freePort()
    text = (
        f"frontend in\n  bind 127.0.0.1:{port}\n  unique-id-format x.%{{+X}}o%ci\n"
        f"  default_backend out\nbackend out\n"
        f"  server iawlb 127.0.0.1:{front.port} {sends}\n"
    )
    haproxy(tmp_path, start, text, port)
    with connect(port) as client:
        own = name(client)
        assert exchange(client, 1, 2**20)
    found: list[str] = []

    def logged() -> bool:
        found[:] = [
            line
            for line in re.findall(r"^SAID (.*)$", front.text(), re.M)
            if line.startswith(own)
        ]
        return bool(found)

    until(logged, "the log line of the client")
    pattern = rf"{own} 127\.0\.0\.1:\d+ {tlvs or '-'} .* --"
    assert re.fullmatch(pattern, found[0], re.IGNORECASE), found


def test_fromHAProxyByTls(
    balancer: Balancers,
    serve: Serve,
    tmp_path: Path,
    start: Start,
    files: Files,
) -> None:
    """
    HAProxy ends TLS, and says what it knows of it: name, protocol, version, cipher.
    """
    front = balancer(
        serve(echo), options=["--accept-proxy=127.0.0.1", "--log-format=json"]
    )
    port = freePort()
    text = (
        f"frontend in\n  bind 127.0.0.1:{port} ssl crt {files.own} alpn h2,http/1.1\n"
        f"  default_backend out\nbackend out\n  server iawlb 127.0.0.1:{front.port} "
        "send-proxy-v2-ssl-cn proxy-v2-options authority,crc32c,ssl-cipher\n"
    )
    haproxy(tmp_path, start, text, port)
    context = files.trusting()
    context.set_alpn_protocols(["h2"])
    with context.wrap_socket(connect(port), server_hostname="localhost") as client:
        client.sendall(b"hello")
        assert client.recv(5) == b"hello"
        own = name(client)
    until(lambda: f'"client":"{own}"' in front.text(), "the log line")
    (line,) = (each for each in front.text().splitlines() if own in each)
    said = json.loads(line[line.index("{") :])
    assert (said["sni"], said["alpn"]) == ("localhost", "h2")
    assert said["tlvs"]["ssl-version"] == "TLSv1.3"
    assert said["tlvs"]["ssl"] == "tls"
    assert said["tlvs"]["ssl-cipher"].startswith("TLS_")


def test_fromNginx(
    balancer: Balancers, serve: Serve, tmp_path: Path, start: Start
) -> None:
    """
    nginx sends headers of version 1.
    """
    front = balancer(serve(echo), options=["--accept-proxy=127.0.0.1", *LOGGED])
    port = freePort()
    text = (
        f"stream {{ server {{ listen 127.0.0.1:{port}; proxy_protocol on; "
        f"proxy_pass 127.0.0.1:{front.port}; }} }}"
    )
    nginx(tmp_path, start, text, port)
    until(lambda: "SAID" in front.text(), "the connect of this test's own")
    with connect(port) as client:
        own = name(client)
        client.sendall(b"hello")
        assert client.recv(5) == b"hello"
    until(lambda: f"SAID {own} 127.0.0.1:" in front.text(), "the log line")


def test_beforeTls(
    balancer: Balancers, web: Web, tmp_path: Path, start: Start, files: Files
) -> None:
    """
    HAProxy passes TLS through with a header before it; the balancer reads the header,
    then ends TLS.
    """
    front = balancer(
        web.port,
        listen=f"127.0.0.1:PORT certificate={files.own} accept-proxy=127.0.0.1",
        options=LOGGED,
    )
    web.put("page", b"x" * 100_000)
    port = freePort()
    text = (
        f"listen in\n  bind 127.0.0.1:{port}\n"
        f"  server iawlb 127.0.0.1:{front.port} send-proxy-v2\n"
    )
    haproxy(tmp_path, start, text, port)
    where = f"https://localhost:{port}/page"
    curl = ("curl", "-sSf", "-4", "--cacert", str(files.root))
    assert run(*curl, "--local-port", "30100-30199", where) == b"x" * 100_000
    until(lambda: re.search(r"SAID 127.0.0.1:301\d\d 127.0.0.1:", front.text()))


# We send, and others read.


def receiver(kind: str, folder: Path, start: Start, more: str = "") -> int:
    """
    Start a web server that reads headers, and answers with what they said: the client's
    address and the server's.

    @param more: Settings of the listening socket.
    """
    port = freePort()
    if kind == "haproxy":
        text = (
            f"frontend web\n  mode http\n  bind 127.0.0.1:{port} accept-proxy {more}\n"
            "  http-request return status 200 content-type text/plain lf-string "
            '"%[src]:%[src_port] %[dst]:%[dst_port] %[fc_pp_authority] '
            '%[fc_pp_unique_id]"\n'
        )
        haproxy(folder, start, text, port)
    else:
        text = (
            f"http {{ server {{ listen 127.0.0.1:{port} proxy_protocol {more}; "
            'location / { return 200 "$proxy_protocol_addr:$proxy_protocol_port '
            '$proxy_protocol_server_addr:$proxy_protocol_server_port"; } } }'
        )
        nginx(folder, start, text, port)
    return port


VERSIONS = ("v1", "v2")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", ["haproxy", "nginx"])
def test_to(
    kind: str, version: str, balancer: Balancers, tmp_path: Path, start: Start
) -> None:
    """
    HAProxy and nginx read our headers, which they would not if one came in pieces: they
    know the client and where it connected to.
    """
    port = receiver(kind, tmp_path, start)
    front = balancer(port, options=["--send-proxy", version])
    for _ in range(20):
        own, said = ask(front.port)
        assert said.split()[:2] == [own, f"127.0.0.1:{front.port}"]
    # A client that speaks late: the header comes alone.
    with connect(front.port) as client:
        time.sleep(0.2)
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert name(client).encode() in readAll(client)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", ["haproxy", "nginx"])
def test_toOverIPv6(
    kind: str, version: str, balancer: Balancers, tmp_path: Path, start: Start
) -> None:
    """
    Clients of IPv6 are named as such, and those of IPv4 on the same listener as such.
    """
    port = receiver(kind, tmp_path, start)
    front = balancer(port, listen="[::]:PORT", options=["--send-proxy", version])
    for host in ("::1", "127.0.0.1"):
        own, said = ask(front.port, host)
        assert said.split()[:2] == [own, f"{host}:{front.port}"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", ["haproxy", "nginx"])
def test_toFromUnix(
    kind: str, version: str, balancer: Balancers, tmp_path: Path, start: Start
) -> None:
    """
    A client of a Unix socket has no address, and is served all the same.
    """
    port = receiver(kind, tmp_path, start)
    path = str(tmp_path / "in.sock")
    front = balancer(port, listen=path, options=["--send-proxy", version])
    _, said = ask(front.where)
    assert said.startswith("127.0.0.1:" if kind == "haproxy" else ": ")


def test_tlvsToHAProxy(
    balancer: Balancers, tmp_path: Path, start: Start, files: Files
) -> None:
    """
    HAProxy reads the name and the unique id out of our header, checksum included; the
    log has the same id.
    """
    port = receiver("haproxy", tmp_path, start)
    front = balancer(
        port,
        listen=f"127.0.0.1:PORT certificate={files.own} alpn=http/1.1",
        options=[
            "--send-proxy=v2",
            "--proxy-tlvs=unique-id,authority,alpn,ssl,crc32c",
            *LOGGED,
        ],
    )
    curl = ("curl", "-sSf", "-4", "--cacert", str(files.root))
    said = run(*curl, f"https://localhost:{front.port}/").decode().split()
    assert said[2] == "localhost"
    until(lambda: f" {said[3]} " in front.text(), "the log line with the id")


@pytest.mark.parametrize("version", VERSIONS)
def test_toNginxByTls(
    version: str, balancer: Balancers, tmp_path: Path, start: Start, files: Files
) -> None:
    """
    Where the destination speaks TLS, the header comes before TLS.
    """
    keys = f"ssl; ssl_certificate {files.own}; ssl_certificate_key {files.own}"
    port = receiver("nginx", tmp_path, start, keys)
    front = balancer(
        f"localhost:{port} tls=yes tls-ca={files.root}",
        options=["--send-proxy", version],
    )
    own, said = ask(front.port)
    assert said == f"{own} 127.0.0.1:{front.port}"


@pytest.mark.parametrize("version", VERSIONS)
def test_probes(
    version: str, balancer: Balancers, tmp_path: Path, start: Start
) -> None:
    """
    Probes of a destination that is down, and checks of one that is up, begin with the
    balancer's own header: nginx finds no fault with any.
    """
    port = freePort()
    front = balancer(
        port,
        options=[
            f"--send-proxy={version}",
            "--health-check=http:/",
            "--check-interval=100ms",
        ],
    )
    until(lambda: "is down" in front.text(), "the first check")
    text = (
        f"http {{ server {{ listen 127.0.0.1:{port} proxy_protocol; "
        'location / { return 200 "$proxy_protocol_addr"; } } }'
    )
    path = tmp_path / "nginx"
    path.mkdir()
    server = nginx(path, start, text, port)
    # That this test has connected without a header was its own fault.
    before = server.text().count("broken header")
    until(lambda: "is up" in front.text(), "the first check that succeeds")
    for _ in range(5):
        assert ask(front.port)[1] == "127.0.0.1"
        time.sleep(0.1)
    assert server.text().count("broken header") == before


def test_chain(balancer: Balancers, tmp_path: Path, start: Start) -> None:
    """
    A chain of balancers, ours and HAProxy, keeps the client's address and its id.
    """
    port = receiver("haproxy", tmp_path, start)
    last = balancer(
        port,
        options=[
            *("--accept-proxy=127.0.0.1", "--send-proxy=v2"),
            *("--proxy-tlvs=unique-id", *LOGGED),
        ],
    )
    first = balancer(
        last.port,
        options=["--send-proxy=v2", "--proxy-tlvs=unique-id,crc32c", *LOGGED],
    )
    own, said = ask(first.port)
    addresses = said.split()
    assert addresses[:2] == [own, f"127.0.0.1:{first.port}"]
    for each in (first, last):
        until(lambda f=each: f" {addresses[-1]} " in f.text())  # type: ignore[misc]


# Clients that mean no good.


class Taking:
    """
    A server that keeps what it gets.
    """

    def __init__(self) -> None:
        self.got: list[bytes] = []

    def __call__(self, peer: socket.socket) -> None:
        """
        Take a client's bytes.
        """
        data = readAll(peer)
        self.got.append(data)
        peer.sendall(data)


def test_malformed(balancer: Balancers, serve: Serve) -> None:
    """
    Of more than 72 malformed headers, whole and byte by byte, and of two that are cut
    off at each of their bytes, none reaches a destination; all right ones are taken
    off.
    """
    taking = Taking()
    front = balancer(serve(taking), options=["--accept-proxy=all", *LOGGED])
    assert len(WRONG) >= 72
    for slowly in (False, True):
        for data in (*WRONG.values(), *TRUNCATED.values()):
            with connect(front.port) as client:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                try:
                    for start in range(0, len(data), 1 if slowly else 9999):
                        client.send(data[start : start + (1 if slowly else 9999)])
                    client.shutdown(socket.SHUT_WR)
                    assert client.recv(99) == b""
                except OSError:
                    continue  # closed on us meanwhile
    assert taking.got == []
    for data, _ in RIGHT.values():
        with connect(front.port) as client:
            client.sendall(data + b"hello")
            client.shutdown(socket.SHUT_WR)
            assert readAll(client) == b"hello"
    assert taking.got == [b"hello"] * len(RIGHT)
    assert "wrong PROXY header" in front.text()


HALF_OPEN = 5000


def test_halfOpen(balancer: Balancers, serve: Serve) -> None:
    """
    5,000 clients that begin a header and do not complete it hold no slot and little
    memory. Others are served meanwhile, one of which sends its header byte by byte,
    and the 5,000 are closed when their time is over.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 3 * HALF_OPEN:
        lacking(f"only {hard} files may be open")
    front = balancer(
        serve(echo),
        options=[
            *("--accept-proxy=all", "--proxy-timeout=5s", "--slots=10"),
            *("--log-format", "{code} {text}"),
        ],
    )
    before = front.memory()
    with ExitStack() as stack:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        clients = []
        for number in range(HALF_OPEN):
            client = stack.enter_context(connect(front.port))
            half = (HEADER, CHECKED)[number % 2]
            client.send(half[: number % len(half)])
            clients.append(client)
        grown = front.memory() - before
        assert grown < 60, grown
        for slowly in (False, True):
            with connect(front.port) as client:
                for byte in HEADER + b"hello":
                    client.send(bytes([byte])) if slowly else None
                if not slowly:
                    client.sendall(HEADER + b"hello")
                client.shutdown(socket.SHUT_WR)
                assert readAll(client) == b"hello"
        for client in clients:
            assert client.recv(1) == b""
    until(
        lambda: front.text().count("cR PROXY header took too long") == HALF_OPEN,
        "the end of all",
    )


def test_slowFlood(balancer: Balancers, serve: Serve) -> None:
    """
    Clients that send their header a byte at a time, for ever anew, keep nobody out.
    """
    front = balancer(
        serve(echo), options=["--accept-proxy=all", "--proxy-timeout=1s", "--slots=5"]
    )
    over = threading.Event()

    def drip() -> None:
        while not over.is_set():
            try:
                with connect(front.port) as client:
                    for byte in HEADER[:-1]:
                        client.send(bytes([byte]))
                        if over.wait(0.05):
                            return
            except OSError:
                continue

    threads = [threading.Thread(target=drip) for _ in range(200)]
    for each in threads:
        each.start()
    try:
        served = 0
        while served < 300:
            with connect(front.port) as client:
                client.sendall(HEADER + b"hello")
                client.shutdown(socket.SHUT_WR)
                assert readAll(client) == b"hello"
                served += 1
        until(lambda: "PROXY header took too long" in front.text(), limit=LIMIT)
    finally:
        over.set()
        for each in threads:
            each.join(LIMIT)


def test_reload(
    balancer: Balancers, tmp_path: Path, serve: Serve, start: Start
) -> None:
    """
    A reload begins to read and to send headers under load, and ends it again: every
    session is served as it was when it came, and none is lost.
    """
    taking = Taking()
    port = serve(taking)
    front = freePort()
    path = tmp_path / "iawlb.toml"

    def configured(more: str) -> str:
        return (
            f'[pools.web]\nlisten = "127.0.0.1:{front}"\n{more}\n'
            f'[pools.web.destinations]\na = "127.0.0.1:{port}"\n'
        )

    path.write_text(configured(""))
    running = balancer.run(front, ["--config", str(path)])

    def said(data: bytes) -> bytes:
        with connect(front) as client:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            return readAll(client)

    assert said(b"plain") == b"plain"
    begun = connect(front)
    begun.sendall(b"before")
    for more, sent, got in (
        ('send-proxy = "v1"', b"x", rb"PROXY TCP4 127.0.0.1 127.0.0.1 \d+ \d+\r\nx"),
        ('accept-proxy = "127.0.0.1"', HEADER + b"y", b"y"),
        (
            'accept-proxy = "127.0.0.1"\nsend-proxy = "v1"',
            HEADER + b"z",
            re.escape(HEADER) + b"z",
        ),
        ("", b"plain", b"plain"),
    ):
        path.write_text(configured(more))
        number = running.text().count("reloaded")
        running.send(1)  # SIGHUP
        until(lambda n=number: running.text().count("reloaded") > n)  # type: ignore[misc]
        assert re.fullmatch(got, said(sent)), (more, taking.got[-1])
    begun.shutdown(socket.SHUT_WR)
    assert readAll(begun) == b"before"
    begun.close()
