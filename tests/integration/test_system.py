"""
The balancer as a service: systemd's sockets and messages, and the files in
C{docs/examples/systemd} and C{docs/examples/container}. No systemd runs here:
C{systemd-socket-activate} and a stand-in of the tests do its part.
"""

from __future__ import annotations

import re
import shutil
import signal
import socket
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from iawlb.process.options import checkFile
from tests.integration import handover
from tests.integration.conftest import Balancers, Serve, Start
from tests.integration.programs import (
    Balancer,
    Program,
    connect,
    echo,
    find,
    freePort,
    lacking,
    readAll,
    run,
    until,
)
from tests.manager import Manager

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"

SCRIPTS = Path(sysconfig.get_path("scripts"))

EXPOSURE = 1.7
"""
What C{systemd-analyze security} says of the service, from 0 to 10, the least being
best.
"""


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    """
    A stand-in for systemd.
    """
    with Manager(str(tmp_path / "notify")) as found:
        yield found


@pytest.fixture
def service(tmp_path: Path, start: Start, manager: Manager) -> Callable[..., Balancer]:
    """
    Starts a balancer as systemd does: with the address of the notify socket, and the
    sockets that systemd keeps.
    """

    def started(*arguments: str) -> Balancer:
        manager.read()
        names, numbers = manager.store.keys(), manager.store.values()
        before = [
            *("env", f"NOTIFY_SOCKET={manager.address}", "FDSTORE=64"),
            *(sys.executable, handover.__file__),
            *(":".join(names), ":".join(map(str, numbers))),
        ]
        made = Balancer("", arguments, tmp_path, before=before)
        made.inherited = list(numbers)
        start(made)
        ready = len(manager.all("READY"))
        until(lambda: len(manager.all("READY")) > ready - 1, "READY=1")
        return made

    return started


def answer(client: socket.socket) -> bytes:
    """
    Send some bytes, and read what comes back.
    """
    client.sendall(b"hello")
    client.shutdown(socket.SHUT_WR)
    return readAll(client)


def test_command(manager: Manager, start: Start, tmp_path: Path) -> None:
    """
    C{iawlb run}, which the units start, tells systemd the same, and when it reloads.
    """
    file = tmp_path / "iawlb.toml"
    file.write_text(
        f'[pools.web]\nlisten = "127.0.0.1:{freePort()}"\n'
        'destinations = { a = "localhost:9" }\n'
    )
    program = Program(
        [
            *("env", f"NOTIFY_SOCKET={manager.address}"),
            f"IAWLB_ADMIN={tmp_path / 'admin.sock'}",
            *(str(SCRIPTS / "iawlb"), "run", str(file)),
        ],
        tmp_path,
        ready=lambda: manager.all("READY") == ["1"],
    )
    start(program)
    assert len(manager.store) == 1
    more = f'["127.0.0.1:{freePort()}", "127.0.0.1:{freePort()}"]'
    file.write_text(re.sub('(?<=listen = )".*"', more, file.read_text()))
    program.send(signal.SIGHUP)
    until(lambda: len(manager.all("READY")) == 2, "READY=1 after the reload")
    assert manager.all("RELOADING") == ["1"]
    until(lambda: manager.read() and len(manager.store) == 2, "FDSTORE=1")
    assert program.stop() == -signal.SIGTERM
    assert manager.all("STOPPING") == ["1"]
    assert "Traceback" not in program.text()


def test_messages(service: Callable[..., Balancer], manager: Manager) -> None:
    """
    The process tells systemd that it is ready, and that it stops.
    """
    balancer = service("--listen", str(freePort()), "--dest", "9")
    until(lambda: manager.all("READY") == ["1"], "READY=1")
    assert balancer.stop() == -signal.SIGTERM
    assert manager.all("STOPPING") == ["1"]
    balancer.check()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_backlogOutlives(
    service: Callable[..., Balancer],
    manager: Manager,
    serve: Serve,
    tmp_path: Path,
    number: int,
) -> None:
    """
    Clients that connect while the balancer is gone, killed or restarted, are served by
    the next one, on TCP and on a Unix socket.
    """
    port, path = freePort(), str(tmp_path / "web.sock")
    arguments = [
        *("--listen", str(port), "--listen", path),
        *("--dest", f"127.0.0.1:{serve(echo)}"),
    ]
    for _ in range(3):
        balancer = service(*arguments)
        until(lambda: manager.read() and len(manager.store) == 2, "FDSTORE=1")
        with connect(port) as client:
            assert answer(client) == b"hello"
        balancer.stop(number)
        balancer.check()
        clients = [connect(each) for each in (port, path, port)]
        balancer = service(*arguments)
        for client in clients:
            with client:
                assert answer(client) == b"hello"
        balancer.stop(number)


def test_socketActivation(start: Start, serve: Serve, tmp_path: Path) -> None:
    """
    The balancer takes the sockets of socket units by their names.
    """
    ports = [freePort() for _ in range(2)]
    program = Program(
        [
            find("systemd-socket-activate"),
            *(f"--listen=127.0.0.1:{each}" for each in ports),
            "--fdname=web:db",
            *(str(SCRIPTS / "twistd"), "-n", "--pidfile=", "iawlb"),
            *("--listen", "systemd:db", "--listen", "systemd:web"),
            *("--dest", f"127.0.0.1:{serve(echo)}"),
        ],
        tmp_path,
        ready=lambda: "Listening on" in program.text(),
    )
    start(program)
    for each in ports:
        with connect(each) as client:
            assert answer(client) == b"hello"
    assert f"listening on 127.0.0.1:{ports[1]}" in program.text()
    assert program.stop() == -signal.SIGTERM
    assert "Traceback" not in program.text()


def units(folder: Path) -> list[Path]:
    """
    Write the unit files for the program that is installed here.
    """
    written = []
    for source in sorted((EXAMPLES / "systemd").glob("iawlb*.s*")):
        text = source.read_text().replace("/opt/iawlb/bin", str(SCRIPTS))
        unit = folder / source.name.replace("@.", "@web.")
        unit.write_text(text)
        written.append(unit)
    return written


def test_unitsAreValid(tmp_path: Path) -> None:
    """
    systemd finds nothing wrong with the unit files.
    """
    made = [str(each) for each in units(tmp_path)]
    assert len(made) == 3
    run("systemd-analyze", "verify", "--man=no", *made)


def test_unitsAreHardened(tmp_path: Path) -> None:
    """
    The services may do little more than what a balancer needs.
    """
    for each in units(tmp_path):
        if each.suffix == ".service":
            most = f"--threshold={EXPOSURE * 10:g}"
            written = run(
                *("systemd-analyze", "security", "--offline=yes", most, str(each))
            )
            found = re.search(rb"exposure level for .*: ([\d.]+) OK", written)
            assert found is not None
            assert float(found[1]) == EXPOSURE


def test_logrotate(
    balancer: Balancers, serve: Serve, start: Start, tmp_path: Path
) -> None:
    """
    The file for logrotate has the balancer write on to a new file, and no line is lost.
    """
    folder = tmp_path / "log"
    folder.mkdir(mode=0o755)
    log = folder / "access.log"
    made = balancer(serve(echo), options=["--log-to", str(log)])

    clients = []

    def connectOnce() -> None:
        with connect(made.port) as client:
            assert answer(client) == b"hello"
        clients.append(client)

    connectOnce()
    until(lambda: log.read_text().count("\n") == 1, "a line")
    text = (EXAMPLES / "systemd" / "iawlb.logrotate").read_text()
    assert "\n/var/log/iawlb/access.log {" in text
    text = text.replace("\n/var/log/iawlb/", f"\n{folder}/")
    configuration = tmp_path / "iawlb.logrotate"
    configuration.write_text(text)
    configuration.chmod(0o644)
    state = str(tmp_path / "state")
    run("logrotate", "--force", "--state", state, str(configuration))
    # The balancer notices it with the line of a client, within a second.
    while not log.exists():
        connectOnce()
    connectOnce()
    rotated = folder / "access.log.1"
    assert rotated.exists()
    made.stop()
    lines = [each.read_text().count("\n") for each in (rotated, log)]
    assert lines[1] >= 1
    assert sum(lines) == len(clients)


def test_manifests() -> None:
    """
    The Kubernetes manifests are what Kubernetes understands.
    """
    path = shutil.which("kubernetes-validate", path=str(SCRIPTS))
    if path is None:
        lacking("kubernetes-validate is not installed")
    manifest = EXAMPLES / "container" / "kubernetes.yaml"
    run(str(path), "--strict", str(manifest))


def test_configurations(tmp_path: Path) -> None:
    """
    The configuration files of the examples are valid.
    """
    plain = EXAMPLES / "container" / "iawlb.toml"
    manifest = (EXAMPLES / "container" / "kubernetes.yaml").read_text()
    match = re.search(r"iawlb\.toml: \|\n((?:    .*\n|\n)+)", manifest)
    assert match is not None
    inner = tmp_path / "iawlb.toml"
    inner.write_text(re.sub("^    ", "", match[1], flags=re.M))
    assert [checkFile(str(each)) for each in (plain, inner)] == [[], []]
