"""
Tests for the reloads and the state file of a process.
"""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred, maybeDeferred
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import formatEvent
from twisted.trial.unittest import SynchronousTestCase

from iawlb.config.read import readConfiguration
from iawlb.control.build import buildBalancer
from iawlb.errors import InvalidSetting
from iawlb.process.logs import Logs
from iawlb.process.reloading import Reloading
from tests.doubles import logged

FILE = """
[pools.web]
listen = "127.0.0.1:8080"
destinations = {{ a = "127.0.0.1:9001" }}
[admin]
state = "{}"
[log]
level = "{}"
"""


class ReloadingTests(SynchronousTestCase):
    """
    L{Reloading}.
    """

    def setUp(self) -> None:
        """
        Make a process from a file.
        """
        folder = self.enterContext(TemporaryDirectory())
        self.file = Path(folder, "iawlb.toml")
        self.state = Path(folder, "state.json")
        self.events = logged(self)
        self.levels: list[str] = []
        self.reactor = MemoryReactorClock()

    def read(self) -> Any:
        """
        Read the file.
        """
        return readConfiguration(str(self.file), {}, {}, self.reactor)

    def make(self, state: str = "") -> Reloading:
        """
        Make the process.
        """
        self.file.write_text(FILE.format(state, "info"))
        configuration = self.read()
        self.balancer = buildBalancer(configuration, self.reactor, [])
        logs = Logs(self.reactor, configuration.process)
        self.patch(logs, "setLevel", self.levels.append)
        return Reloading(self.reactor, self.balancer, configuration, self.read, logs)

    def hangUp(self, reloading: Reloading) -> None:
        """
        Act on SIGHUP.
        """
        assert reloading.hangup.reload is not None
        done: Any = reloading.hangup.reload()
        self.successResultOf(done)

    def test_hangup(self) -> None:
        """
        SIGHUP reloads; the level of the log changes with the file.
        """
        reloading = self.make()
        reloading.open()
        self.balancer.startService()
        reloading.start()
        self.patch(reloading.reloader, "_inThread", maybeDeferred)
        self.file.write_text(FILE.format("", "debug"))
        self.hangUp(reloading)
        self.assertEqual(self.levels, ["debug"])
        self.assertIs(reloading.reloader.last["successful"], True)
        self.successResultOf(ensureDeferred(reloading.stop()))
        self.successResultOf(self.balancer.stopService())

    def test_manyHangups(self) -> None:
        """
        However often the signal comes during a reload, one more follows, which reads
        the file as it is then.
        """
        reloading = self.make()
        self.balancer.startService()
        reads: list[Deferred[Any]] = []

        def later(read: Any) -> Deferred[Any]:
            reads.append(Deferred())
            return reads[-1]

        self.patch(reloading.reloader, "_inThread", later)
        assert reloading.hangup.reload is not None
        for _ in range(100):
            reloading.hangup.reload()
        self.assertEqual(len(reads), 1)
        reads[0].callback(self.read())
        self.assertEqual(len(reads), 2)
        reads[1].callback(self.read())
        self.assertEqual(len(reads), 2)
        self.successResultOf(self.balancer.stopService())

    def test_stateIsConfiguration(self) -> None:
        """
        The configuration is not taken for a state file, which would be overwritten.
        """
        with self.assertRaisesRegex(InvalidSetting, "state: .* is the configuration"):
            self.make(str(self.file))

    def test_tooEarly(self) -> None:
        """
        SIGHUP in a process that has not started yet is one line.
        """
        self.hangUp(self.make())
        lines = [str(formatEvent(each)) for each in self.events]
        self.assertIn("SIGHUP: the balancer has not started yet", lines)

    def test_state(self) -> None:
        """
        What the state file has is restored once, before the balancer listens. A process
        that could not start does not write the file.
        """
        entry = {"pool": "web", "key": "stopped", "file": False, "runtime": True}
        text = json.dumps({"iawlb": 1, "entries": [entry]})
        self.state.write_text(text)
        reloading = self.make(str(self.state))
        reloading.open()
        pool = self.balancer.pools["web"]
        self.assertEqual(pool.state, "stopped")
        pool.resume()
        reloading.open()
        self.assertEqual(pool.state, "up")
        self.successResultOf(ensureDeferred(reloading.stop()))
        self.assertEqual(self.state.read_text(), text)
        keeper = reloading.keeper
        assert keeper is not None
        calls: list[Any] = []

        def call(function: Any) -> Deferred[None]:
            calls.append(function)
            function()
            done: Deferred[None] = Deferred()
            done.callback(None)
            return done

        self.patch(keeper, "_inThread", call)
        reloading.start()
        self.successResultOf(ensureDeferred(reloading.stop()))
        self.assertEqual(json.loads(self.state.read_text())["entries"], [])
