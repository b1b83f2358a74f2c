"""
Measure iawlb beside other relays: C{python benchmarks/run.py}.

For each row the peers take turns, round after round, each in a fresh process, so
that what else the machine does falls on all of them alike. What counts is the
ratio within a round; printed is the median of the rounds' ratios, with the least
and the greatest in brackets. The absolute figures belong to one machine on one
day.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from report import BASE, Results, RowResult, chart, summary, table
from rows import HELD, ROWS, Row, Run, Sample
from servers import (
    ALONE,
    DIRECT,
    HERE,
    LOAD_CPUS,
    PEERS,
    PROXY_CPUS,
    CannotStart,
    Peer,
    certificate,
    freePort,
    httpServer,
    iawlb,
    loadServer,
    raiseFileLimit,
    running,
)

FULL_ROUNDS = 5
QUICK_ROUNDS = 1
FULL_SECONDS = 1.0
QUICK_SECONDS = 0.5
"""
How long one measurement takes; some rows take a multiple.
"""


def say(text: str) -> None:
    """
    Report progress.
    """
    print(text, file=sys.stderr, flush=True)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """
    Read the command line.
    """
    rowNames = [each.name for each in ROWS]
    peerNames = [*(each.name for each in PEERS), DIRECT]

    def some(known: Sequence[str]) -> type[list[str]]:
        def read(text: str) -> list[str]:
            names = [each for each in text.split(",") if each]
            for each in names:
                if each not in known:
                    raise argparse.ArgumentTypeError(
                        f"{each!r} is not one of {', '.join(known)}"
                    )
            return names

        # argparse calls it as it would a type.
        return read  # type: ignore[return-value]

    def variant(text: str) -> Peer:
        name, _, rest = text.partition("=")
        return iawlb(name, shlex.split(rest))

    def beside(text: str) -> Peer:
        name, _, python = text.partition("=")
        return iawlb(name, python=python)

    parser = argparse.ArgumentParser(
        description=(__doc__ or "").replace("C{", "").replace("}", ""),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--quick", action="store_true", help=f"{QUICK_ROUNDS} short round: does it work"
    )
    parser.add_argument(
        "--rounds", type=int, metavar="N", help=f"rounds (default {FULL_ROUNDS})"
    )
    parser.add_argument(
        "--rows",
        type=some(rowNames),
        default=rowNames,
        metavar="NAME,...",
        help=f"of {', '.join(rowNames)}",
    )
    parser.add_argument(
        "--peers",
        type=some(peerNames),
        default=peerNames,
        metavar="NAME,...",
        help=f"beside iawlb, of {', '.join(peerNames)}",
    )
    parser.add_argument(
        "--iawlb-args",
        default="",
        metavar="ARGS",
        help="more arguments for iawlb, such as '--buffer-size 64k'",
    )
    parser.add_argument(
        "--variant",
        type=variant,
        action="append",
        default=[],
        metavar="NAME=ARGS",
        help="one more peer: iawlb with other arguments; may be given several times",
    )
    parser.add_argument(
        "--beside",
        type=beside,
        action="append",
        default=[],
        metavar="NAME=PYTHON",
        help="one more peer: the iawlb that another interpreter has, such as that of "
        "an older checkout; may be given several times",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=HERE / "results",
        metavar="DIR",
        help="where results.json and chart.svg go (default benchmarks/results)",
    )
    options = parser.parse_args(arguments)
    if options.rounds is None:
        options.rounds = QUICK_ROUNDS if options.quick else FULL_ROUNDS
    options.seconds = QUICK_SECONDS if options.quick else FULL_SECONDS
    if options.rounds < 1:
        parser.error("--rounds must be 1 or more")
    return options


def _first(*command: str) -> str:
    """
    Give the first line that a command says.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=HERE)
    except OSError:
        return "not installed"
    return (done.stdout + done.stderr).strip().partition("\n")[0]


def _versions() -> dict[str, str]:
    """
    Say what is measured, and with what.
    """
    found = {
        "commit": _first("git", "describe", "--always", "--dirty"),
        "python": platform.python_version(),
        "haproxy": _first("haproxy", "-v"),
        "nginx": _first("nginx", "-v"),
        "wrk": _first("wrk", "-v"),
    }
    for package in ("iawlb", "twisted", "uvloop"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _machine() -> dict[str, object]:
    """
    Say on what it is measured.
    """
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "system": platform.platform(),
        "processor": models[0] if models else platform.machine(),
        "processors": os.cpu_count(),
        "proxyOn": sorted(PROXY_CPUS),
        "loadOn": sorted(LOAD_CPUS),
        "loadAverage": os.getloadavg()[0],
    }


class Bench:
    """
    A run of the benchmarks.
    """

    def __init__(
        self, options: argparse.Namespace, workspace: Path, peers: Sequence[Peer]
    ) -> None:
        self._options = options
        self._workspace = workspace
        self._peers = peers
        self._load = workspace / "load"
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            raise SystemExit("benchmarks: no C compiler (apt install gcc libc6-dev)")
        subprocess.run([compiler, "-O2", "-o", self._load, HERE / "load.c"], check=True)

    def row(self, row: Row) -> RowResult:
        """
        Measure a row, all peers in turn in each round.
        """
        result = RowResult(row)
        names = self._namesFor(row)
        with self._backend(row) as port:
            for number in range(self._options.rounds):
                taken: dict[str, Sample] = {}
                # Nobody is always the first.
                shift = number % len(names)
                for name in names[shift:] + names[:shift]:
                    try:
                        taken[name] = self._sample(row, name, port)
                    except (RuntimeError, CannotStart) as error:
                        result.failures.append(f"{name}: {error}")
                result.addRound(taken)
        return result

    def _namesFor(self, row: Row) -> list[str]:
        if row.backend == "none":
            return ["iawlb"]
        names = [
            each.name
            for each in self._peers
            if (not each.only or row.name in each.only)
            and (each.balances or row.destinations == 1)
            and (each.logs or not row.log)
            and (each.tls or not row.tls)
        ]
        if row.destinations > 1:
            names.append(ALONE)
        if row.direct and DIRECT in self._options.peers:
            names.append(DIRECT)
        return names

    @contextmanager
    def _backend(self, row: Row) -> Iterator[int]:
        with ExitStack() as stack:
            if row.backend == "none":
                yield 0
            elif row.backend == "web":
                yield stack.enter_context(httpServer(self._workspace))
            else:
                yield stack.enter_context(loadServer(self._load))

    def _sample(self, row: Row, name: str, backend: int) -> Sample:
        """
        Measure a peer once, in a fresh process.
        """
        seconds = self._options.seconds * row.seconds
        if name == DIRECT or row.backend == "none":
            return row.measure(Run(self._load, backend, backend, None, seconds))
        count = 1 if name == ALONE else row.destinations
        wanted = BASE if name == ALONE else name
        peer = next(each for each in self._peers if each.name == wanted)
        port = freePort()
        own = certificate(self._workspace) if row.tls else None
        command = peer.command(self._workspace, port, [backend] * count, row.log, own)
        with running(name, command, port, PROXY_CPUS, self._workspace) as proxy:
            before = proxy.cpu()
            sample = row.measure(Run(self._load, port, backend, proxy, seconds))
            if "units" in sample:
                time.sleep(0.05)  # for what it still does after the last byte
                if "spentUser" not in sample:
                    user, kernel = proxy.cpu().since(before)
                    sample |= {"spentUser": user, "spentKernel": kernel}
                units = max(1, sample["units"])
                sample["user"] = sample["spentUser"] / units
                sample["kernel"] = sample["spentKernel"] / units
                sample["cpu"] = sample["user"] + sample["kernel"]
                sample["busy"] = sample["cpu"] * units / sample["seconds"]
        return sample


def _peers(options: argparse.Namespace) -> list[Peer]:
    """
    Choose the peers that are installed, and report the others.
    """
    peers = [
        iawlb("iawlb", shlex.split(options.iawlb_args)),
        *options.variant,
        *options.beside,
    ]
    for each in PEERS:
        if each.name not in options.peers:
            continue
        if missing := each.missing():
            say(f"{each.name} is skipped: {missing} is not installed")
        else:
            peers.append(each)
    return peers


def _rows(options: argparse.Namespace, files: int) -> list[Row]:
    """
    Choose the rows that can be measured here, and report the others.
    """
    rows = [each for each in ROWS if each.name in options.rows]
    if not shutil.which("wrk"):
        say("the HTTP rows are skipped: wrk is not installed (apt install wrk)")
        rows = [each for each in rows if each.backend != "web"]
    elif not shutil.which("nginx"):
        say("the HTTP rows are skipped: nginx is not installed (apt install nginx)")
        rows = [each for each in rows if each.backend != "web"]
    if files < 2 * max(HELD) + 500:
        say(f"the row memory is skipped: the limit of open files is {files}")
        rows = [each for each in rows if each.name != "memory"]
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Measure, print and write.

    @return: The exit status.
    """
    options = _options(arguments)
    # A termination ends the servers too, as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    rows = _rows(options, raiseFileLimit())
    peers = _peers(options)
    os.sched_setaffinity(0, LOAD_CPUS)
    if PROXY_CPUS == LOAD_CPUS:
        say("there is one processor only: the proxy shares it with the load")
    started = time.monotonic()
    results = Results(
        datetime.now(UTC).isoformat(timespec="seconds"),
        _machine(),
        _versions(),
        {
            "rounds": options.rounds,
            "seconds": options.seconds,
            "iawlbArguments": options.iawlb_args,
        },
    )
    with tempfile.TemporaryDirectory(prefix="iawlb-benchmarks-") as workspace:
        # nginx's worker may run as another user.
        os.chmod(workspace, 0o755)
        bench = Bench(options, Path(workspace), peers)
        for number, row in enumerate(rows, 1):
            say(
                f"[{number}/{len(rows)}, {time.monotonic() - started:.0f} s] {row.name}"
            )
            result = bench.row(row)
            results.rows.append(result)
            print(table(result), flush=True)
    print(summary(results))
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "results.json").write_text(results.json())
    (options.out / "chart.svg").write_text(chart(results))
    say(f"{time.monotonic() - started:.0f} s; wrote {options.out}")
    return 0


if __name__ == "__main__":
    try:
        status = main()
    except KeyboardInterrupt:
        say("interrupted: everything is stopped, nothing is written")
        status = 130
    sys.exit(status)
