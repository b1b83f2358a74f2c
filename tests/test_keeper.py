"""
Tests for what was changed while the balancer ran, and is kept for the next start.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, ensureDeferred, maybeDeferred
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import LogLevel, formatEvent
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from iawlb.balancer import Balancer
from iawlb.config.keys import POOL
from iawlb.config.model import Configuration
from iawlb.config.read import readConfiguration
from iawlb.control import keeper
from iawlb.control.build import buildBalancer
from iawlb.control.keeper import LATEST, RETRY, Keeper
from iawlb.control.overlay import VALUES, differences
from iawlb.control.statefile import writeState
from iawlb.core.events import DESTINATION_DOWN, IObserver
from iawlb.pool import Pool
from tests.doubles import logged
from tests.test_statefile import ANY

FILE = """
[pools.web]
listen = "127.0.0.1:8080"
queue-timeout = "5s"
slots = 50
[pools.web.destinations]
a = { address = "127.0.0.1:9001", slots = 4 }
b = "127.0.0.1:9002"
[pools.db]
listen = "127.0.0.1:5432"
destinations = { primary = "127.0.0.1:9003" }
"""


class Kept:
    """
    A process that keeps its state, and can be started again.
    """

    def __init__(self, folder: str) -> None:
        self.file = Path(folder, "iawlb.toml")
        self.state = Path(folder, "state.json")
        # The time of day.
        self.now = 1_700_000_000.0
        self.reactor: Any
        self.balancer: Balancer
        self.keeper: Keeper
        self.running: Configuration
        self.inThread: Callable[..., Any] = maybeDeferred

    def start(self, text: str = FILE) -> None:
        """
        Start a process.
        """
        self.file.write_text(text)
        self.reactor = MemoryReactorClock()
        # The monotonic time of another start is another one.
        self.reactor.advance(len(text))
        self.running = readConfiguration(str(self.file), {}, {}, self.reactor)
        self.balancer = buildBalancer(self.running, self.reactor, [])
        self.keeper = Keeper(
            self.balancer,
            lambda: self.running,
            str(self.state),
            lambda call: self.inThread(call),
            lambda: self.now,
        )
        self.keeper.restore()
        self.balancer.startService()
        self.keeper.start()

    def advance(self, seconds: float) -> None:
        """
        Let time pass, on both clocks.
        """
        self.now += seconds
        self.reactor.advance(seconds)

    def entries(self) -> Any:
        """
        Return what the file holds.
        """
        return json.loads(self.state.read_text())["entries"]

    def pool(self, name: str = "web") -> Pool:
        """
        Return a pool.
        """
        return self.balancer.pools[name]

    def states(self) -> dict[str, Any]:
        """
        Return the destinations of the first pool: slots, weight and state.
        """
        return {
            each.name: (
                each.address.rpartition(":")[2],
                each.slots,
                each.weight,
                each.state,
            )
            for each in self.pool().destinations
        }

    def differences(self) -> list[tuple[str, Any, Any]]:
        """
        Return what differs from the configuration.
        """
        found = differences(self.balancer, self.running)
        return [(each.path, each.file, each.runtime) for each in found]


CHANGED = {"a": ("9001", 8, 3, "paused"), "c": ("9009", 2, 5, "draining")}
STATES = ("paused", "stopped", "drained")
SETTINGS = [(each, key) for key, each in POOL.items()]

AS_WRITTEN = {"a": ("9001", 4, 1, "up"), "b": ("9002", 0, 1, "up")}


class KeeperTests(SynchronousTestCase):
    """
    A process with a state file, which is started again.
    """

    def setUp(self) -> None:
        """
        Start a process.
        """
        self.folder = self.enterContext(TemporaryDirectory())
        self.events = logged(self)
        self.seen = 0
        self.on = Kept(self.folder)
        self.on.start()

    def stop(self) -> None:
        """
        Stop the process.
        """
        self.successResultOf(ensureDeferred(self.on.keeper.stop()))
        self.successResultOf(self.on.balancer.stopService())
        self.assertEqual(self.on.reactor.getDelayedCalls(), [])

    def again(self, text: str = FILE, pause: float = 60) -> None:
        """
        Stop the process, and start another one later.
        """
        self.stop()
        self.on.now += pause
        self.on.start(text)

    def lines(self, level: LogLevel = LogLevel.error) -> list[str]:
        """
        Return the lines of the log so far, of one level.
        """
        found = [
            str(formatEvent(each))
            for each in list(self.events)[self.seen :]
            if each["log_level"] is level
            and each["log_namespace"].startswith("iawlb.control")
        ]
        return found

    def change(self) -> None:
        """
        Change all that can be changed.
        """
        pool = self.on.pool()
        pool.pause("uid 0", 20.0, self.on.reactor.seconds() + 600)
        pool.setSlots("a", 8)
        pool.setWeight("a", 3)
        pool.setPaused("a", True, "uid 1", self.on.reactor.seconds() + 300)
        self.successResultOf(pool.remove("b"))
        pool.add("127.0.0.1:9009", {"name": "c", "slots": 2, "weight": 5})
        self.successResultOf(pool.drain("c"))
        pool.setPoolSlots(70)
        self.on.pool("db").refuse(True, "uid 0")

    def test_allSurvives(self) -> None:
        """
        All that was changed is so again after a restart, and after another one.
        """
        self.change()
        for _ in range(2):
            self.again()
            self.assertEqual(self.on.states(), CHANGED)
            pool = self.on.pool()
            self.assertEqual((pool.state, pool.slots), ("paused", 70))
            self.assertEqual(pool.settings.queueTimeout, 5)
            self.assertEqual(self.on.pool("db").state, "stopped")
        self.assertEqual(self.lines(), [])
        self.stop()

    def test_differences(self) -> None:
        """
        All that differs from the file is named, with both values.
        """
        self.assertEqual(self.on.differences(), [])
        self.change()
        pool = self.on.pool()
        (a, c) = pool.destinations
        web = "pools.web.destinations"
        self.assertEqual(
            self.on.differences(),
            [
                ("pools.web.paused", None, pool.gate.paused),
                ("pools.web.slots", 50, 70),
                (f"{web}.a.slots", 4, 8),
                (f"{web}.a.weight", 1, 3),
                (f"{web}.a.paused", None, a.pause),
                (f"{web}.c", None, {"address": c.address, "slots": 2, "weight": 5}),
                (f"{web}.c.drained", False, True),
                (
                    f"{web}.b",
                    {"address": "127.0.0.1:9002", "slots": 0, "weight": 1},
                    None,
                ),
                ("pools.db.stopped", False, True),
            ],
        )
        # A program has removed a pool.
        self.on.balancer.removePool("db")
        self.assertEqual(len(self.on.differences()), 8)
        self.stop()

    def test_pauseGoesOn(self) -> None:
        """
        A pause goes on after a restart, with its beginning and its end by the time of
        day. What ended while the process was down is not paused again.
        """
        self.change()
        self.on.advance(10)
        self.again(pause=100)
        pool, now = self.on.pool(), self.on.reactor.seconds()
        pause = pool.gate.paused
        assert pause is not None
        self.assertEqual((pause.by, pause.maxPause), ("uid 0", 20))
        self.assertEqual(
            (round(pause.since - now), round(pause.until - now)), (-110, 490)
        )
        own = pool.workers["a"].destination.pause
        assert own is not None and own.until is not None
        self.assertEqual((own.by, round(own.until - now)), ("uid 1", 190))
        self.on.advance(200)
        self.assertEqual(self.on.states()["a"][3], "up")
        self.assertEqual(pool.state, "paused")
        self.again(pause=400)
        self.assertEqual(self.on.pool().state, "up")
        self.assertIn(
            "pools.web.paused is not restored: the pause by 'uid 0' is over",
            self.lines(LogLevel.info),
        )
        self.stop()

    def test_ownSettings(self) -> None:
        """
        Any setting that was changed, of a destination of the file or an added one, is
        so again after a restart. An added destination keeps what is its own; the rest
        is as the pool has it then.
        """
        pool = self.on.pool()
        (a, _) = pool.destinations
        own = replace(a.settings, sendProxy="v1", proxyTlvs=("alpn",))
        pool.configureDestination("a", own)
        pool.add("127.0.0.1:9009", {"name": "c", "sendProxy": "v2"})
        self.again(FILE.replace("slots = 50", "slots = 50\nrise = 3"))
        settings = {each.name: each.settings for each in self.on.pool().destinations}
        self.assertEqual(
            (settings["a"].sendProxy, settings["a"].proxyTlvs), ("v1", ("alpn",))
        )
        self.assertEqual((settings["c"].sendProxy, settings["c"].rise), ("v2", 3))
        self.assertEqual(self.lines(), [])
        self.stop()

    def test_changedFileWins(self) -> None:
        """
        A value whose line has changed in the file is that of the file; the others stay
        as they were changed.
        """
        self.change()
        self.on.pool().setPoolSlots(80)
        text = (
            FILE.replace("slots = 50", "slots = 51")
            .replace("slots = 4 }", "slots = 6, weight = 1 }")
            .replace(
                'b = "127.0.0.1:9002"', 'b = { address = "127.0.0.1:9002", slots = 9 }'
            )
        )
        self.again(text)
        self.assertEqual(self.on.pool().slots, 51)
        self.assertEqual(
            self.on.states(),
            {
                "a": ("9001", 6, 3, "paused"),
                "b": ("9002", 9, 1, "up"),
                "c": ("9009", 2, 5, "draining"),
            },
        )
        self.assertIn(
            "pools.web.slots is not restored: the configuration has changed: 50 is 51 "
            "now",
            self.lines(LogLevel.info),
        )
        self.stop()

    def test_otherAddress(self) -> None:
        """
        A destination that has another address in the file is another one, and so is not
        paused; one that the file has now is the file's; one that is gone is gone.
        """
        self.change()
        self.on.pool().setPaused("c", True)
        text = FILE.replace("127.0.0.1:9001", "127.0.0.1:9011").replace(
            'b = "127.0.0.1:9002"', 'c = { address = "127.0.0.1:9019", slots = 1 }'
        )
        self.again(text)
        self.assertEqual(
            self.on.states(),
            {"a": ("9011", 8, 3, "up"), "c": ("9019", 1, 1, "up")},
        )
        self.again(FILE.replace("web", "shop"))
        self.assertEqual(list(self.on.balancer.pools), ["shop", "db"])
        self.assertEqual(self.on.pool("db").state, "stopped")
        self.assertEqual(self.lines(), [])
        self.stop()

    def test_goneDestination(self) -> None:
        """
        What is no longer in the file has no values to restore.
        """
        self.on.pool().setSlots("b", 3)
        self.on.pool().setPaused("b", True)
        self.again(FILE.replace('b = "127.0.0.1:9002"', ""))
        self.assertEqual(list(self.on.states()), ["a"])
        self.assertEqual(self.lines(), [])
        self.stop()

    def test_otherAddressWhileItRan(self) -> None:
        """
        A destination that was removed and added with another address keeps that one.
        """
        pool = self.on.pool()
        self.successResultOf(pool.remove("b"))
        pool.add("127.0.0.1:9022", {"name": "b"})
        self.again()
        self.assertEqual(self.on.states()["b"], ("9022", 0, 1, "up"))
        self.again(FILE.replace("9002", "9023"))
        self.assertEqual(self.on.states()["b"], ("9023", 0, 1, "up"))
        self.stop()

    def calls(self) -> list[Any]:
        """
        Return what is called later.
        """
        return [each.func for each in self.on.reactor.getDelayedCalls()]

    def test_written(self) -> None:
        """
        The file is written within a second of a change, once for many, and not at all
        if nothing is different, or a destination only goes down.
        """
        writes: list[str] = []
        write = writeState

        def counted(path: str, entries: str, when: str) -> None:
            writes.append(entries)
            write(path, entries, when)

        self.patch(keeper, "writeState", counted)
        self.on.advance(LATEST)
        self.assertEqual((len(writes), self.on.entries()), (1, []))
        self.change()
        self.on.advance(LATEST / 2)
        self.assertEqual(len(writes), 1)
        self.on.advance(LATEST / 2)
        self.assertEqual(len(writes), 2)
        self.assertEqual(len(self.on.entries()), 9)
        a = self.on.pool().workers["a"].destination
        self.on.keeper.destinationChanged(a, DESTINATION_DOWN)
        self.assertNotIn(self.on.keeper._due, self.calls())
        self.on.pool().setWeight("a", 4)
        self.on.pool().setWeight("a", 3)
        self.on.advance(2 * LATEST)
        self.assertEqual(len(writes), 2)
        self.stop()
        self.assertEqual(len(writes), 2)
        self.assertEqual(set(os.listdir(self.folder)), {"iawlb.toml", "state.json"})

    def test_slowDisk(self) -> None:
        """
        While a write is under way, there is no other; the last change is written, also
        when the process stops meanwhile.
        """
        self.on.advance(LATEST)
        waiting: list[tuple[Callable[[], None], Deferred[None]]] = []

        def later(call: Callable[[], None]) -> Deferred[None]:
            waiting.append((call, Deferred()))
            return waiting[-1][1]

        def finish() -> None:
            call, deferred = waiting.pop()
            call()
            deferred.callback(None)

        self.on.inThread = later
        self.on.pool().setSlots("a", 5)
        self.on.advance(LATEST)
        self.on.pool().setSlots("a", 6)
        self.on.advance(5 * LATEST)
        self.assertEqual(len(waiting), 1)
        finish()
        self.assertEqual([each["runtime"] for each in self.on.entries()], [5])
        self.on.advance(LATEST)
        self.on.pool().setSlots("a", 7)
        stopping = ensureDeferred(self.on.keeper.stop())
        finish()
        self.assertEqual([each["runtime"] for each in self.on.entries()], [6])
        self.assertNoResult(stopping)
        finish()
        self.successResultOf(stopping)
        self.assertEqual([each["runtime"] for each in self.on.entries()], [7])
        self.stop()

    def test_fullDisk(self) -> None:
        """
        A disk that is full is reported once, and the balancer goes on; when there is
        room again the file is written, and that is reported too.
        """
        self.on.advance(LATEST)

        def full(path: str, entries: str, when: str) -> None:
            raise OSError(28, "No space left on device")

        write = writeState
        self.patch(keeper, "writeState", full)
        self.on.pool().setSlots("a", 5)
        self.on.advance(LATEST)
        self.on.pool().setSlots("a", 6)
        self.on.advance(LATEST)
        self.on.advance(RETRY)
        line = (
            f"cannot write the state file {self.on.state}: No space left on device; "
            "what is changed now may be lost at the next start"
        )
        self.assertEqual(self.lines(), [line])
        self.patch(keeper, "writeState", write)
        self.on.advance(RETRY)
        self.assertEqual([each["runtime"] for each in self.on.entries()], [6])
        self.assertEqual(
            self.lines(LogLevel.info)[-1], f"{self.on.state} is written again"
        )
        self.stop()

    def test_fullDiskAtTheStop(self) -> None:
        """
        A process whose last write fails stops nevertheless.
        """
        self.on.advance(LATEST)
        os.mkdir(f"{self.on.state}.tmp")
        self.on.pool().setSlots("a", 5)
        self.stop()
        self.assertEqual(len(self.lines()), 1)

    def test_foreignFile(self) -> None:
        """
        A file that cannot be used is kept under another name, and the balancer starts
        without it.
        """
        self.change()
        self.stop()
        self.on.state.write_text("{")
        self.on.start()
        self.assertEqual(self.on.states(), AS_WRITTEN)
        (line,) = self.lines()
        self.assertEqual(
            line,
            f"the state file {self.on.state} cannot be used, it is no JSON: Expecting "
            "property name enclosed in double quotes: line 1 column 2 (char 1); it is "
            f"kept as {self.on.state}.bad",
        )
        self.assertEqual(Path(f"{self.on.state}.bad").read_text(), "{")
        self.stop()

    def test_notRenamed(self) -> None:
        """
        If the file cannot be renamed either, the balancer starts too.
        """
        self.stop()
        self.on.state.write_text("{")
        os.makedirs(f"{self.on.state}.bad/in.the.way")
        self.on.start()
        (line,) = self.lines()
        self.assertIn("it cannot be renamed: Is a directory", line)
        self.stop()

    def test_unreadable(self) -> None:
        """
        A file that cannot be read is one line, and the balancer starts.
        """
        self.stop()
        self.on.state.unlink()
        self.on.state.mkdir()
        self.on.start()
        self.assertEqual(
            self.lines()[0],
            f"cannot read the state file {self.on.state}: Is a directory; starting "
            "without it",
        )
        self.stop()

    def restored(self, *entries: Any) -> list[str]:
        """
        Start a process with entries in the file, and return the lines of errors.
        """
        self.stop()
        self.on.state.write_text(json.dumps({"iawlb": 1, "entries": entries}))
        self.seen = len(list(self.events))
        self.on.start()
        return self.lines()

    def test_badEntries(self) -> None:
        """
        Entries that cannot be used lose only themselves, with a line each.
        """
        a = {"pool": "web", "destination": "a"}
        pause = {"by": "", "since": "2023-11-14T00:00:00+00:00"}
        lines = self.restored(
            {**a, "key": "slots", "file": 4, "runtime": 9},
            7,
            {**a, "key": "slots", "file": 4, "runtime": "many"},
            {**a, "key": "weight", "file": 1, "runtime": -1},
            {**a, "key": "address", "file": "127.0.0.1:9001", "runtime": 3},
            {**a, "key": "colour", "address": "127.0.0.1:9001", "runtime": "red"},
            {"pool": "web", "key": "colour", "file": 1, "runtime": 2},
            {"pool": "web", "key": "queue-timeout", "file": 5, "runtime": "soon"},
            {"pool": "web", "destination": "x", "runtime": "9001"},
            {"pool": "web", "destination": "x", "runtime": {"address": "nowhere:"}},
            {"pool": "web", "key": "paused", "runtime": pause},
            {"pool": "web", "destination": "y", "runtime": {"address": "127.0.0.1:9"}},
        )
        path = "pools.web.destinations"
        expected = [
            f"{self.on.state}: entry 2 is bad, and left out: it is no object",
            f"{path}.a.slots cannot be restored",
            f"{path}.a.weight cannot be restored",
            f"{path}.a.address cannot be restored: its address is no text",
            f"{path}.a.colour cannot be restored: there is no state 'colour'",
            "pools.web.colour cannot be restored: there is no such setting",
            "pools.web.queue-timeout cannot be restored",
            f"{path}.x cannot be restored: it has no address",
            f"{path}.x cannot be restored",
        ]
        self.assertEqual(len(lines), len(expected), lines)
        for line, beginning in zip(lines, expected, strict=True):
            self.assertTrue(line.startswith(beginning), line)
        self.assertEqual(self.on.states()["a"], ("9001", 9, 1, "up"))
        self.assertEqual(self.on.states()["y"], ("9", 0, 1, "up"))
        self.assertEqual(self.on.pool().state, "paused")
        self.stop()

    @settings(deadline=None, max_examples=60)
    @given(st.data())
    def test_anyEntry(self, data: st.DataObject) -> None:
        """
        Whatever an entry holds, the balancer starts.
        """
        any_ = data.draw(ANY)
        entry = {
            "pool": "web",
            "destination": data.draw(st.sampled_from([None, "a", "b", "x"])),
            "key": data.draw(
                st.sampled_from(
                    (None, *VALUES, *STATES, *(key for _, key in SETTINGS)),
                )
            ),
            "file": data.draw(st.sampled_from([None, 0, 1, 4, "127.0.0.1:9001"])),
            "address": "127.0.0.1:9001",
            "runtime": data.draw(
                st.just(any_)
                | st.just({"address": any_, "slots": any_})
                | st.just({"address": "127.0.0.1:9", "slots": any_})
                | st.just({"since": any_, "until": any_, "maxPause": any_, "by": any_})
                | st.just({"since": "2024-01-01", "until": "9999-12-31T00:00"})
            ),
        }
        for each, key in SETTINGS:
            if key == entry["key"] and entry["destination"] is None:
                configured = self.on.running.pools["web"].settings
                entry["file"] = getattr(configured, each.name)
        self.restored(entry)

    def test_observer(self) -> None:
        """
        The keeper is an observer, of all but sessions and listeners.
        """
        verifyObject(IObserver, self.on.keeper)
        nothing: Any = None
        self.on.keeper.sessionChanged(nothing, "ended")
        self.on.keeper.listenerChanged("web", "", "closed")
        self.stop()
        # What happens later is written no more.
        self.on.keeper.poolChanged("web", "changed", "")
        self.assertEqual(self.on.reactor.getDelayedCalls(), [])
