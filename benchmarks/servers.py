"""
Start and stop the servers of a benchmark, and read what they cost.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
BACKLOG = 4096
"""
Asked of every peer, as iawlb does of itself: what a burst costs is compared, not
how many of its connections a short backlog drops.
"""

_STREAM_MODULES = (
    Path("/usr/lib/nginx/modules/ngx_stream_module.so"),
    Path("/usr/lib64/nginx/modules/ngx_stream_module.so"),
)
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


class CannotStart(Exception):
    """
    A server did not start; the message says which and why.
    """


def _cpus() -> tuple[set[int], set[int]]:
    """
    Divide the processors: the first for the proxy, the others for the load.
    """
    allowed = sorted(os.sched_getaffinity(0))
    return set(allowed[:1]), set(allowed[1:]) or set(allowed)


PROXY_CPUS, LOAD_CPUS = _cpus()


def raiseFileLimit() -> int:
    """
    Raise the limit of open files to the hard one, which the children inherit.

    @return: The limit.
    """
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def freePort() -> int:
    """
    Find a port that is free, below those that outgoing connections take.
    """
    for port in random.sample(range(10_000, 32_000), 1000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise CannotStart("no free port")


def child(cpus: set[int]) -> Callable[[], None]:
    """
    Make what a child process does before it runs its command.

    @param cpus: Where it may run.
    """

    def prepare() -> None:
        os.sched_setaffinity(0, cpus)
        # It does not outlive us, however we end.
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

    return prepare


@dataclass(frozen=True)
class Cpu:
    """
    Processor time.

    @ivar total: All of it, in seconds.
    @ivar user: Ticks that were sampled outside the kernel.
    @ivar kernel: Ticks that were sampled in the kernel.
    """

    total: float
    user: int
    kernel: int

    def since(self, before: Cpu) -> tuple[float, float]:
        """
        Say how many seconds were spent since another reading.

        @return: Those outside the kernel, and those in it.
        """
        total = self.total - before.total
        user, kernel = self.user - before.user, self.kernel - before.kernel
        share = user / (user + kernel) if user + kernel else 0.0
        return total * share, total * (1 - share)


@dataclass
class Server:
    """
    A running server.

    @ivar name: What it is called in messages.
    @ivar port: Where it listens.
    @ivar process: Its first process; the others are in the same session.
    """

    name: str
    port: int
    process: subprocess.Popen[bytes]

    def processes(self) -> Iterator[Path]:
        """
        Iterate over the C{/proc} directories of its processes.
        """
        for each in Path("/proc").glob("[0-9]*"):
            try:
                # The name may hold spaces; what follows its bracket does not.
                fields = (each / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == self.process.pid:
                yield each

    def cpu(self) -> Cpu:
        """
        Say how many seconds of processor its living threads have had.

        The sum is the scheduler's own count in nanoseconds. The kernel samples at
        each tick whether a thread was in the kernel, so only the two parts'
        relation is taken from that, which a second's run gives to a few percent.
        """
        total = 0.0
        user = kernel = 0
        for process in self.processes():
            for each in process.glob("task/*"):
                total += int((each / "schedstat").read_text().split()[0]) / 1e9
                fields = (each / "stat").read_text().rpartition(")")[2].split()
                user += int(fields[11])
                kernel += int(fields[12])
        return Cpu(total, user, kernel)

    def memory(self) -> int:
        """
        Say how many bytes of its memory are resident.
        """
        page = resource.getpagesize()
        return sum(
            int((each / "statm").read_text().split()[1]) * page
            for each in self.processes()
        )

    def stop(self) -> None:
        """
        Kill its processes, all of them.
        """
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()


@contextmanager
def running(
    name: str,
    command: Sequence[str],
    port: int,
    cpus: set[int],
    workspace: Path,
) -> Iterator[Server]:
    """
    Run a server while the body runs.

    @raise CannotStart: It does not accept connections; the message has the end
        of what it said.
    """
    said = workspace / f"{name}.log"
    with said.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=workspace,
            start_new_session=True,
            preexec_fn=child(cpus),
        )
    server = Server(name, port, process)
    try:
        _await(server, said)
        yield server
    finally:
        server.stop()


def _await(server: Server, said: Path) -> None:
    """
    Wait until a server accepts connections.
    """
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline and server.process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", server.port)) == 0:
                time.sleep(0.05)  # the probe's own connection is over
                return
        time.sleep(0.01)
    tail = said.read_text(errors="replace").strip()[-500:]
    raise CannotStart(f"{server.name} does not listen: {tail or 'it said nothing'}")


@contextmanager
def loadServer(load: Path) -> Iterator[int]:
    """
    Run the server of C{load.c} while the body runs, and give its port.
    """
    with subprocess.Popen(
        [load, "serve"],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=child(LOAD_CPUS),
    ) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()


@contextmanager
def httpServer(workspace: Path) -> Iterator[int]:
    """
    Run nginx as a web server with one short answer, and give its port; it counts
    its requests under C{/status}.
    """
    port = freePort()
    (workspace / "large").write_bytes(bytes(1 << 20))
    temporary = "".join(
        f"{kind}_temp_path {workspace}/web-{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    command = _nginx(
        workspace,
        "web",
        "",
        f"""http {{
            {temporary}
            access_log off;
            keepalive_requests 1000000000;
            keepalive_timeout 1h;
            server {{
                listen 127.0.0.1:{port} backlog={BACKLOG};
                location / {{ return 200 "Hello from the backend.\\n"; }}
                location /large {{ root {workspace}; }}
                location /status {{ stub_status; }}
            }}
        }}""",
    )
    with running("web", command, port, LOAD_CPUS, workspace):
        yield port


def certificate(workspace: Path) -> Path:
    """
    Make a certificate for 127.0.0.1, with its key in the same file: P-256, as those of
    Let's Encrypt.
    """
    parts = (workspace / "key.pem", workspace / "certificate.pem")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"),
            *("-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", "/CN=localhost"),
            *("-keyout", str(parts[0]), "-out", str(parts[1])),
        ],
        check=True,
        capture_output=True,
    )
    both = workspace / "own.pem"
    both.write_bytes(b"".join(each.read_bytes() for each in parts))
    both.chmod(0o644)
    return both


def _nginx(workspace: Path, name: str, head: str, body: str) -> list[str]:
    """
    Write a configuration of nginx and say how to run it.
    """
    configuration = workspace / f"{name}.conf"
    configuration.write_text(
        f"{head}\ndaemon off; worker_processes 1; pid {workspace}/{name}.pid;\n"
        f"error_log {workspace}/{name}-error.log;\n"
        f"events {{ worker_connections 16384; }}\n{body}\n"
    )
    return ["nginx", "-p", str(workspace), "-c", str(configuration)]


@dataclass(frozen=True)
class Peer:
    """
    A proxy to measure.

    @ivar name: What it is called on the command line and in results.
    @ivar command: Says how to run it, from a directory for its files, the port
        to listen on, the ports to forward to, whether each connection gets a
        log line, and the file of the certificate and its key, if clients speak TLS.
    @ivar missing: Says what is not installed, or C{""}.
    @ivar only: The rows it takes part in, or none for all.
    @ivar balances: Whether it knows more than one destination.
    @ivar logs: Whether it can write a log line for each connection.
    @ivar tls: Whether it can end TLS.
    """

    name: str
    command: Callable[[Path, int, Sequence[int], bool, Path | None], list[str]]
    missing: Callable[[], str] = lambda: ""
    only: frozenset[str] = field(default_factory=frozenset)
    balances: bool = True
    logs: bool = False
    tls: bool = False


ALONE = "iawlb-one"
"""
The name of the peer that is iawlb with one destination, in rows that have many.
"""

DIRECT = "direct"
"""
The name of the peer that is none: the load talks to the backend itself.
"""


def iawlb(
    name: str, arguments: Sequence[str] = (), python: str = sys.executable
) -> Peer:
    """
    Make a peer of iawlb with some arguments of its own.

    @param python: The interpreter of the virtual environment that it is in.
    """

    def command(
        workspace: Path,
        port: int,
        ports: Sequence[int],
        log: bool,
        tls: Path | None,
    ) -> list[str]:
        destinations = [
            f"--dest=tcp:127.0.0.1:{each} name=d{number}"
            for number, each in enumerate(ports, 1)
        ]
        twistd = Path(python).with_name("twistd")
        secure = "" if tls is None else f" certificate={tls}"
        return [
            *(python, str(twistd), "-n", "--pidfile=", "iawlb"),
            f"--listen=tcp:{port}:interface=127.0.0.1{secure}",
            f"--log={'all' if log else 'errors'}",
            *(*destinations, *arguments),
        ]

    return Peer(name, command, logs=True, tls=True)


def _haproxy(name: str, tuning: str, only: frozenset[str] = frozenset()) -> Peer:
    """
    Make a peer of HAProxy.
    """

    def command(
        workspace: Path,
        port: int,
        ports: Sequence[int],
        log: bool,
        tls: Path | None,
    ) -> list[str]:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        # Two descriptors a connection; it refuses to start when they do not fit.
        most = min(16384, (limit - 2 * len(ports) - 100) // 2)
        servers = "\n".join(
            f"    server d{number} 127.0.0.1:{each}"
            for number, each in enumerate(ports, 1)
        )
        configuration = workspace / f"{name}.cfg"
        configuration.write_text(f"""
global
    nbthread 1
    maxconn {most}
    {tuning}
    {"log stdout format raw local0" if log else ""}
defaults
    mode tcp
    {"log global" if log else ""}
    {"option tcplog" if log else ""}
    maxconn {most}
    timeout connect 5s
    timeout client 1h
    timeout server 1h
listen benchmark
    bind 127.0.0.1:{port} backlog {BACKLOG} {f"ssl crt {tls}" if tls else ""}
    balance leastconn
{servers}
""")
        return ["haproxy", "-db", "-f", str(configuration)]

    def missing() -> str:
        return "" if shutil.which("haproxy") else "haproxy (apt install haproxy)"

    return Peer(name, command, missing, only, logs=True, tls=True)


def _nginxStream(name: str, tuning: str, only: frozenset[str] = frozenset()) -> Peer:
    """
    Make a peer of nginx's stream module.
    """
    module = next((each for each in _STREAM_MODULES if each.exists()), None)

    def command(
        workspace: Path,
        port: int,
        ports: Sequence[int],
        log: bool,
        tls: Path | None,
    ) -> list[str]:
        servers = "\n".join(f"server 127.0.0.1:{each};" for each in ports)
        secure = ";"
        if tls is not None:
            secure = f"ssl; ssl_certificate {tls}; ssl_certificate_key {tls};"
        return _nginx(
            workspace,
            name,
            f"load_module {module};" if module else "",
            f"""stream {{
                upstream destinations {{ least_conn; {servers} }}
                server {{
                    listen 127.0.0.1:{port} backlog={BACKLOG} {secure}
                    proxy_pass destinations;
                    proxy_timeout 1h;
                    {tuning}
                }}
            }}""",
        )

    def missing() -> str:
        if not shutil.which("nginx"):
            return "nginx (apt install nginx libnginx-mod-stream)"
        built = subprocess.run(["nginx", "-V"], capture_output=True, text=True).stderr
        if module is None and "--with-stream " not in f"{built} ":
            return "nginx's stream module (apt install libnginx-mod-stream)"
        return ""

    return Peer(name, command, missing, only, tls=True)


def _script(name: str, script: str, package: str) -> Peer:
    """
    Make a peer of a script of ours.
    """

    def command(
        workspace: Path,
        port: int,
        ports: Sequence[int],
        log: bool,
        tls: Path | None,
    ) -> list[str]:
        return [sys.executable, str(HERE / "peers" / script), str(port), str(ports[0])]

    def missing() -> str:
        known = importlib.util.find_spec(package) is not None
        return "" if known else f"{package} (pip install {package})"

    return Peer(name, command, missing, balances=False)


_BULK = frozenset({"bulk", "bulk-both", "bulk-4", "mixed"})
"""
Where the size of a buffer matters.
"""

PEERS = (
    _haproxy("haproxy", ""),
    _haproxy("haproxy-256k", "tune.bufsize 262144", _BULK),
    _nginxStream("nginx", ""),
    _nginxStream("nginx-256k", "proxy_buffer_size 256k;", _BULK),
    _script("uvloop", "uvloop_relay.py", "uvloop"),
    _script("portforward", "portforward.py", "twisted"),
)
"""
Beside what iawlb is measured.
"""
