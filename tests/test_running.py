"""
Tests for what runs beside the balancer of a process: the admin server and the metrics.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.application.service import Application
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.trial.unittest import SynchronousTestCase

from iawlb.balancer import Balancer
from iawlb.config.model import Configuration
from iawlb.control.build import describe
from iawlb.errors import CannotListen, InvalidConfiguration, InvalidSetting
from iawlb.process.administration import MOST_CONNECTIONS
from iawlb.process.logs import Logs
from iawlb.process.running import Running
from iawlb.processsettings import ProcessSettings
from tests.asking import Reply, request
from tests.doubles import Rig
from tests.net import connected, reactor, until
from tests.rig import rig


def make(balancer: Balancer, reactor: Any = reactor, **settings: Any) -> Running:
    """
    Make what runs beside a balancer.
    """
    process = ProcessSettings(**settings)
    logs = Logs(reactor, process)
    configuration = describe(balancer, process, {})
    return Running(reactor, balancer, process, configuration, logs, usual=False)


async def ask(path: str, method: str, target: str, body: Any = None) -> Reply:
    """
    Ask over a connection of its own.
    """
    peer = await connected(UNIXClientEndpoint(reactor, path))
    peer.write(request(method, target, body, {"Connection": "close"}))
    await until(lambda: peer.ended)
    peer.close()
    await peer.closed()
    return Reply(bytes(peer.received))


@asynccontextmanager
async def serving(tmp_path: Path) -> AsyncIterator[tuple[Any, str, Running]]:
    """
    A balancer with its admin server.
    """
    path = str(tmp_path / "a.sock")
    async with rig("fast", "tcp4", tmp_path) as on:
        running = make(on.balancer, admin=path, metrics=str(tmp_path / "m.sock"))
        running.open()
        running.start()
        try:
            yield on, path, running
        finally:
            running.stopping()
            await running.stop()
        assert not os.path.exists(path)


@pytest_twisted.ensureDeferred
async def test_status(tmp_path: Path) -> None:
    """
    The status of a real balancer can be read while it serves.
    """
    async with serving(tmp_path) as (on, path, _):
        client, server = await on.pair()
        client.write(b"1234")
        await server.got(4)
        status = (await ask(path, "GET", "/status")).json
        (pool,) = status["pools"]
        assert (status["sessions"], pool["bytesIn"], pool["active"]) == (1, 4, 1)
        assert pool["destinations"][0]["origin"] == "--dest"
        assert status["reload"]["successful"] is None
        assert status["log"] == {"dropped": 0, "level": "info"}
        (session,) = (await ask(path, "GET", "/sessions")).json["sessions"]
        assert (session["state"], session["bytesIn"]) == ("relaying", 4)
        assert (
            b"iawlb_current_sessions 1.0" in (await ask(path, "GET", "/metrics")).body
        )
        client.close()
        server.close()


@pytest_twisted.ensureDeferred
async def test_changes(tmp_path: Path) -> None:
    """
    A value that was set is shown beside that of the configuration, with its origin. The
    change is an event with who asked.
    """
    async with serving(tmp_path) as (on, path, running):
        (name,) = [each.name for each in on.balancer.destinations]
        body = {"target": f"default/{name}", "slots": 3}
        assert (await ask(path, "POST", "/set", body)).json["result"] == "done"
        config = (await ask(path, "GET", "/config")).json
        (difference,) = config["differences"]
        assert (difference["file"], difference["runtime"]) == (0, 3)
        origins = {each["path"]: each["origin"] for each in config["settings"]}
        assert origins["pools.default.queue-timeout"] == "default"
        assert config["file"] is None
        pool = (await ask(path, "GET", "/pools/default")).json
        assert pool["destinations"][0]["changed"] == ["slots"]
        body = {"pool": "default", "address": "localhost:9", "name": "new"}
        added = (await ask(path, "POST", "/destinations", body)).json
        assert added["origin"] == "runtime"
        assert running.administration is not None
        events: list[dict[str, Any]] = []
        running.administration.publish("reload")
        events = [
            json.loads(each[6:])
            for each in (await events_of(path)).decode().split("\n")
            if each.startswith("data: ")
        ]
        audits = [each for each in events if each["type"] == "audit"]
        assert audits[0]["text"].startswith("POST /set ")
        assert audits[0]["by"] == f"uid {os.geteuid()} (pid {os.getpid()})"


async def events_of(path: str) -> bytes:
    """
    Read the events that are kept, up to the reload.
    """
    peer = await connected(UNIXClientEndpoint(reactor, path))
    peer.write(request("GET", "/events?after=0"))
    await until(lambda: b"event: reload" in peer.received)
    peer.transport.abortConnection()
    await peer.closed()
    return bytes(peer.received)


@pytest_twisted.ensureDeferred
async def test_linesDropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Those who watch are told of lines of the log that were dropped.
    """
    path = str(tmp_path / "a.sock")
    async with rig("fast", "tcp4", tmp_path) as on:
        process = ProcessSettings(logTo=str(tmp_path / "log"), admin=path)
        logs = Logs(reactor, process)
        monkeypatch.setattr(signal, "signal", lambda number, handler: None)
        logs.begin(None, Application("iawlb"))
        writer = logs.access.writer
        assert writer is not None
        configuration = describe(on.balancer, process, {})
        running = Running(
            reactor, on.balancer, process, configuration, logs, usual=False
        )
        running.open()
        running.start()
        writer.dropped = 7
        writer.write("line\n")
        writer.writeNow()
        assert running.administration is not None
        running.administration.publish("reload")
        events = await events_of(path)
        assert b"event: log-dropped" in events
        assert b"7 lines of the log were dropped" in events
        running.stopping()
        await running.stop()
        writer.close()


@pytest_twisted.ensureDeferred
async def test_noFile(tmp_path: Path) -> None:
    """
    Without a configuration file there is nothing to reload. The level of the log cannot
    be set where Twisted writes it.
    """
    async with serving(tmp_path) as (_, path, _):
        reply = await ask(path, "POST", "/reload", {})
        assert reply.status == 409
        assert "no configuration file" in reply.json["detail"]
        reply = await ask(path, "POST", "/log", {"level": "debug"})
        assert reply.status == 422


@pytest_twisted.ensureDeferred
async def test_reload(tmp_path: Path) -> None:
    """
    With a file, its path, the last reload and all mistakes are answered, and each
    reload is an event.
    """
    path = str(tmp_path / "a.sock")
    async with rig("fast", "tcp4", tmp_path) as on:
        process = ProcessSettings(admin=path)
        described = describe(on.balancer, process, {})
        configuration = replace(described, path="x.toml")

        def read() -> Configuration:
            if wrong:
                raise InvalidConfiguration(wrong)
            return configuration

        wrong = ["x.toml:1: no", "x.toml:2: neither"]
        logs = Logs(reactor, process)
        running = Running(
            *(reactor, on.balancer, process, configuration, logs),
            usual=False,
            read=read,
        )
        running.open()
        running.start()
        reply = await ask(path, "POST", "/reload", {})
        assert (reply.status, reply.json["mistakes"]) == (422, wrong)
        status = (await ask(path, "GET", "/status")).json
        assert status["reload"]["successful"] is False
        wrong.clear()
        assert (await ask(path, "POST", "/reload", {})).json["result"] == "done"
        assert (await ask(path, "GET", "/config")).json["file"] == "x.toml"
        assert b'"type":"reload-failed"' in await events_of(path)
        await running.stop()


class RunningTests(SynchronousTestCase):
    """
    What is made of the settings.
    """

    def setUp(self) -> None:
        self.on = Rig()
        self.reactor: Any = self.on.clock

    def test_nothing(self) -> None:
        """
        Without an address nothing is made, and nothing is counted.
        """
        running = make(self.on.balancer, self.reactor)
        self.assertIsNone(running.metering)
        running.open()
        running.start()
        running.stopping()
        self.successResultOf(running.stop())

    def test_tokens(self) -> None:
        """
        An address that other machines can reach needs tokens, and a file of tokens is
        read at once.
        """
        with self.assertRaisesRegex(InvalidSetting, "^admin: .* admin-tokens$"):
            make(self.on.balancer, self.reactor, admin="0.0.0.0:8405")
        with self.assertRaisesRegex(InvalidSetting, "^admin-tokens: cannot read"):
            make(self.on.balancer, self.reactor, admin="8405", adminTokens="/nowhere")

    def test_filesAreKept(self) -> None:
        """
        Open files are kept for the connections of the admin server, so that it answers
        also when clients have taken all the room.
        """
        before = self.on.balancer.table.limit
        make(self.on.balancer, self.reactor, admin="8405")
        after = self.on.balancer.table.limit
        self.assertEqual(after, before - MOST_CONNECTIONS // 2)
        self.on.balancer.configure(drainTimeout=1)
        self.assertEqual(self.on.balancer.table.limit, after)

    def test_noRoom(self) -> None:
        """
        If the number of connections that was asked for leaves no room, that is refused
        with the sum.
        """
        rig = Rig(maxConnections=self.on.balancer.table.limit)
        with self.assertRaisesRegex(InvalidSetting, "maxConnections: .* open files"):
            make(rig.balancer, self.reactor, admin="8405")

    def test_cannotListen(self) -> None:
        """
        An address that is taken is refused before the balancer listens.
        """
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        path = folder / "a.sock"
        path.write_text("mine")
        running = make(self.on.balancer, self.reactor, admin=str(path))
        with self.assertRaisesRegex(CannotListen, "^admin: .* not a socket"):
            running.open()
        self.successResultOf(running.stop())
        self.assertTrue(path.exists())


@pytest_twisted.ensureDeferred
async def test_usualPlace(tmp_path: Path) -> None:
    """
    The folder of the usual place is made.
    """
    path = tmp_path / "iawlb" / "admin.sock"
    with pytest.raises(CannotListen):
        make(Rig().balancer, admin=str(path)).open()
    balancer = Rig().balancer
    process = ProcessSettings(admin=str(path))
    running = Running(
        reactor,
        balancer,
        process,
        describe(balancer, process, {}),
        Logs(reactor, process),
        usual=True,
    )
    running.open()
    assert path.is_socket()
    await running.stop()
    assert not path.exists()
