"""
What is measured: one L{Row} for each line of the results.
"""

from __future__ import annotations

import itertools
import json
import re
import signal
import subprocess
import time
import timeit
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from servers import LOAD_CPUS, Cpu, Server, child

Sample = dict[str, float]
"""
The figures of one measurement, by name.
"""

PATIENCE = 60
"""
Seconds after which a load that does not end is killed.
"""


@dataclass(frozen=True)
class Metric:
    """
    A figure of a row.

    @ivar name: Its key in a sample.
    @ivar label: What to call it, with its unit.
    @ivar better: Which is better.
    @ivar scale: By what to multiply it to get the label's unit.
    """

    name: str
    label: str
    better: Literal["more", "less"] = "less"
    scale: float = 1.0


@dataclass
class Run:
    """
    One measurement of one peer.

    @ivar load: The compiled C{load.c}.
    @ivar port: Where to connect.
    @ivar backend: Where the backend itself listens.
    @ivar proxy: The proxy, or L{None} when the connection is direct.
    @ivar seconds: How long to measure.
    """

    load: Path
    port: int
    backend: int
    proxy: Server | None
    seconds: float

    def cpu(self) -> Cpu:
        """
        Say how much processor time the proxy has had.
        """
        return Cpu(0.0, 0, 0) if self.proxy is None else self.proxy.cpu()

    @contextmanager
    def start(self, *arguments: object) -> Iterator[subprocess.Popen[str]]:
        """
        Run a client while the body runs; it is killed if it is not over then.
        """
        with subprocess.Popen(
            [str(each) for each in arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=child(LOAD_CPUS),
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def figures(self, mode: str, *arguments: object) -> Sample:
        """
        Run a mode of C{load.c} and give its figures.
        """
        with self.start(self.load, mode, self.port, *arguments) as process:
            found = json.loads(_ending(process))
        return {key: float(value) for key, value in found.items()}


def _ending(process: subprocess.Popen[str]) -> str:
    """
    Wait for a client's end and give what it says.

    @raise RuntimeError: It failed, or did not end.
    """
    try:
        said, complaint = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"no end after {PATIENCE} s") from None
    if process.returncode:
        raise RuntimeError(complaint.strip() or f"exit status {process.returncode}")
    return said


@dataclass(frozen=True)
class Row:
    """
    A line of the results.

    @ivar name: What it is called on the command line and in results.
    @ivar title: What it measures.
    @ivar metrics: Its figures, the most important first.
    @ivar measure: Measures. Its sample has C{units} and C{seconds} when the
        proxy's processor time is to be divided by them, and that time as
        C{spentUser} and C{spentKernel} when it is not that of the whole
        measurement.
    @ivar backend: Which server the proxy forwards to.
    @ivar destinations: How many times the proxy is told of it.
    @ivar direct: Whether measuring without a proxy makes sense.
    @ivar seconds: How many times as long as others it is measured.
    @ivar log: Whether each connection gets a log line.
    @ivar tls: Whether the clients speak TLS with the proxy.
    """

    name: str
    title: str
    metrics: tuple[Metric, ...]
    measure: Callable[[Run], Sample]
    backend: Literal["web", "load", "none"] = "load"
    destinations: int = 1
    direct: bool = True
    seconds: int = 1
    log: bool = False
    tls: bool = False


def _cpu(unit: str, scale: float = 1e6) -> tuple[Metric, ...]:
    return (
        Metric("cpu", f"CPU {unit}", "less", scale),
        Metric("user", "user", "less", scale),
        Metric("kernel", "kernel", "less", scale),
    )


def _added(part: str) -> Metric:
    """
    Make a metric of a latency less that of the direct connection.
    """
    return Metric(f"added_{part}", f"added {part} us", "less", 1e6)


WARM = 0.3
"""
Seconds after which the connections of C{wrk} are all there and warm.
"""


def _look(run: Run) -> tuple[float, int, Cpu]:
    """
    Read how many requests the backend has had, and what the proxy has cost.
    """
    address = f"http://127.0.0.1:{run.backend}/status"
    with urllib.request.urlopen(address, timeout=PATIENCE) as answer:
        # Its third line: accepted, handled, requests.
        requests = int(answer.read().split(b"\n")[2].split()[2])
    return time.monotonic(), requests, run.cpu()


def _between(run: Run) -> Sample:
    """
    Measure requests while clients ask, by the backend's own counter, so that the time
    in which the connections are made is left out.
    """
    time.sleep(WARM)
    before = _look(run)
    time.sleep(run.seconds)
    after = _look(run)
    seconds, units = after[0] - before[0], after[1] - before[1]
    user, kernel = after[2].since(before[2])
    return {
        "units": units,
        "seconds": seconds,
        "spentUser": user,
        "spentKernel": kernel,
        "rate": units / seconds,
    }


def _http(
    connections: int,
    scheme: str = "http",
    path: str = "/",
    header: str = "Connection: keep-alive",
) -> Callable[[Run], Sample]:
    """
    Measure requests of C{wrk}.
    """

    def measure(run: Run) -> Sample:
        with run.start(
            *("wrk", "-t1", f"-c{connections}", f"-d{PATIENCE}s"),
            *("-H", header, f"{scheme}://127.0.0.1:{run.port}{path}"),
        ) as wrk:
            sample = _between(run)
            wrk.send_signal(signal.SIGINT)
            said = _ending(wrk)
        wrong = re.search(r"Socket errors: (.*)", said)
        errors = sum(map(int, re.findall(r"\d+", wrong[1]))) if wrong else 0
        other = re.search(r"Non-2xx.*: (\d+)", said)
        return {**sample, "errors": errors + (int(other[1]) if other else 0)}

    return measure


CLIENTS = 8
"""
Clients that make full handshakes.
"""


def _handshakes(run: Run) -> Sample:
    """
    Measure connections with a full TLS handshake each, which C{wrk} cannot make: it
    resumes TLS sessions.
    """
    with ExitStack() as stack:
        for _ in range(CLIENTS):
            stack.enter_context(
                run.start(
                    *("openssl", "s_time", "-new", "-time", PATIENCE, "-www", "/"),
                    *("-connect", f"127.0.0.1:{run.port}"),
                )
            )
        return _between(run)


def _resumed(run: Run) -> Sample:
    """
    Measure connections that resume a TLS session, where the proxy allows that.
    """
    return _http(32, "https", "/", "Connection: close")(run)


LARGE = 1 << 20
"""
The size of the backend's large page.
"""


def _tlsBulk(connections: int) -> Callable[[Run], Sample]:
    """
    Measure bulk transfer over TLS: pages of a megabyte on open connections.
    """
    measure = _http(connections, "https", "/large", "Connection: keep-alive")

    def measureBytes(run: Run) -> Sample:
        sample = measure(run)
        for key in ("units", "rate"):
            sample[key] *= LARGE
        return sample

    return measureBytes


def _connections(run: Run) -> Sample:
    """
    Measure connections, 32 at a time.
    """
    sample = run.figures("conns", 32, 0, run.seconds, 0)
    return {**sample, "rate": sample["units"] / sample["seconds"]}


CHURN = 1000
"""
Connections per second of the row of that name: a rate that all peers sustain.
"""


def _churn(run: Run) -> Sample:
    """
    Measure the latency of connections that come at a fixed rate.
    """
    return run.figures("conns", 0, 0, run.seconds, CHURN)


BURST = 1000


def _burst(run: Run) -> Sample:
    """
    Measure how long many connections at once take.
    """
    return run.figures("conns", BURST, BURST, PATIENCE / 2, 0)


def _bulk(kind: str, streams: int) -> Callable[[Run], Sample]:
    """
    Measure bulk transfer.
    """

    def measure(run: Run) -> Sample:
        sample = run.figures("bulk", kind, streams, run.seconds, 0)
        return {**sample, "rate": sample["units"] / sample["seconds"]}

    return measure


def _ping(run: Run) -> Sample:
    """
    Measure 64 bytes there and back.
    """
    return run.figures("ping", run.seconds)


PACE = 1e9


def _mixed(run: Run) -> Sample:
    """
    Measure 64 bytes there and back beside a transfer of 1 GB/s.
    """
    seconds = run.seconds + 0.5
    with run.start(run.load, "bulk", run.port, "u", 1, seconds, PACE) as transfer:
        time.sleep(0.25)
        ping = run.figures("ping", run.seconds)
        bulk = json.loads(_ending(transfer))
    return {
        **ping,
        "units": bulk["units"],
        "seconds": bulk["seconds"],
        "rate": bulk["units"] / bulk["seconds"],
    }


HELD = (1000, 5000)


def _memory(run: Run) -> Sample:
    """
    Measure the memory of idle connections over which a few bytes have passed.
    """
    assert run.proxy is not None
    sample: Sample = {}
    before = run.proxy.memory()
    with run.start(run.load, "hold", run.port) as process:
        assert process.stdin is not None and process.stdout is not None
        for held in HELD:
            process.stdin.write(f"{held}\n")
            process.stdin.flush()
            if process.stdout.readline().strip() != str(held):
                raise RuntimeError(f"{held} connections: {_ending(process)}")
            time.sleep(0.1)
            sample[f"memory_{held}"] = (run.proxy.memory() - before) / held
    return sample


WAITING = (10, 1000, 100_000)


def _queue(run: Run) -> Sample:
    """
    Measure a get and a put of the queue, in this process.
    """
    from iawlb.core.destination import Destination
    from iawlb.core.policies import Least
    from iawlb.core.queue import ConnectionQueue
    from iawlb.core.session import Session

    # The queue never looks into these.
    destination = cast(Destination, object())
    nobody = cast(Any, None)
    sample: Sample = {}
    for waiting in WAITING:
        queue = ConnectionQueue(Least(), lambda: [destination])
        numbers = itertools.count(1)
        for number in itertools.islice(numbers, waiting):
            session = Session(number, None, "", 0.0, nobody, nobody)
            queue.put(session)

        def turn(
            queue: ConnectionQueue = queue, numbers: Iterator[int] = numbers
        ) -> None:
            session = cast(Session, queue.get(destination).result)
            # What is put is newer than all that wait, as in earnest.
            session.number = next(numbers)
            queue.put(session)

        times = timeit.repeat(turn, number=10_000, repeat=5)
        sample[f"turn_{waiting}"] = min(times) / 10_000
    return sample


_RATE_HTTP = Metric("rate", "requests/s", "more")
_CPU_HTTP = _cpu("us/request")
_RATE_CONNECTIONS = Metric("rate", "conn/s", "more")
_CPU_CONNECTION = _cpu("us/conn")
_P99_MS = Metric("p99", "p99 ms", "less", 1e3)
_BULK_METRICS = (Metric("rate", "GB/s", "more", 1e-9), *_cpu("s/GB", 1e9))


def _httpRow(name: str, title: str, connections: int, **more: Any) -> Row:
    return Row(
        name,
        title,
        (_RATE_HTTP, *_CPU_HTTP),
        _http(connections),
        backend="web",
        **more,
    )


ROWS: Sequence[Row] = (
    _httpRow("http-1", "keep-alive HTTP, 1 connection", 1),
    _httpRow("http-32", "keep-alive HTTP, 32 connections", 32),
    _httpRow("http-512", "keep-alive HTTP, 512 connections", 512),
    Row(
        "connections",
        "connect, ask, answer, close; 32 at a time",
        (_RATE_CONNECTIONS, *_CPU_CONNECTION, _P99_MS),
        _connections,
    ),
    Row(
        "connections-log",
        "connect, ask, answer, close; with a log line each",
        (_RATE_CONNECTIONS, *_CPU_CONNECTION, _P99_MS),
        _connections,
        direct=False,
        log=True,
    ),
    Row("bulk", "bulk, one way", _BULK_METRICS, _bulk("d", 1)),
    Row("bulk-both", "bulk, both ways at once", _BULK_METRICS, _bulk("b", 1)),
    Row("bulk-4", "bulk, one way, four streams", _BULK_METRICS, _bulk("d", 4)),
    Row(
        "latency",
        "64 bytes there and back",
        (_added("p50"), _added("p99"), *_cpu("us/turn")),
        _ping,
    ),
    Row(
        "churn",
        f"{CHURN:,} connections a second: until the answer is there",
        (_P99_MS, *_CPU_CONNECTION, Metric("p50", "p50 ms", "less", 1e3)),
        _churn,
        seconds=2,
    ),
    Row(
        "mixed",
        "64 bytes there and back beside a transfer of at most 1 GB/s",
        (
            Metric("p99", "p99 us", "less", 1e6),
            Metric("p50", "p50 us", "less", 1e6),
            *_BULK_METRICS,
        ),
        _mixed,
        seconds=2,
    ),
    Row(
        "tls-handshakes",
        f"a full TLS handshake, ask, answer, close; {CLIENTS} at a time",
        (Metric("rate", "handshakes/s", "more"), *_cpu("us/handshake")),
        _handshakes,
        backend="web",
        direct=False,
        tls=True,
    ),
    Row(
        "tls-resumed",
        "a TLS session resumed, ask, answer, close; 32 at a time",
        (Metric("rate", "handshakes/s", "more"), *_cpu("us/handshake")),
        _resumed,
        backend="web",
        direct=False,
        tls=True,
    ),
    *(
        Row(
            f"tls-bulk-{count}",
            f"bulk over TLS, one way, {count} connection{'s' * (count > 1)}",
            _BULK_METRICS,
            _tlsBulk(count),
            backend="web",
            direct=False,
            tls=True,
        )
        for count in (1, 4)
    ),
    Row(
        "memory",
        "resident memory of an idle connection",
        tuple(
            Metric(f"memory_{held}", f"kB at {held:,}", "less", 1e-3) for held in HELD
        ),
        _memory,
        direct=False,
    ),
    *(
        _httpRow(
            f"destinations-{count}",
            f"keep-alive HTTP, 32 connections, {count:,} destinations",
            32,
            destinations=count,
            direct=False,
        )
        for count in (10, 100, 1000)
    ),
    Row(
        "connections-1000",
        "connect, ask, answer, close; 1,000 destinations",
        (_RATE_CONNECTIONS, *_CPU_CONNECTION, _P99_MS),
        _connections,
        destinations=1000,
        direct=False,
    ),
    Row(
        "burst",
        f"{BURST:,} connections at once",
        (Metric("seconds", "ms until all are served", "less", 1e3), *_CPU_CONNECTION),
        _burst,
    ),
    Row(
        "queue",
        "a get and a put of the queue (in process, iawlb only)",
        tuple(
            Metric(f"turn_{waiting}", f"us, {waiting:,} waiting", "less", 1e6)
            for waiting in WAITING
        ),
        _queue,
        backend="none",
    ),
)
"""
All of them, in the order in which they are measured.
"""
