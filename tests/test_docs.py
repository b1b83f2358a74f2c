"""
Tests that the documentation says what the code does.
"""

from __future__ import annotations

import importlib
import json
import re
import shlex
import signal
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import fields
from functools import partial
from importlib.metadata import version
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from iawlb.core import events
from iawlb.core.outcome import Outcome
from iawlb.errors import InvalidSetting
from iawlb.logformat import FIELDS, FORMATS
from iawlb.process.demo import statusLine
from iawlb.process.optiontable import OPTIONS
from iawlb.setting import optionName
from iawlb.settings import DestinationSettings, ListenerSettings
from iawlb.tap import Options
from tests.integration.programs import (
    LIMIT,
    Peers,
    Program,
    answers,
    connect,
    echo,
    freePort,
    readAll,
    until,
)
from tests.test_structure import ROOMS, TOP

DOCS = TOP / "docs"
EXAMPLES = DOCS / "examples"
SETTINGS = (
    "Options",
    "Options of checks",
    "Status and control options",
    "Access log options",
)
"""
The headings of the tables of settings in the reference.
"""
PAGES = [TOP / "README.md", TOP / "CHANGELOG.md", *sorted(DOCS.glob("*.md"))]

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path, *languages: str) -> list[str]:
    """
    List the code blocks of a page.
    """
    return [text for kind, text in FENCE.findall(page.read_text()) if kind in languages]


def table(page: str, heading: str) -> list[list[str]]:
    """
    Read the first table under a heading of a page, without its head and without
    the marks of code.
    """
    text = (DOCS / page).read_text()
    (section,) = re.findall(rf"^#+ {heading}\n(.*?)(?=^#|\Z)", text, re.M | re.S)
    lines = re.search(r"^(?:\|.*\|\n)+", section, re.M)
    assert lines is not None, heading
    rows = []
    for line in lines[0].splitlines()[2:]:
        cells = re.split(r"(?<!\\)\|", line.strip("|"))
        rows.append([cell.strip().replace("`", "") for cell in cells])
    return rows


def slug(heading: str) -> str:
    """
    Make the anchor of a heading, as programs that show Markdown do.
    """
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def commands() -> list[list[str]]:
    """
    List the command lines of all pages that run iawlb.
    """
    found = []
    for page in PAGES:
        for block in blocks(page, "sh"):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if "iawlb" in words and any(w.endswith("twistd") for w in words):
                    found.append(words)
    return found


class ReferenceTests(SynchronousTestCase):
    """
    docs/reference.md and the code name the same things.
    """

    def test_options(self) -> None:
        """
        The reference lists the options of the help, in its order, with the same
        units and defaults.
        """
        usage = Options().getUsage()
        helped = re.findall(r"^  --([\w-]+)(?:=(\w+))?", usage, re.MULTILINE)
        listed = [
            (row[0].removeprefix("--"), row[1])
            for heading in ("Addresses and checks", *SETTINGS)
            for row in table("reference.md", heading)
        ]
        self.assertEqual(listed, helped)
        defaults = [
            (row[0], row[2])
            for heading in SETTINGS
            for row in table("reference.md", heading)
        ]
        self.assertEqual(
            defaults,
            [(f"--{optionName(each)}", each.metadata["shown"]) for each in OPTIONS],
        )

    def test_ranges(self) -> None:
        """
        The limits in the reference are accepted, and values beyond them are refused.
        """
        ranges = {
            row[0]: row[3]
            for heading in SETTINGS
            for row in table("reference.md", heading)
        }
        for each in OPTIONS:
            read = each.metadata["read"]
            said = ranges[f"--{optionName(each)}"]
            low, _, high = said.partition(" to ")
            if said in ("an address", "a path"):
                read("/run/iawlb/file")
                self.assertRaises(InvalidSetting, read, "other")
                continue
            if said == "a pool":
                read("web")
                self.assertRaises(InvalidSetting, read, "a b")
                continue
            if said == "hosts":
                read("a.example,*.b.example")
                self.assertRaises(InvalidSetting, read, "*")
                continue
            if said == "a host":
                read("db.example.org")
                self.assertRaises(InvalidSetting, read, "a b")
                continue
            if said == "networks":
                read("10.0.0.0/8, ::1")
                self.assertRaises(InvalidSetting, read, "10.0.0.0/33")
                continue
            if said == "0 to 90%":
                read("90%")
                self.assertRaises(InvalidSetting, read, "91%")
                continue
            if said == "bits":
                read("32,128")
                self.assertRaises(InvalidSetting, read, "33,128")
                continue
            if said == "protocols":
                read("h2,http/1.1")
                self.assertRaises(InvalidSetting, read, ",")
                continue
            if said == "text":
                read("any text")
                continue
            if not high:
                for word in said.split(", "):
                    read(word)
                self.assertRaises(InvalidSetting, read, "other")
                continue
            high, *words = high.split(", ")
            for word in (high, *words):
                read(word)
            number, unit = re.fullmatch(r"(\d+)(\w*)", high).groups()  # type: ignore[union-attr]
            self.assertRaises(InvalidSetting, read, f"{int(number) + 1}{unit}")
            if low == "above 0":
                self.assertRaises(InvalidSetting, read, 0)
            else:
                read(low)
                self.assertRaises(InvalidSetting, read, int(low) - 1)

    def test_settingsBehindAddresses(self) -> None:
        """
        The reference lists what can be set behind an address, and where.
        """
        listed = table("reference.md", "Settings behind an address")
        of = {row[0].rstrip("="): row[1] for row in listed}
        listeners = {optionName(each) for each in fields(ListenerSettings)}
        destinations = {
            optionName(each)
            for each in fields(DestinationSettings)
            if each.metadata["scope"] != "python"
        }
        self.assertEqual({name for name in of if "listener" in of[name]}, listeners)
        self.assertEqual(
            {name for name in of if "destination" in of[name]}, destinations
        )

    def test_fields(self) -> None:
        """
        The reference lists the fields of the access log, in their order.
        """
        listed = [(row[0], row[1]) for row in table("reference.md", "Fields")]
        self.assertEqual(listed, [(name, kind) for name, (kind, _) in FIELDS.items()])
        formats = [row[0] for row in table("reference.md", "The access log")]
        self.assertEqual(formats, [*FORMATS, "a template"])

    def test_outcomes(self) -> None:
        """
        The reference explains every way in which a session can end, with the two
        letters and the words of the log line.
        """
        listed = [(row[0], row[1]) for row in table("reference.md", "How it ended")]
        self.assertEqual(listed, [(each.code, each.text) for each in Outcome])

    def test_events(self) -> None:
        """
        The reference lists the events that an observer receives.
        """
        listed = {row[0]: row[1] for row in table("reference.md", "Events")}
        real = {
            name: value
            for name, value in vars(events).items()
            if re.match("(SESSION|DESTINATION|POOL|LISTENER)_", name)
        }
        self.assertEqual(listed, real)

    def test_bounds(self) -> None:
        """
        A bound that the reference gives is the one in the code.
        """
        checked = 0
        for _, bound, where in table("reference.md", "Bounds"):
            if where:
                module, _, name = where.rpartition(".")
                value = getattr(importlib.import_module(module), name)
                number = bound.split()[0].replace(",", "")
                self.assertEqual(float(number), value, where)
                checked += 1
        self.assertGreater(checked, 5)


class PageTests(SynchronousTestCase):
    """
    The pages fit each other and the project.
    """

    def test_links(self) -> None:
        """
        A link to a file or to a heading leads there.
        """
        for page in PAGES:
            text = FENCE.sub("", page.read_text())
            for target in re.findall(r"\]\(([^)]+)\)", text):
                if target.startswith("http"):
                    continue
                file, _, anchor = target.partition("#")
                there = (page.parent / file).resolve() if file else page
                self.assertTrue(there.exists(), f"{page.name}: {target}")
                if anchor:
                    headings = re.findall(r"^#+ (.*)$", there.read_text(), re.M)
                    slugs = [slug(each) for each in headings]
                    self.assertIn(anchor, slugs, f"{page.name}: {target}")

    def test_names(self) -> None:
        """
        The names of our modules on a page exist.
        """
        found = set()
        for page in PAGES:
            found |= set(re.findall(r"`(iawlb(?:\.[A-Za-z_]+){2,})", page.read_text()))
        self.assertGreater(len(found), 5)
        for name in found:
            self.assertTrue(resolve_name(name), name)

    def test_allAreReached(self) -> None:
        """
        The README leads to every page.
        """
        readme = (TOP / "README.md").read_text()
        for page in DOCS.glob("*.md"):
            self.assertIn(f"(docs/{page.name}", readme)

    def test_modules(self) -> None:
        """
        The list of modules is complete, and in the order in which they import
        each other.
        """
        files = [row[0] for row in table("architecture.md", "The rooms")]
        named = [
            file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            for file in files
        ]
        self.assertEqual(named, [f"iawlb.{room}" for room in ROOMS])
        for file in files:
            self.assertTrue((TOP / file).exists(), file)

    def test_changelog(self) -> None:
        """
        The newest version in the change log is this one; above it stands what is
        not released yet.
        """
        entries = re.findall(r"^## (\d\S*)", (TOP / "CHANGELOG.md").read_text(), re.M)
        self.assertEqual(entries[0], version("iawlb"))

    def test_version(self) -> None:
        """
        The README says which version it is about.
        """
        (said,) = re.findall(r"^Version (\S+),", (TOP / "README.md").read_text(), re.M)
        self.assertEqual(said, version("iawlb"))

    def test_picture(self) -> None:
        """
        The picture in the README shows the lines that the demo writes today.
        """
        self.assertIn("(docs/demo.svg)", (TOP / "README.md").read_text())
        texts = re.findall(r"<text[^>]*>(.*)</text>", (DOCS / "demo.svg").read_text())
        lines = [re.sub(r"<[^>]*>", "", text) for text in texts]
        shown = [line for line in lines if " waiting" in line]
        self.assertGreater(len(shown), 5)
        for line in shown:
            states = dict(re.findall(r"(demo-\d) (\w+)", line))
            (waiting,) = re.findall(r"\d+(?= waiting)", line)
            self.assertEqual(line, statusLine(states, int(waiting)))

    def test_examplesAreQuoted(self) -> None:
        """
        Each example file is quoted as it is, and nothing else is shown as Python.
        """
        quoted = blocks(DOCS / "embedding.md", "python")
        files = {path.read_text() for path in EXAMPLES.iterdir() if path.is_file()}
        self.assertEqual(set(quoted), files)
        self.assertEqual(len(quoted), len(files))
        for page in PAGES:
            if page.name != "embedding.md":
                self.assertEqual(blocks(page, "python"), [])


# Twisted reads certificates in a way that pyOpenSSL deprecates.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_commandsAreRight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Every command line shown is one that we take.
    """
    monkeypatch.chdir(tmp_path)
    (tmp_path / "certs").mkdir()
    openssl = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
    made = subprocess.run(
        [*openssl.split(), "-keyout", "key.pem", "-out", "cert.pem"],
        capture_output=True,
        timeout=LIMIT,
        check=False,
    )
    certificates = made.returncode == 0
    if certificates:
        both = Path("key.pem").read_text() + Path("cert.pem").read_text()
        Path("certs", "localhost.pem").write_text(both)
    (tmp_path / "tokens").write_text("operate 0123456789abcdef\n")
    (tmp_path / "tokens").chmod(0o600)
    found = commands()
    assert len(found) > 10
    for words in found:
        given = words[words.index("iawlb") + 1 :]
        # Those that need what this test does not have.
        if any(word.startswith("systemd:") for word in given):
            continue
        if any(re.match("(ssl|tls):", word) for word in given) and not certificates:
            continue
        given = [word for word in given if word != "&"]
        # The documents put the file where this test may not write.
        tokens = str(tmp_path / "tokens")
        given = [tokens if word == "/etc/iawlb.tokens" else word for word in given]
        if "/etc/iawlb/" in " ".join(given) and not certificates:
            continue
        own = str(tmp_path / "certs" / "localhost.pem")
        given = [re.sub(r"/etc/iawlb/(ca|own)\.pem", own, word) for word in given]
        with pytest.raises(SystemExit) as ended:
            Options(MemoryReactorClock()).parseOptions([*given, "--check"])
        assert ended.value.code == 0, (words, ended.value.code)


# The examples, run.


def _answer(name: str, peer: socket.socket) -> None:
    came = peer.recv(1000)
    peer.sendall(f"{name} got {came.decode()}".encode())


class Example:
    """
    An example of the documentation, with ports of its own.

    @ivar port: The port that it listens on instead of 8080.
    @ivar ports: The example's own ports, by those in the file.
    @ivar program: The example, running.
    """

    def __init__(self, name: str, folder: Path, stack: ExitStack) -> None:
        self.port = freePort()
        self.program: Program
        self._name = name
        self._folder = folder
        self._stack = stack
        self.ports = {"8080": self.port}

    def serve(self, place: str, handle: str | Callable[[socket.socket], None]) -> None:
        """
        Serve in place of a destination of the example.

        @param handle: What to do with a connection, or a name, to answer with it
            and with what came.
        """
        handle = partial(_answer, handle) if isinstance(handle, str) else handle
        peers = Peers(handle)
        self._stack.callback(peers.close)
        self.ports[place] = peers.port

    def start(self, *command: str, arguments: Iterable[str] = ()) -> Program:
        """
        Run the example.

        @param command: By default Python.
        @param arguments: Arguments of the example.
        """
        text = re.sub(
            r"\b(8080|9001|9002)\b",
            lambda match: str(self.ports[match[0]]),
            (EXAMPLES / self._name).read_text(),
        )
        (self._folder / self._name).write_text(text)
        self.program = Program(
            [*(command or (sys.executable,)), self._name, *arguments],
            self._folder,
            ready=lambda: answers(self.port),
        )
        self._stack.callback(self.program.destroy)
        self.program.start()
        return self.program

    def ask(self, text: str = "hello\n") -> str:
        """
        Be a client.

        @return: All that came back.
        """
        with connect(self.port) as client:
            client.sendall(text.encode())
            return readAll(client).decode()

    def stop(self) -> str:
        """
        End the example, and check that nothing went wrong.

        @return: What the example has written.
        """
        self.program.stop()
        assert "Traceback" not in self.program.text(), self.program.text()
        return self.program.text()


Make = Callable[[str], Example]


@pytest.fixture
def example(tmp_path: Path) -> Iterator[Make]:
    """
    Gives examples, which are ended after the test.
    """
    with ExitStack() as stack:
        yield lambda name: Example(name, tmp_path, stack)


def test_tac(example: Make) -> None:
    """
    The application file runs under twistd and balances.
    """
    balancer = example("balancer.tac")
    balancer.serve("9001", "one")
    balancer.serve("9002", "two")
    twistd = str(Path(sysconfig.get_path("scripts"), "twistd"))
    balancer.start(twistd, "--pidfile=", "-ny")
    # One destination may be busy yet with the connection that has shown that it runs.
    until(lambda: balancer.ask() == "one got hello\n", "an answer of one")
    until(lambda: balancer.ask() == "two got hello\n", "an answer of two")
    assert "closed by both sides (--)" in balancer.stop()


def test_script(example: Make) -> None:
    """
    The script balances, and when it is stopped, it waits for its sessions.
    """
    script = example("script.py")
    script.serve("9001", echo)
    script.serve("9002", echo)
    program = script.start()
    with connect(script.port) as client:
        client.sendall(b"early")
        assert client.recv(5) == b"early"
        program.send(signal.SIGTERM)
        until(lambda: not answers(script.port))
        client.sendall(b"late")
        client.shutdown(socket.SHUT_WR)
        assert readAll(client) == b"late"
    assert program.ended() == 0
    assert "Traceback" not in program.text()


def test_pools(example: Make) -> None:
    """
    Each pool of the example serves by its own destination.
    """
    pools = example("pools.py")
    pools.serve("9001", "web")
    pools.serve("9002", "db")
    pools.start()
    assert pools.ask() == "web got hello\n"
    found = re.search(r"db listens on 127\.0\.0\.1:(\d+)", pools.program.text())
    assert found is not None
    with connect(int(found[1])) as client:
        client.sendall(b"hello\n")
        assert readAll(client) == b"db got hello\n"
    pools.stop()


def test_scriptCannotListen(example: Make) -> None:
    """
    When the script's port is taken it says so in a line.
    """
    script = example("script.py")
    script.serve("9001", "one")
    script.serve("9002", "two")
    script.start()
    again = Program([sys.executable, "script.py"], script.program.log.parent)
    again.start()
    assert again.ended() == 1
    last = again.text().splitlines()[-1]
    assert last == f"cannot listen on 127.0.0.1:{script.port}: Address already in use"
    script.stop()


def test_control(example: Make, tmp_path: Path) -> None:
    """
    Destinations can be listed, paused, resumed, added and removed while the balancer
    runs, and clients wait meanwhile.
    """
    balancer = example("control.py")
    balancer.serve("9001", "one")
    balancer.start()

    def tell(command: str) -> str:
        with connect(str(tmp_path / "control.sock")) as client:
            client.sendall(f"{command}\n".encode())
            return readAll(client).decode()

    until(lambda: answers(str(tmp_path / "control.sock")))
    assert balancer.ask() == "one got hello\n"
    assert tell("list") == "a up active=0\nwaiting=0\n"
    assert tell("pause a") == "paused\n"
    with connect(balancer.port) as client:
        client.sendall(b"held\n")
        until(lambda: tell("list").endswith("waiting=1\n"))
        assert tell("list") == "a paused active=0\nwaiting=1\n"
        assert tell("resume a") == "resumed\n"
        assert readAll(client) == b"one got held\n"
    balancer.serve("9002", "two")
    assert tell(f"add localhost:{balancer.ports['9002']} name=b") == "added b\n"
    assert tell("remove a") == "removed a\n"
    assert balancer.ask() == "two got hello\n"
    assert tell("list") == "b up active=0\nwaiting=0\n"
    assert tell("pause nobody") == "there is no destination 'nobody'; there is b\n"
    assert (
        tell("add 99999")
        == "'99999': '99999' is not a port, a number from 1 to 65535\n"
    )
    balancer.stop()


def test_restart(example: Make, tmp_path: Path) -> None:
    """
    The example pauses its pool while a command restarts the server: a client that comes
    meanwhile is served after it.
    """
    balancer = example("restart.py")
    balancer.serve("9001", "one")
    script = "echo $$ > restarting; while test -e restarting; do sleep 0.05; done"
    program = balancer.start(arguments=["sh", "-c", script])
    program.send(signal.SIGHUP)
    until(lambda: (tmp_path / "restarting").exists())
    with connect(balancer.port) as client:
        client.sendall(b"held\n")
        (tmp_path / "restarting").unlink()
        assert readAll(client) == b"one got held\n"
    text = balancer.stop()
    assert "restarted, status 0" in text
    assert "pool default is resumed by restart.py" in text


def test_fastLog(example: Make) -> None:
    """
    The log that does not wait has the lines of sessions and all others.
    """
    balancer = example("fastlog.py")
    balancer.serve("9001", "one")
    balancer.start()
    assert balancer.ask() == "one got hello\n"
    written = balancer.stop()
    assert "closed by both sides (--)" in written
    assert "#info] destination localhost:" in written
    assert "Main loop terminated" in written


def test_accessLog(example: Make) -> None:
    """
    The access log is one JSON object for each session, and nothing else. (The look
    whether the balancer has started may be one.)
    """
    balancer = example("accesslog.py")
    balancer.serve("9001", "one")
    balancer.start()
    assert balancer.ask() == "one got hello\n"
    lines = [json.loads(line) for line in balancer.stop().splitlines()]
    assert [line["bytesIn"] for line in lines if line["bytesIn"]] == [6]


def test_observer(example: Make) -> None:
    """
    The observer writes a line of JSON for each session.
    """
    balancer = example("observer.py")
    balancer.serve("9001", "one")
    balancer.start()
    assert balancer.ask() == "one got hello\n"
    lines = [json.loads(line) for line in balancer.stop().splitlines()]
    listener = {"listener": f"127.0.0.1:{balancer.port}", "event": "listening"}
    assert lines[0] == listener
    served: dict[str, Any] = next(each for each in lines if each.get("bytesIn"))
    assert (served["code"], served["bytesIn"], served["bytesOut"]) == ("--", 6, 14)


def test_policy(example: Make) -> None:
    """
    The policy sends clients of one network to its destination only.
    """
    balancer = example("policy.py")
    balancer.serve("9001", "other")
    balancer.serve("9002", "local")
    balancer.start()
    assert {balancer.ask() for _ in range(4)} == {"local got hello\n"}
    balancer.stop()


def test_choose(example: Make) -> None:
    """
    The function sends clients that speak HTTP to a pool of their own.
    """
    balancer = example("choose.py")
    balancer.serve("9001", "web")
    balancer.serve("9002", "other")
    balancer.start()
    assert balancer.ask("GET / HTTP/1.1\n") == "web got GET / HTTP/1.1\n"
    assert balancer.ask() == "other got hello\n"
    balancer.stop()


def test_checks(example: Make, tmp_path: Path) -> None:
    """
    The function takes a destination out of service while there is a file.
    """
    balancer = example("checks.py")
    balancer.serve("9001", "one")
    balancer.serve("9002", "two")
    balancer.start()
    until(lambda: balancer.ask() == "one got hello\n", "an answer of one")
    file = tmp_path / "maintenance-one"
    file.touch()
    until(lambda: balancer.ask() == "two got hello\n", "an answer of two")
    file.unlink()
    until(lambda: balancer.ask() == "one got hello\n", "an answer of one")
    balancer.stop()


def test_waking(example: Make) -> None:
    """
    The server is started by a client, and stopped when no other has come.
    """
    balancer = example("waking.py")
    balancer.ports["9001"] = freePort()
    balancer.start()
    for times in (1, 2):
        with connect(balancer.port) as client:
            client.sendall(b"hello")
            assert client.recv(100) == b"hello"
        until(
            lambda times=times: (  # type: ignore[misc]
                balancer.program.text().count("echo is asleep") == times
            ),
            "its sleep",
        )
    balancer.stop()


def test_factory(example: Make) -> None:
    """
    The factory puts what another endpoint accepts into the queue.
    """
    balancer = example("factory.py")
    balancer.serve("9001", "one")
    balancer.start()
    assert balancer.ask() == "one got hello\n"
    assert ", embedded" in balancer.stop()


def test_takeOver(example: Make) -> None:
    """
    The server answers what it can, and hands the rest to the balancer, with the bytes
    that it has read.
    """
    balancer = example("takeover.py")
    balancer.serve("9001", "one")
    balancer.start()
    assert balancer.ask("ping\n") == "pong\n"
    assert balancer.ask("other\n") == "one got other\n"
    balancer.stop()


def test_allExamplesAreRun() -> None:
    """
    Each example file is run by a test here.
    """
    text = Path(__file__).read_text()
    run = re.findall(r'example\("([\w.]+)"\)', text)
    assert set(run) == {path.name for path in EXAMPLES.iterdir() if path.is_file()}
