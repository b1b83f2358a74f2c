"""
Chaos: C{python benchmarks/chaos.py --minutes 60 --seed 7}.

The balancer runs as a process between several hundred clients that behave in
every way (C{chaosclients.py}) and backends that do (C{chaospeers.py}), while
faults come and go: backends are killed, stopped, and refuse; destinations are
paused, drained, removed and added, and change their slots; the pool is held and let
go; its policy, limits and time-outs change; a destination sleeps, and its program is
killed; the wall clock jumps; the log's pipe is not read;
descriptors are short; the balancer itself is stopped for a moment.

Every few minutes there is a calm: the faults are undone, the clients finish, and
all must be as at the start: no session, nothing waiting, every slot free, the same
descriptors and timers, no more memory than at the first calm. Each client that
asks a well-behaved backend gets exactly its bytes or an error that it can see.
The exit status is 1 if any of this was violated.

All traffic is on the loopback interface. The clock jumps need Debian's package
libfaketime; without it they are left out. The seed decides what happens and when,
but not how the machine interleaves it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from chaosclients import (
    BAD,
    BEHAVIOURS,
    BY_NAME,
    PATIENCE,
    RIGHT,
    VERDICTS,
    Behaviour,
    Record,
    visit,
)
from chaosfaults import SHARES, USUAL, Faults, cancel
from chaosservers import (
    EVIL,
    FAKETIME,
    GOOD,
    SETTINGS,
    WOKEN,
    Backend,
    Balancer,
    Gone,
    freePort,
)

MOST = 500
"""
Clients at a time.
"""

STILL = 3.0
"""
The longest that the balancer may take to answer on its control socket, in seconds.
It is stopped for 2 s at most, and the machine may be busy.
"""

SETTLING = 10.0
"""
How long after the last client's end all must be as at the start, in seconds: the
longest of the time-outs (idle, 5 s) and the longest pause between probes (5 s).
"""

MORE_DESCRIPTORS = 2
MORE_TIMERS = 3
"""
Allowed beyond the start's figures: what is opened at its first use and kept, and
libfaketime that reads its file; timers of log lines that are written at most once
in a while. They do not grow from calm to calm, so a leak soon exceeds them.
"""

MORE_MEMORY = 1.25, 8 << 20
"""
Allowed beyond the first warm calm's memory: a factor for what the allocator has
split, and bytes.
"""

WELL = ("up", "standby", "asleep")
"""
The states of destinations while nothing is done to them.
"""

WARM = 170.0
"""
How long it takes until the memory tells something, in seconds: the first bursts
and stalled readers leave the allocator's arenas as large as they were.
"""


class Chaos:
    """
    Everything together.
    """

    def __init__(self, options: argparse.Namespace, workspace: Path) -> None:
        self._options = options
        self._workspace = workspace
        self._random = random.Random(options.seed)
        self._record = Record()
        self._balancer = Balancer(self._record, workspace, options.log)
        self._backends = {
            name: Backend(name, kind, f"tcp:127.0.0.1:{port} name={name} {more}", port)
            for name, (kind, more) in {**GOOD, **EVIL}.items()
            for port in (freePort(),)
        }
        self._faults = Faults(
            self._record,
            self._balancer,
            self._backends,
            self._random,
            self._without(),
        )
        # Where the balancer listens, by what clients are called there.
        self._ports = {"plain": freePort(), "named": freePort()}
        self._clients: set[asyncio.Task[str]] = set()
        self._slowest = 0.0
        self._peak = 0
        self._start: dict[str, int] = {}
        self._firstMemory = 0

    def _without(self) -> list[str]:
        """
        List the faults that are left out.
        """
        without = [each for each in self._options.without.split(",") if each]
        if self._options.embedded:
            without.append("log")
        if FAKETIME is None:
            without.append("clock")
        return without

    async def run(self) -> int:
        """
        Run it all.

        @return: The exit status.
        """
        record = self._record
        try:
            for each in self._backends.values():
                each.start()
            await self._startBalancer()
            script = asyncio.create_task(self._script())
            watch = asyncio.create_task(self._watch())
            try:
                await asyncio.wait([script, watch], return_when=asyncio.FIRST_COMPLETED)
                for task in (script, watch):
                    if task.done():
                        task.result()
            finally:
                await cancel([script, watch, *self._clients])
            await self._end()
        except Gone as error:
            record.violate("the balancer is gone", str(error))
        finally:
            for each in self._backends.values():
                each.stop()
            if hasattr(self._balancer, "process"):
                self._balancer.stop()
        self._summary()
        return 1 if record.violations else 0

    async def _startBalancer(self) -> None:
        ports, header = self._ports, "accept-proxy=127.0.0.0/8 proxy-timeout=2s"
        listen = [
            f"tcp:{ports['plain']}:interface=127.0.0.1 name=plain priority=1",
            f"tcp:{ports['named']}:interface=127.0.0.1 name=named {header}",
        ]
        python = self._options.python
        asked = subprocess.run(
            [python, "-c", "import OpenSSL, service_identity"], capture_output=True
        )
        if asked.returncode == 0:
            ports["secure"], ports["ended"] = freePort(), freePort()
            key, certificate = self._workspace / "key.pem", self._workspace / "cert.pem"
            subprocess.run(
                [*"openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=chaos".split(),
                 "-keyout", str(key), "-out", str(certificate)],
                check=True, capture_output=True,
            )  # fmt: skip
            listen.append(
                f"ssl:{ports['secure']}:interface=127.0.0.1:privateKey={key}:"
                f"certKey={certificate} name=secure"
            )
            listen.append(
                f"tcp:{ports['ended']}:interface=127.0.0.1 name=ended {header} "
                f"certificate={certificate} certificate-key={key}"
            )
        described = {
            "listen": listen,
            "dest": [self._backends[each].address for each in GOOD],
            "settings": SETTINGS,
        }
        mode = "embedded" if self._options.embedded else "command"
        await self._balancer.start(python, mode, json.dumps(described))
        self._record.say(
            f"balancer {self._balancer.process.pid} ({mode}), TLS "
            f"{'on' if 'secure' in ports else 'off'}, libfaketime "
            f"{'on' if FAKETIME else 'off'}, seed {self._options.seed}, without "
            f"{', '.join(self._without()) or 'nothing'}"
        )

    async def _script(self) -> None:
        """
        The start, then chaos and calm in turn.
        """
        await self._balancer.addProgram()
        await self._settle("start")
        await self._honest()
        self._start = await self._settle("start")
        minutes, calm = self._options.minutes, self._options.calm
        number = max(1, round(minutes / min(calm, minutes / 2)))
        for each in range(1, number + 1):
            for name in EVIL:
                self._backends[name].start()
                await self._balancer.order("add", self._backends[name].address)
            busy = [
                asyncio.create_task(self._load()),
                asyncio.create_task(self._faults.run()),
            ]
            try:
                await asyncio.sleep(minutes * 60 / number)
            finally:
                await cancel(busy)
            await self._calm(each)

    # Chaos.

    async def _load(self) -> None:
        """
        Let clients come, at random moments and now and then many at once.
        """
        known = [each for each in BEHAVIOURS if each.listener in self._ports]
        shares = [each.share for each in known]
        while True:
            await asyncio.sleep(self._random.expovariate(self._options.rate))
            many = 100 if self._random.random() < 0.0005 else 1
            for behaviour in self._random.choices(known, shares, k=many):
                if len(self._clients) < MOST:
                    self._visit(behaviour)

    def _visit(self, behaviour: Behaviour) -> asyncio.Task[str]:
        port = self._ports[behaviour.listener]
        seed = self._random.random()
        task = asyncio.create_task(visit(self._record, behaviour, port, seed))
        self._clients.add(task)
        self._peak = max(self._peak, len(self._clients))
        task.add_done_callback(self._clients.discard)
        return task

    async def _watch(self) -> None:
        """
        See that the balancer's loop goes round.
        """
        while True:
            began = time.monotonic()
            await self._balancer.order("state")
            lag = time.monotonic() - began
            self._slowest = max(self._slowest, lag)
            if lag > STILL:
                self._record.violate("stood still", f"the balancer, for {lag:.1f} s")
            await asyncio.sleep(0.5)

    # Calm.

    async def _calm(self, number: int) -> None:
        """
        Undo the faults, and see that nothing is left.
        """
        record, balancer = self._record, self._balancer
        for backend in self._backends.values():
            backend.start()
        balancer.send("resume")
        balancer.send("pool", "resume")
        await balancer.order("configure", USUAL)
        slowest, self._slowest = self._slowest, 0.0
        if self._clients:
            await asyncio.wait(self._clients, timeout=PATIENCE + 5)
        for name in EVIL:
            await self._removed(name)
        places = (await balancer.order("state"))["destinations"]
        for name in GOOD:
            # A fault may have been undone while it removed one.
            if name not in places or places[name][2] == "draining":
                await self._removed(name)
                await balancer.order("add", self._backends[name].address)
        if places.get(WOKEN, ["", "", "draining"])[2] == "draining":
            await self._removed(WOKEN)
            await balancer.addProgram()
        await self._settle(f"calm {number}, first")
        await self._honest()
        if "secure" in self._ports:
            # By then nothing else goes on that could drive the time-outs.
            await self._settle(f"calm {number}, second")
            await asyncio.sleep(1)
            silent = BY_NAME["TLS silent"]
            await asyncio.gather(
                *(visit(record, silent, self._ports["secure"], 0, 6) for _ in range(5))
            )
        now = await self._settle(f"calm {number}")
        memory = now["memory"]
        factor, more = MORE_MEMORY
        if not self._firstMemory:
            if time.monotonic() - record.began > WARM:
                self._firstMemory = memory
        elif memory > self._firstMemory * factor + more:
            record.violate(
                "memory", f"{memory >> 20} MiB, first {self._firstMemory >> 20}"
            )
        seen: Counter[str] = Counter()
        for (_, verdict), count in record.verdicts.items():
            seen[verdict] += count
        figures = ", ".join(
            f"{now[each]} {each} ({self._start[each]})"
            for each in ("descriptors", "timers", "readers")
        )
        record.say(
            f"calm {number}: {now['left']} left, {figures}, memory {memory >> 10} KiB;"
            f" slowest answer {slowest:.1f} s; {sum(record.done.values())} faults;"
            f" {seen.total()} clients (at most {self._peak} at a time): "
            + ", ".join(f"{seen[each]} {each}" for each in VERDICTS)
        )

    async def _removed(self, name: str) -> None:
        """
        Remove a destination, if it is there; it has nothing left to do.
        """
        try:
            async with asyncio.timeout(SETTLING):
                await self._balancer.send("remove", name)
        except TimeoutError:
            self._record.violate("not removed", name)

    async def _settle(self, name: str) -> dict[str, int]:
        """
        Wait until the balancer is as at the start.

        @return: The last figures.
        """
        limit = time.monotonic() + SETTLING
        while True:
            state = await self._balancer.order("state")
            places = state["destinations"]
            left = state["sessions"] + state["waiting"]
            left += sum(
                active + connecting for active, connecting, _ in places.values()
            )
            figures = {
                "left": left,
                "descriptors": self._balancer.descriptors(),
                "timers": state["timers"],
                "readers": state["readers"],
                "memory": self._balancer.memory(),
            }
            start = self._start or figures
            if (
                not left
                and figures["descriptors"] <= start["descriptors"] + MORE_DESCRIPTORS
                and figures["timers"] <= start["timers"] + MORE_TIMERS
                and all(word in WELL for _, _, word in places.values())
            ):
                # What is left of a start's own making takes its time to go.
                if self._start or time.monotonic() > limit - SETTLING / 2:
                    return figures
            if time.monotonic() > limit:
                self._record.violate(
                    "not as at the start", f"{name}: {state} {figures}"
                )
                return figures
            await asyncio.sleep(0.2)

    async def _honest(self) -> None:
        """
        See that well-behaved clients are served well while nothing is done.
        """
        names = ["normal", "half-close", "pausing", "named", "TLS normal", "ended"]
        names = [each for each in names if BY_NAME[each].listener in self._ports]
        chosen = [BY_NAME[name] for name in names for _ in range(10)]
        verdicts = await asyncio.gather(*map(self._visit, chosen))
        for behaviour, verdict in zip(chosen, verdicts, strict=True):
            if verdict not in (RIGHT, BAD):
                self._record.violate(
                    "not served in a calm", f"{behaviour.name}: {verdict}"
                )

    # The end.

    async def _end(self) -> None:
        """
        Stop the balancer by SIGTERM, with nothing to drain.
        """
        process = self._balancer.process
        process.terminate()
        limit = time.monotonic() + STILL
        while process.poll() is None and time.monotonic() < limit:
            await asyncio.sleep(0.05)
        if process.returncode not in (0, -signal.SIGTERM):
            self._record.violate("did not stop", f"exit status {process.returncode}")

    def _summary(self) -> None:
        record = self._record
        print(f"\n{'clients':20}" + "".join(f"{each:>11}" for each in VERDICTS))
        for behaviour in BEHAVIOURS:
            counts = [record.verdicts[behaviour.name, each] for each in VERDICTS]
            print(f"{behaviour.name:20}" + "".join(f"{each:11}" for each in counts))
        done = ", ".join(f"{count} {name}" for name, count in record.done.most_common())
        print(f"\nfaults: {done}")
        for kind, count in record.violations.most_common():
            print(f"VIOLATED {count:6} times: {kind}")
        print("FAILED" if record.violations else "all is as it must be")


async def _run(options: argparse.Namespace) -> int:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    with tempfile.TemporaryDirectory(prefix="chaos-") as workspace:
        return await Chaos(options, Path(workspace)).run()


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the command.
    """
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").replace("C{", "").replace("}", ""),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=60, help="of chaos")
    parser.add_argument("--seed", type=int, default=7, help="decides what happens")
    parser.add_argument("--calm", type=float, default=3, help="minutes between calms")
    parser.add_argument("--rate", type=float, default=80, help="clients a second")
    parser.add_argument("--python", default=sys.executable, help="that has iawlb")
    parser.add_argument(
        "--without",
        default="",
        metavar="FAULT,...",
        help=f"leave faults out, of {', '.join(SHARES)}",
    )
    parser.add_argument("--log", type=Path, help="keep the balancer's log here")
    parser.add_argument(
        "--embedded",
        action="store_true",
        help="run a LoadBalancer in a plain reactor in place of the command; its log "
        "is Twisted's own then, whose pipe is never stuck",
    )
    try:
        return asyncio.run(_run(parser.parse_args(arguments)))
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
