"""
Programs that the tests start, and peers on plain sockets.

Every wait here is bounded by L{LIMIT}, which tells a hang from no hang and
nothing else.
"""

from __future__ import annotations

import glob
import hashlib
import os
import pwd
import random
import re
import shutil
import signal
import socket
import subprocess
import sysconfig
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

LIMIT = 60.0
"""
Longest wait for anything, in seconds.
"""

MIB = 1024 * 1024

Address = int | str
"""
Where a program listens: a port of 127.0.0.1, or the path of a Unix socket.
"""


def lacking(what: str) -> None:
    """
    Skip a test, because a program is missing on this machine; or fail the test, where
    everything is known to be there and a skip would hide a mistake.
    """
    if os.environ.get("IAWLB_REQUIRE_INTEGRATION") == "1":
        pytest.fail(f"{what}, and IAWLB_REQUIRE_INTEGRATION is 1")
    pytest.skip(what)


def find(name: str) -> str:
    """
    Find a program, also where Debian hides it; skip the test without it.
    """
    folders = [
        "/usr/sbin",
        "/usr/lib/git-core",
        *glob.glob("/usr/lib/postgresql/*/bin"),
    ]
    path = os.pathsep.join([os.environ.get("PATH", ""), *folders])
    found = shutil.which(name, path=path)
    if found is None:
        lacking(f"{name} is not installed")
    return found or ""


def run(*arguments: str, limit: float = LIMIT, give: bytes | None = None) -> bytes:
    """
    Run a program to its end, which has to be successful.

    @param give: The program's standard input.
    @return: What the program wrote.
    """
    done = subprocess.run(
        [find(arguments[0]), *arguments[1:]],
        input=b"" if give is None else give,
        capture_output=True,
        timeout=limit,
        check=False,
    )
    assert done.returncode == 0, (arguments, done.stdout[-500:], done.stderr[-500:])
    return done.stdout


def until(
    true: Callable[[], object], what: str = "what was waited for", limit: float = LIMIT
) -> None:
    """
    Wait until something is true; fail when it takes too long.
    """
    end = time.monotonic() + limit
    while not true():
        assert time.monotonic() < end, f"{what} did not happen in {limit:g} s"
        time.sleep(0.02)


def freePort() -> int:
    """
    Find a port that no program listens on, outside the range from which the kernel
    gives ports to clients.
    """
    while True:
        number = random.randrange(20_000, 30_000)
        # The balancer may be told to listen on all interfaces, so ask for all.
        with socket.socket(socket.AF_INET6) as asking, suppress(OSError):
            asking.bind(("::", number))
            return number


def connect(to: Address, host: str = "127.0.0.1") -> socket.socket:
    """
    Connect a client, whose every step is bounded in time.
    """
    if isinstance(to, int):
        return socket.create_connection((host, to), LIMIT)
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(LIMIT)
    try:
        client.connect(to)
    except OSError:
        client.close()
        raise
    return client


def answers(to: Address, host: str = "127.0.0.1") -> bool:
    """
    Return whether a program accepts connections.
    """
    try:
        connect(to, host).close()
    except OSError:
        return False
    return True


def readAll(client: socket.socket) -> bytes:
    """
    Read to the end.
    """
    parts = []
    while part := client.recv(256 * 1024):
        parts.append(part)
    return b"".join(parts)


def ask(to: Address, path: str = "/") -> bytes:
    """
    Ask a web server for a page over a connection of its own.

    @return: All that the server sent, including the heads.
    """
    with connect(to) as client:
        client.sendall(
            f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode()
        )
        return readAll(client)


def exchange(peer: socket.socket, seed: int, size: int) -> str:
    """
    Send bytes, and at the same time read to the end.

    @return: The hash of what was read.
    """
    sending = threading.Thread(target=_send, args=(peer, seed, size))
    sending.start()
    digest = hashlib.sha256()
    while part := peer.recv(256 * 1024):
        digest.update(part)
    sending.join(LIMIT)
    assert not sending.is_alive()
    return digest.hexdigest()


def _send(peer: socket.socket, seed: int, size: int) -> None:
    for block in blocks(seed, size):
        peer.sendall(block)
    peer.shutdown(socket.SHUT_WR)


def blocks(seed: int, size: int) -> list[bytes]:
    """
    Make bytes of which no two mebibytes are the same.
    """
    base = random.Random(seed).randbytes(MIB)
    return [base[shift:] + base[:shift] for shift in range(1, size // MIB + 1)]


class Program:
    """
    A program that is started and stopped, perhaps several times.

    @ivar log: The file with the program's output.
    @ivar inherited: The descriptors that the program gets, under the same numbers.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        folder: Path,
        *,
        user: str | None = None,
        ready: Callable[[], object] | None = None,
    ) -> None:
        """
        @param folder: The folder that the program runs in, and writes its log to.
        @param user: The user to run the program as, if we may choose; some programs
            refuse to be run by root.
        @param ready: Returns whether the program has started.
        """
        self._arguments = [find(arguments[0]), *arguments[1:]]
        self._folder = folder
        self._user = user if os.geteuid() == 0 else None
        self._ready = ready
        self._process: subprocess.Popen[bytes] | None = None
        self.inherited: Sequence[int] = ()
        self.log = folder / f"{Path(arguments[0]).name}-{id(self):x}.log"

    def start(self) -> None:
        """
        Start the program, and wait until it is ready.
        """
        group = None if self._user is None else pwd.getpwnam(self._user).pw_gid
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._arguments,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=self.inherited,
                start_new_session=True,  # so that its children can be ended too
                user=self._user,
                group=group,
                extra_groups=None if group is None else [],
            )
        ready = self._ready
        if ready is not None:
            until(lambda: not self.running or ready(), f"{self._arguments[0]}'s start")
        assert self.running, self.text()

    @property
    def running(self) -> bool:
        """
        Whether the program was started and has not ended.
        """
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """
        The program's process number.
        """
        assert self._process is not None
        return self._process.pid

    def text(self) -> str:
        """
        What the program has written.
        """
        return self.log.read_text(errors="replace")

    def send(self, number: int) -> None:
        """
        Send the program a signal.
        """
        os.kill(self.pid, number)

    def ended(self, limit: float = LIMIT) -> int:
        """
        Wait for the program's end.

        @return: The exit status, or minus the signal's number.
        """
        assert self._process is not None
        return self._process.wait(limit)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """
        End the program by a signal.
        """
        self.send(number)
        return self.ended()

    def destroy(self) -> None:
        """
        End the program and its children, whatever they do.
        """
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self.ended()


class Balancer(Program):
    """
    The installed C{twistd}, running C{iawlb}.

    @ivar where: The address that the balancer listens on.
    """

    def __init__(
        self,
        where: Address,
        arguments: Sequence[str],
        folder: Path,
        files: int | None = None,
        before: Sequence[str] = (),
    ) -> None:
        """
        @param arguments: The arguments after C{twistd -n iawlb}.
        @param files: How many files the balancer may open, if not as many as this
            process.
        @param before: A program that runs the balancer.
        """
        twistd = str(Path(sysconfig.get_path("scripts"), "twistd"))
        command = [*before, twistd, "-n", "--pidfile=", "iawlb", *arguments]
        if files is not None:
            limit = f'ulimit -n {files}; exec "$@"'
            command = ["bash", "-c", limit, "bash", *command]
        # A connection would be a session more, so the log has to tell.
        super().__init__(command, folder, ready=lambda: "listening on" in self.text())
        self.where = where

    @property
    def port(self) -> int:
        """
        The port that the balancer listens on.
        """
        assert isinstance(self.where, int)
        return self.where

    def check(self) -> None:
        """
        Check that the balancer's log has no traceback.
        """
        text = self.text()
        for bad in ("Traceback", "Unhandled", "--- <exception caught here> ---"):
            assert bad not in text, text[max(0, text.index(bad) - 500) :][:4000]

    def drained(self) -> None:
        """
        Wait until the balancer refuses connections, as it does from the first signal
        on.
        """
        until(lambda: not answers(self.where), "the end of listening")

    def descriptors(self) -> int:
        """
        How many files and sockets the balancer has open.
        """
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def connections(self) -> int:
        """
        How many of the open sockets are TCP connections.
        """
        held = set()
        for each in os.scandir(f"/proc/{self.pid}/fd"):
            with suppress(FileNotFoundError):  # closed meanwhile
                held.add(os.readlink(each.path))
        # A set, as the kernel may show twice what moves while we read.
        connected = set()
        for table in ("tcp", "tcp6"):
            lines = Path(f"/proc/{self.pid}/net/{table}").read_text().splitlines()
            for fields in map(str.split, lines[1:]):
                if fields[3] != "0A":  # listening
                    connected.add(f"socket:[{fields[9]}]")
        return len(held & connected)

    def memory(self) -> float:
        """
        The memory that the balancer uses now, in mebibytes.
        """
        status = Path(f"/proc/{self.pid}/status").read_text()
        match = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert match is not None
        return int(match[1]) / 1024

    def seconds(self) -> float:
        """
        The processor time that the balancer has used.
        """
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Web(Program):
    """
    An nginx that serves a folder, with TLS if it is given a certificate.

    @ivar root: The folder.
    """

    def __init__(
        self, folder: Path, certificate: tuple[Path, Path] | None = None
    ) -> None:
        """
        @param certificate: The files of the certificate and its key.
        """
        self.port = freePort()
        self.root = folder / "root"
        self.root.mkdir(exist_ok=True)
        listen, tls = f"127.0.0.1:{self.port} backlog=4096", ""
        if certificate is not None:
            listen += " ssl"
            tls = (
                f"ssl_certificate {certificate[0]}; "
                f"ssl_certificate_key {certificate[1]};"
            )
        temporary = " ".join(
            f"{each}_temp_path {folder}/{each};"
            for each in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        configuration = folder / f"nginx-{self.port}.conf"
        # One process, so that it is never another user who reads the folder.
        configuration.write_text(
            f"daemon off; master_process off; pid {folder}/nginx-{self.port}.pid; "
            "error_log stderr; events { worker_connections 8192; } "
            f"http {{ access_log off; keepalive_requests 1000000; {temporary} "
            f"server {{ listen {listen}; root {self.root}; {tls} }} }}"
        )
        super().__init__(
            ["nginx", "-e", "stderr", "-c", str(configuration)],
            folder,
            ready=lambda: answers(self.port),
        )

    def put(self, name: str, body: bytes) -> None:
        """
        Serve one more page.
        """
        (self.root / name).write_bytes(body)


class Peers:
    """
    Listens, and handles each connection in a thread.

    @ivar port: Where.
    """

    def __init__(
        self, handle: Callable[[socket.socket], None], host: str = "127.0.0.1"
    ) -> None:
        """
        @param handle: What to do with a connection, which is closed afterwards.
        """
        self.port = freePort()
        self._handle = handle
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listening = socket.create_server(
            (host, self.port), family=family, backlog=4096
        )
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._listening.accept()
            except OSError:
                return  # closed
            peer.settimeout(None)
            self._open.append(peer)
            self._threads.append(threading.Thread(target=self._serve, args=(peer,)))
            self._threads[-1].start()

    def _serve(self, peer: socket.socket) -> None:
        # The client may be gone; what it got is the client's to check.
        with peer, suppress(OSError):
            self._handle(peer)

    def close(self) -> None:
        """
        Close all.
        """
        for each in (self._listening, *self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join(LIMIT)
            assert not thread.is_alive()


def echo(peer: socket.socket) -> None:
    """
    Send everything back, and the end too.
    """
    while part := peer.recv(256 * 1024):
        peer.sendall(part)
