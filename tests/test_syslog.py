"""
Tests for sending lines to syslog.
"""

from __future__ import annotations

import os
import re
import select
import socket
import sys
import tempfile
from pathlib import Path

from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from iawlb.errors import InvalidSetting
from iawlb.observe import syslog as module
from iawlb.observe import targets
from iawlb.observe.syslog import AT_ONCE, Syslog
from iawlb.observe.targets import openTarget
from iawlb.observe.writer import EVERY, LogWriter
from tests.test_writer import Reactor


class Case(SynchronousTestCase):
    """
    A syslog server.
    """

    def setUp(self) -> None:
        """
        Make a folder and a reactor.
        """
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.path = str(self.folder / "log")
        self.reactor = Reactor()

    def listen(
        self, family: int = socket.AF_UNIX, address: object = None
    ) -> socket.socket:
        """
        Start the server.
        """
        server = socket.socket(family, socket.SOCK_DGRAM)
        self.addCleanup(server.close)
        server.bind(self.path if address is None else address)  # type: ignore[arg-type]
        server.setblocking(False)
        return server

    def received(self, server: socket.socket) -> list[str]:
        """
        Return what the server has received.
        """
        lines = []
        try:
            while True:
                lines.append(server.recv(65536).decode())
        except BlockingIOError:
            return lines

    def writer(self, place: str) -> LogWriter:
        """
        Open a place; the reactor runs.
        """
        writer = openTarget(self.reactor, place)
        self.addCleanup(writer.close)
        self.reactor.begin()
        return writer


class UnixTests(Case):
    """
    A server on this machine.
    """

    def test_lines(self) -> None:
        """
        Each line is a datagram, with facility local0, severity info, the time and the
        process, as the C library writes them.
        """
        server = self.listen()
        writer = self.writer(f"syslog:{self.path}")
        writer.write("one\n")
        writer.write("two\n")
        writer.writeNow()
        lines = self.received(server)
        pattern = (
            r"<134>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d "
            + re.escape(f"iawlb[{os.getpid()}]: ")
            + "(one|two)"
        )
        self.assertEqual(len(lines), 2)
        for line in lines:
            self.assertRegex(line, f"^{pattern}$")

    def test_usualPlace(self) -> None:
        """
        Without a path the server is at the usual one.
        """
        self.assertEqual(targets.DEVICE, "/dev/log")
        self.patch(targets, "DEVICE", self.path)
        server = self.listen()
        writer = self.writer("syslog")
        writer.write("one\n")
        writer.writeNow()
        self.assertEqual(len(self.received(server)), 1)

    def test_restarted(self) -> None:
        """
        A server that is not there, or is restarted, gets the lines that were held
        meanwhile, and the first failure is logged.
        """
        writer = self.writer(f"syslog:{self.path}")
        with capturedLogs() as captured:
            writer.write("one\n")
            self.reactor.advance(EVERY)
            self.reactor.advance(EVERY)
        (said,) = map(formatEvent, captured)
        self.assertIn("cannot be written: No such file or directory", said)
        server = self.listen()
        self.reactor.advance(EVERY)
        self.assertIn("]: one", self.received(server)[0])
        server.close()
        writer.write("two\n")
        self.reactor.advance(EVERY)
        Path(self.path).unlink()
        server = self.listen()
        writer.write("three\n")
        for _ in range(3):
            self.reactor.advance(EVERY)
        lines = [line.rpartition(" ")[2] for line in self.received(server)]
        self.assertEqual(lines, ["two", "three"])
        self.assertEqual(writer.dropped, 0)

    def test_slow(self) -> None:
        """
        A server that reads slowly blocks nothing, and gets all lines, each once.
        """
        server = self.listen()
        writer = self.writer(f"syslog:{self.path}")
        number = 3 * AT_ONCE
        for each in range(number):
            writer.write(f"{each}\n")
        came: list[int] = []
        for _ in range(2 * number):
            self.reactor.advance(EVERY)
            lines = self.received(server)
            came += [int(line.rpartition(" ")[2]) for line in lines]
            if len(came) == number:
                break
        self.assertEqual(came, list(range(number)))
        self.assertEqual(writer.dropped, 0)

    def test_turns(self) -> None:
        """
        However many lines there are, only some are sent before the reactor has its
        turn.
        """
        self.patch(module, "AT_ONCE", 3)
        server = self.listen()
        output = Syslog(self.path)
        self.addCleanup(output.close)
        self.assertEqual(output.write(memoryview(b"line\n" * 10)), 15)
        self.assertEqual(len(self.received(server)), 3)

    def test_endsMeanwhile(self) -> None:
        """
        If the server ends between two lines, the first counts as sent and the second
        is sent to its successor.
        """
        server = self.listen()
        output = Syslog(self.path)
        self.addCleanup(output.close)
        output.write(memoryview(b"zero\n"))
        old = output._socket
        assert old is not None
        self.addCleanup(old.close)

        class Ending:
            sent = 0

            def send(self, data: bytes) -> int:
                if self.sent:
                    raise ConnectionRefusedError
                self.sent += 1
                return len(data)

            def close(self) -> None:
                pass

        output._socket = Ending()  # type: ignore[assignment]
        self.assertEqual(output.write(memoryview(b"one\ntwo\n")), 4)
        self.received(server)
        self.assertEqual(output.write(memoryview(b"two\n")), 4)
        self.assertEqual(len(self.received(server)), 1)

    def test_gone(self) -> None:
        """
        At the end nobody waits for a server that is not there.
        """
        writer = self.writer(f"syslog:{self.path}")
        writer.write("one\n")
        polled: list[bool] = []
        # The messages of the end go there; a pipe would be polled.
        errors = open(self.mktemp(), "w")
        self.addCleanup(errors.close)
        self.patch(sys, "__stderr__", errors)
        self.patch(select, "poll", lambda: polled.append(True))
        writer.close()
        self.assertEqual(polled, [])

    def test_lastWait(self) -> None:
        """
        At the end a server that is only slow is waited for.
        """
        server = self.listen()
        output = Syslog(self.path)
        self.addCleanup(output.close)
        self.assertFalse(output.wait(0))
        while output.write(memoryview(b"line\n" * 100)):
            pass
        self.assertFalse(output.wait(0))
        self.received(server)
        self.assertTrue(output.wait(0))

    def test_tooLong(self) -> None:
        """
        A line that is too long for a datagram is dropped and counted; the others come.
        """
        server = self.listen()
        writer = self.writer(f"syslog:{self.path}")
        writer.write("a\n" + "x" * 1_000_000 + "\nb\n")
        self.reactor.advance(EVERY)
        self.assertEqual(len(self.received(server)), 2)
        self.assertEqual(writer.dropped, 1)


class UdpTests(Case):
    """
    A server on another machine.
    """

    def test_lines(self) -> None:
        """
        Each line is a datagram as in RFC 5424.
        """
        server = self.listen(socket.AF_INET, ("127.0.0.1", 0))
        writer = self.writer(f"udp:127.0.0.1:{server.getsockname()[1]}")
        writer.write("one\n")
        writer.writeNow()
        (line,) = self.received(server)
        self.assertRegex(
            line,
            r"^<134>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z \S+ iawlb \d+ - - one$",
        )

    def test_ipv6(self) -> None:
        """
        An IPv6 address stands in brackets.
        """
        server = self.listen(socket.AF_INET6, ("::1", 0))
        writer = self.writer(f"udp:[::1]:{server.getsockname()[1]}")
        writer.write("one\n")
        writer.writeNow()
        self.assertEqual(len(self.received(server)), 1)

    def test_nobody(self) -> None:
        """
        Lines that the network reports as lost are counted, and nothing stops.
        """
        server = self.listen(socket.AF_INET, ("127.0.0.1", 0))
        port = server.getsockname()[1]
        server.close()
        writer = self.writer(f"udp:127.0.0.1:{port}")
        for _ in range(10):
            writer.write("line\n")
            self.reactor.advance(EVERY)
        self.assertGreater(writer.dropped, 4)
        self.assertLess(writer.dropped, 11)

    def test_unknownHost(self) -> None:
        """
        A host that is not known is said in one line.
        """

        def unknown(*arguments: object, **keywords: object) -> None:
            raise socket.gaierror(-2, "Name or service not known")

        self.patch(socket, "getaddrinfo", unknown)
        error = self.assertRaises(
            InvalidSetting, openTarget, self.reactor, "udp:loghost:514"
        )
        self.assertEqual(
            str(error),
            "cannot write the access log to udp:loghost:514: Name or service not known",
        )
