"""
What a user types for an address.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.protocols.policies import WrappingFactory
from twisted.trial.unittest import SynchronousTestCase

from iawlb.backend import address
from iawlb.backend.address import (
    parseDestination,
    parseListen,
    sameDestination,
)
from iawlb.backend.names import NameEndpoint
from iawlb.backend.shortforms import LONGEST
from iawlb.errors import InvalidSetting
from iawlb.settings import ListenerSettings
from tests.pem import Issued


def writeCertificate(path: Path) -> None:
    """
    Write a certificate for localhost and its key into one file.
    """
    issued = Issued("localhost", hosts=["localhost"])
    path.write_bytes(issued.keyPem + issued.pem)


class _Case(SynchronousTestCase):
    """
    Reads addresses, and lets them be listened on or connected to in memory.
    """

    def setUp(self) -> None:
        """
        Make a reactor and an empty folder.
        """
        self.reactor: Any = MemoryReactorClock()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.factory: Factory[Any] = Factory()

    def refused(self, parse: Callable[[], object], *parts: str) -> None:
        """
        Check that an address is refused, in one line that holds some words.
        """
        message = str(self.assertRaises(InvalidSetting, parse))
        self.assertEqual(len(message.splitlines()), 1)
        for part in parts:
            self.assertIn(part, message)


class ListenTests(_Case):
    """
    Where to accept connections.
    """

    def listened(self, text: str) -> tuple[str, str | None]:
        """
        Listen on an address.

        @return: The endpoint string, and the path to clear away.
        """
        read = parseListen(self.reactor, text, 4096)
        self.successResultOf(read.endpoint.listen(self.factory))
        return read.text, read.path

    def test_forms(self) -> None:
        """
        A TCP port, or 0 for any free one, can be written in each of these ways,
        and is bound with the configured backlog unless the address has its own.
        """
        for text, string, port, interface, backlog in (
            ("8080", "tcp:8080:backlog=4096", 8080, "", 4096),
            ("1", "tcp:1:backlog=4096", 1, "", 4096),
            ("65535", "tcp:65535:backlog=4096", 65535, "", 4096),
            (":8080", "tcp:8080:backlog=4096", 8080, "", 4096),
            ("*:8080", "tcp:8080:backlog=4096", 8080, "", 4096),
            (
                "127.0.0.1:80",
                "tcp:80:interface=127.0.0.1:backlog=4096",
                80,
                "127.0.0.1",
                4096,
            ),
            (
                "localhost:80",
                "tcp:80:interface=localhost:backlog=4096",
                80,
                "localhost",
                4096,
            ),
            (
                "[::1]:80",
                r"tcp:80:interface=\:\:1:backlog=4096",
                80,
                "::1",
                4096,
            ),
            ("tcp:80", "tcp:80:backlog=4096", 80, "", 4096),
            ("TCP:80", "tcp:80:backlog=4096", 80, "", 4096),
            ("tcp:port=80:backlog=7", "tcp:port=80:backlog=7", 80, "", 7),
            ("tcp:80:127.0.0.1:9", "tcp:80:127.0.0.1:9", 80, "127.0.0.1", 9),
            (r"tcp:80:interface=\:\:1:backlog=5", None, 80, "::1", 5),
            ("0", "tcp:0:backlog=4096", 0, "", 4096),
            (
                "127.0.0.1:0",
                "tcp:0:interface=127.0.0.1:backlog=4096",
                0,
                "127.0.0.1",
                4096,
            ),
            ("tcp:0:interface=127.0.0.1", None, 0, "127.0.0.1", 4096),
            ("tcp6:0", "tcp6:0:backlog=4096", 0, "::", 4096),
            ("tcp6:80", "tcp6:80:backlog=4096", 80, "::", 4096),
            (r"tcp6:80:interface=\:\:1", None, 80, "::1", 4096),
            ("tcp6:80:9", "tcp6:80:9", 80, "::", 9),
        ):
            read, path = self.listened(text)
            self.assertEqual(read, string or read)
            self.assertIsNone(path)
            bound = self.reactor.tcpServers.pop()
            self.assertEqual(bound, (port, self.factory, backlog, interface))

    def test_unix(self) -> None:
        """
        A Unix socket is a path or unix:, whatever characters its path holds; one
        that a killed process left behind is ours to clear away, unless the user
        asks for Twisted's lock file.
        """
        for text, string, path, mode, backlog, lock in (
            ("/a", "unix:/a:backlog=4096:lockfile=0", "/a", 0o666, 4096, False),
            (
                "/a:b=c d\\",
                r"unix:/a\:b\=c d\\:backlog=4096:lockfile=0",
                "/a:b=c d\\",
                0o666,
                4096,
                False,
            ),
            ("unix:/a:660", None, "/a", 0o660, 4096, False),
            (r"unix:address=/a\:b:backlog=9", None, "/a:b", 0o666, 9, False),
            ("unix:a:lockfile=1", None, "a", 0o666, 4096, True),
        ):
            read, stale = self.listened(text)
            self.assertEqual(read, string or read)
            self.assertEqual(stale, None if lock else path)
            bound = self.reactor.unixServers.pop()
            self.assertEqual(bound, (path, self.factory, backlog, mode, lock))

    def test_tls(self) -> None:
        """
        ssl: takes a certificate's file and tls: a folder of them; both bind with
        the configured backlog.
        """
        pem = self.folder / "a.pem"
        writeCertificate(pem)
        self.listened(f"ssl:443:privateKey={pem}")
        port, _, backlog, interface = self.reactor.tcpServers.pop()
        self.assertEqual((port, backlog, interface), (443, 4096, ""))
        for text, port in (
            (f"tls:{self.folder}:8443", 8443),
            (f"tls:{pem.parent}", 443),
        ):
            self.listened(text)
            bound = self.reactor.tcpServers.pop()
            self.assertEqual((bound[0], *bound[2:]), (port, 4096, "::"))

    def test_badCertificates(self) -> None:
        """
        A certificate that cannot be used is refused at once, by its name, and not
        at the first client.
        """
        text = self.folder / "a.txt"
        text.write_text("nothing")
        for bad, *parts in (
            ("ssl:443:privateKey=/nowhere.pem", "'/nowhere.pem'", "No such file"),
            (f"ssl:443:privateKey={text}", str(text), "no private key"),
            ("tls:/nowhere:443", "'/nowhere'", "No such file"),
            (f"tls:{text}", str(text), "Not a directory"),
            (f"tls:{self.folder}:443", "no .pem file", str(self.folder)),
            ("tls:port=443", "an argument is missing"),
        ):
            self.refused(lambda bad=bad: self.listened(bad), repr(bad), *parts)  # type: ignore[misc]

    def test_haproxy(self) -> None:
        """
        An endpoint behind haproxy: is bound, and has its defaults, as without it.
        """
        for text, string, backlog in (
            ("haproxy:tcp:8080", "haproxy:tcp:8080:backlog=4096", 4096),
            ("HAProxy:TCP:8080:backlog=7", "haproxy:tcp:8080:backlog=7", 7),
            ("haproxy:tcp6:8080", "haproxy:tcp6:8080:backlog=4096", 4096),
            ("haproxy:tcp:8080::9", r"haproxy:tcp:8080::9", 9),
        ):
            self.assertEqual(self.listened(text), (string, None))
            port, factory, held, _ = self.reactor.tcpServers.pop()
            self.assertEqual((port, held), (8080, backlog))
            self.assertNotIsInstance(factory, WrappingFactory)
            self.assertTrue(parseListen(self.reactor, text, 9).proxied)
        self.assertFalse(parseListen(self.reactor, "tcp:8080", 9).proxied)
        read, stale = self.listened("haproxy:unix:/a")
        self.assertEqual(read, "haproxy:unix:/a:backlog=4096:lockfile=0")
        self.assertEqual(stale, "/a")
        self.assertEqual(self.reactor.unixServers.pop()[2:], (4096, 0o666, False))

    def test_bad(self) -> None:
        """
        A bad address is refused in one line that quotes it, and its bad part.
        """
        for bad, *parts in (
            ("", "empty"),
            ("  ", "empty"),
            ("x" * (LONGEST + 1), "longer than 4096"),
            ("8080\n", "cannot be printed"),
            ("unix:/a\0b", "cannot be printed"),
            ("abc", "has no port"),
            ("٣", "no address"),
            ("8_0", "no address"),
            ("-1", "'-1' is not a port"),
            ("+5", "'+5' is not a port"),
            ("65536", "'65536' is not a port"),
            ("99999999", "not a port"),
            ("8080:", "write '8080'"),
            ("localhost:", "no port"),
            ("localhost:http", "'http' is not a port"),
            ("localhost:80 ", "holds a space"),
            ("8080:127.0.0.1", "'127.0.0.1' is not a port"),
            ("1.2.3:80", "'1.2.3' is not an IPv4 address"),
            ("999.0.0.1:80", "'999.0.0.1' is not an IPv4 address"),
            ("a b:80", "'a b' is not the name"),
            ("a..b:80", "'a..b' is not the name"),
            ("a" * 64 + ":80", "is not the name"),
            ("::1", "write '[::1]:8080'"),
            ("[::1]", "has no port"),
            ("[::1", "not like [::1]:9001"),
            ("[::1]80", "not like [::1]:9001"),
            ("[127.0.0.1]:80", "brackets"),
            ("[::1]:", "no port"),
            ("[::1]:x", "'x' is not a port"),
            ("a=b", "is a setting"),
            ("=", "no address"),
            ("\\", "Unknown endpoint type"),
            ("nothing:a:b", "'nothing'", "Unknown endpoint type"),
            ("haproxy:8080", "Unknown endpoint type"),
            ("haproxy:tcp:x", "'x' is not a port"),
            ("haproxy:tcp", "no port"),
            ("haproxy:port=1", "write haproxy:tcp:8080"),
            (r"tcp\:0:1", "Unknown endpoint type"),
            ("tcp:", "no port"),
            ("TCP:x", "'x' is not a port"),
            ("tcp:interface=127.0.0.1", "no port"),
            ("tcp:1:2:3:4", "an argument is missing or unknown"),
            ("tcp:80:port=81", "an argument is missing or unknown"),
            ("tcp:80:nothing=1", "'nothing'"),
            (r"tcp:80:noth\=ing=1", "'noth=ing'"),
            ("tcp:80:backlog=x", "'x' is not a number"),
            ("ssl:65536", "'65536' is not a port"),
            ("tls:/tmp:65536", "'65536' is not a port"),
            ("unix:", "no path"),
            ("unix:mode=666", "no path"),
            ("unix:/a:mode=x", "'x' is not a number", "660"),
            ("systemd:web", "no socket named 'web'; there is none"),
            ("systemd:domain=INET:name=web", "no socket named 'web'"),
            ("systemd:domain=INET:index=7", "0 sockets, counted from 0"),
            ("systemd:", "write systemd:NAME"),
            ("systemd:INET:0:web", "write systemd:NAME"),
            ("systemd:nam=web", "write systemd:NAME"),
        ):
            quoted = repr(bad[:60])[:-1]
            self.refused(lambda bad=bad: self.listened(bad), quoted, *parts)  # type: ignore[misc]

    def test_settings(self) -> None:
        """
        A setting that does not fit its listener is refused, and the message says what
        it is for.
        """
        for text, own, part in (
            ("8080", {"mode": "660"}, "for Unix sockets"),
            ("systemd:domain=INET:index=0", {"group": 4}, "for Unix sockets"),
            ("/a", {"v6only": True}, "such as [::]:8080"),
            ("8080", {"v6only": True}, "such as [::]:8080"),
            ("127.0.0.1:80", {"v6only": True}, "such as [::]:8080"),
            ("localhost:80", {"v6only": True}, "such as [::]:8080"),
        ):
            settings = ListenerSettings(**own)
            self.refused(
                lambda text=text, settings=settings: parseListen(  # type: ignore[misc]
                    self.reactor, text, 1, settings
                ),
                repr(text),
                part,
            )

    def test_bareException(self) -> None:
        """
        A plugin whose parser raises an exception without text is named by it.
        """
        with mock.patch.object(address, "serverFromString", side_effect=OSError):
            self.refused(lambda: self.listened("tcp:80"), "'tcp:80'", "OSError")

    def test_longReason(self) -> None:
        """
        A long message of a plugin's parser is shortened to one line.
        """
        said = mock.patch.object(
            address, "serverFromString", side_effect=ValueError("no " * 1000)
        )
        with said:
            self.refused(lambda: self.listened("tcp:80"), "'tcp:80'", "no no no ...")

    def test_withoutTLS(self) -> None:
        """
        A user who has not installed the TLS extra gets a message that says how.
        """
        for text in ("ssl:443:a.pem", "tls:certs"):
            with mock.patch.dict(sys.modules, {"iawlb.backend.tlsserver": None}):
                self.refused(
                    lambda text=text: self.listened(text),  # type: ignore[misc]
                    *("TLS is not installed", "pip install 'iawlb[tls]'"),
                )

    def test_withoutModule(self) -> None:
        """
        A plugin whose module is not installed is named by that module.
        """
        missing = ImportError("No module named 'onion'")
        with mock.patch.object(address, "serverFromString", side_effect=missing):
            self.refused(lambda: self.listened("tcp:80"), "module is not installed")


class DestinationTests(_Case):
    """
    Where to forward connections.
    """

    def test_longPath(self) -> None:
        """
        The path of a Unix socket that is longer than the system allows is refused at
        once, on either side, and the longest is not.
        """
        for path in ("/" + "x" * 107, "/" + "\N{LATIN SMALL LETTER E WITH ACUTE}" * 54):
            for text in (path, f"unix:{path}"):
                self.refused(partial(self.parsed, text), "at most 107 bytes")
                listen = partial(parseListen, self.reactor, text, 1)
                self.refused(listen, "at most 107 bytes")
        self.parsed("/" + "x" * 106)
        parseListen(self.reactor, "/" + "x" * 106, 1)

    def parsed(self, text: str) -> tuple[str, Any]:
        """
        Read an address, with a connect timeout of 5 s.
        """
        return parseDestination(self.reactor, text, 5.0)

    def test_same(self) -> None:
        """
        An address is the same in each form in which it can be written.
        """
        for one, other in (
            ("9001", "tcp:localhost:9001"),
            ("localhost:9001", "tcp:localhost:9001"),
            ("/run/app.sock", "unix:/run/app.sock"),
            ("[::1]:9001", "tcp:\\:\\:1:9001"),
            ("nowhere", "nowhere"),
        ):
            self.assertTrue(sameDestination(one, other), one)
            self.assertFalse(sameDestination(one, "localhost:9002"), one)
        self.assertFalse(sameDestination("nowhere", "else"))

    def test_literal(self) -> None:
        """
        An IP address can be written in each of these ways; it is connected to
        without a look-up, and within the shorter of the two timeouts.
        """
        for text, string, host, port, timeout, local in (
            ("127.0.0.1:90", "tcp:127.0.0.1:90", "127.0.0.1", 90, 5.0, None),
            ("[::1]:90", r"tcp:\:\:1:90", "::1", 90, 5.0, None),
            ("tcp:127.0.0.1:90", "tcp:127.0.0.1:90", "127.0.0.1", 90, 5.0, None),
            (r"tcp:\:\:1:90", r"tcp:\:\:1:90", "::1", 90, 5.0, None),
            ("tcp:host=127.0.0.1:90:timeout=2", None, "127.0.0.1", 90, 2.0, None),
            (r"TCP:port=90:host=\:\:1:timeout=60", None, "::1", 90, 5.0, None),
            (
                "tcp:127.0.0.1:port=90:bindAddress=127.0.0.2",
                None,
                "127.0.0.1",
                90,
                5.0,
                ("127.0.0.2", 0),
            ),
            (r"tcp:\:\:1:90:bindAddress=\:\:2", None, "::1", 90, 5.0, ("::2", 0)),
        ):
            read, endpoint = self.parsed(text)
            self.assertEqual(read, string or read)
            connecting = endpoint.connect(self.factory)
            connect = self.reactor.tcpClients.pop()
            self.assertEqual((*connect[:2], *connect[3:]), (host, port, timeout, local))
            connecting.cancel()
            self.failureResultOf(connecting)

    def test_name(self) -> None:
        """
        A name, and a bare port, which is one of localhost's, are looked up for
        IPv6 and IPv4.
        """
        for text, string, host, port in (
            ("9001", "tcp:localhost:9001", "localhost", 9001),
            (":9001", "tcp:localhost:9001", "localhost", 9001),
            ("app:9001", "tcp:app:9001", "app", 9001),
            ("a.example.:9001", "tcp:a.example.:9001", "a.example.", 9001),
            ("bücher.example:90", "tcp:bücher.example:90", "bücher.example", 90),
            ("tcp:app:9001", "tcp:app:9001", "app", 9001),
            ("tcp:host=app:9001", "tcp:9001:host=app", "app", 9001),
            ("tcp:app:port=9001", "tcp:app:port=9001", "app", 9001),
        ):
            read, endpoint = self.parsed(text)
            self.assertEqual(read, string)
            self.assertIsInstance(endpoint, NameEndpoint)
            self.assertEqual((endpoint.host, endpoint.port), (host, port))

    def test_unix(self) -> None:
        """
        A Unix socket is a path or unix:, whatever characters its path holds.
        """
        for text, path in (
            ("/a", "/a"),
            ("/a:b=c d\\", "/a:b=c d\\"),
            ("unix:a", "a"),
            (r"unix:path=/a\:b", "/a:b"),
        ):
            _, endpoint = self.parsed(text)
            endpoint.connect(self.factory).addErrback(lambda _: None).cancel()
            self.assertEqual(self.reactor.unixClients.pop()[0], path)

    def test_tls(self) -> None:
        """
        A destination can be spoken to over TLS, also with a certificate of ours.
        """
        pem = self.folder / "a.pem"
        writeCertificate(pem)
        for text in (
            "tls:localhost:443",
            f"tls:localhost:443:certificate={pem}:trustRoots={self.folder}",
            "ssl:localhost:443",
            f"ssl:host=127.0.0.1:443:certKey={pem}",
        ):
            self.parsed(text)

    def test_badCertificate(self) -> None:
        """
        A destination's certificate that cannot be used is refused by its address.
        """
        path = self.folder / "a.pem"
        path.write_text("nothing")
        text = f"tls:a:443:certificate={path}:privateKey={path}"
        self.refused(lambda: self.parsed(text), repr(text)[:59], "not a usable")

    def test_bad(self) -> None:
        """
        A bad address is refused in one line that quotes it, and its bad part.
        """
        bad: str
        for bad, *parts in (
            ("", "empty"),
            ("abc", "has no port"),
            ("0", "'0' is not a port"),
            ("65536", "'65536' is not a port"),
            ("*:80", "'*' is not the name"),
            ("a..b:80", "'a..b' is not the name"),
            ("[::1]:0", "'0' is not a port"),
            ("tcp:9001", "write '9001'"),
            ("tcp:", "no host"),
            ("tcp::9001", "no host"),
            ("tcp:port=9001", "no host"),
            ("tcp:a:99999", "'99999' is not a port"),
            ("TCP:a:99999", "'99999' is not a port"),
            ("tcp:a:9001:nothing=1", "'nothing'"),
            ("tcp:a/b:9001", "'a/b' is not the name"),
            ("tcp:999.0.0.1:9001", "'999.0.0.1' is not an IPv4 address"),
            ("tcp:a:9001:timeout=x", "'x'"),
            ("tcp:a:9001:timeout=0", "more than 0"),
            ("tcp:a:9001:timeout=-1", "more than 0"),
            ("tcp:a:9001:bindAddress=b", "'b' is not an IP address"),
            ("tcp6:a:9001", "write 'a:9001'"),
            ("tls:a", "no port"),
            ("tls::443", "no host"),
            ("tls:a:0", "'0' is not a port"),
            ("tls:a:443:trustRoots=/nowhere", "cannot read '/nowhere'"),
            ("[fe80::1%nowhere]:80", "no network interface 'nowhere'"),
            ("ssl:a:x", "'x' is not a port"),
            ("ssl:a:443:certKey=/nowhere.pem", "cannot read '/nowhere.pem'"),
            ("unix:", "no path"),
            ("unix:/a:mode=666", "'mode'"),
        ):
            self.refused(lambda bad=bad: self.parsed(bad), repr(bad), *parts)  # type: ignore[misc]


_SEEDS = (
    "8080",
    "localhost:9001",
    "[::1]:9001",
    "/run/app.sock",
    "tcp:localhost:9001:timeout=3:bindAddress=127.0.0.1",
    r"tcp:8080:interface=\:\:1:backlog=50",
    "unix:/run/app.sock:mode=660:lockfile=0",
    "ssl:443:privateKey=nowhere.pem",
    "tls:localhost:443:trustRoots=nowhere",
    "systemd:domain=INET:name=web",
    "haproxy:tcp:8080",
)
_PIECES = ("", ":", "=", "\\", "[", "]", "/", "*", " ", "0", "99999", "-", "é", "\0")


@st.composite
def _mutated(draw: st.DrawFn) -> str:
    """
    Spoil an address in a few places.
    """
    text = draw(st.sampled_from(_SEEDS))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = draw(st.integers(start, min(start + 3, len(text))))
        text = text[:start] + draw(st.sampled_from(_PIECES)) + text[end:]
    return text


_FUZZ = st.one_of(
    st.text(max_size=60),
    st.text("tcp:=\\[]/*.01é", max_size=30),
    _mutated(),
    st.lists(st.sampled_from(_SEEDS), min_size=2, max_size=3).map(":".join),
)


class AnyTextTests(SynchronousTestCase):
    """
    Arbitrary text as an address.
    """

    @settings(deadline=None)
    @given(text=_FUZZ, backlog=st.integers(1, 65535))
    @example(text="tcp:8080\\", backlog=1)
    def test_listen(self, text: str, backlog: int) -> None:
        """
        Whatever is written is listened on, or refused in one line; and what is
        listened on reads the same when it is copied from a log.
        """
        self._check(text, lambda each: parseListen(_REACTOR, each, backlog).text)

    @settings(deadline=None)
    @given(text=_FUZZ)
    def test_destination(self, text: str) -> None:
        """
        Whatever is written is connected to, or refused in one line; and what is
        connected to reads the same when it is copied from a log.
        """
        self._check(text, lambda each: parseDestination(_REACTOR, each, 5.0)[0])

    @settings(deadline=None)
    @given(path=st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1))
    def test_path(self, path: str) -> None:
        """
        A path stays as it is, whatever it holds.
        """
        assume(len(path.encode()) < 100)
        self.assertEqual(parseListen(_REACTOR, f"/{path}", 1).path, f"/{path}")

    def _check(self, text: str, read: Callable[[str], str]) -> None:
        try:
            string = read(text)
        except InvalidSetting as error:
            self.assertEqual(len(str(error).splitlines()), 1)
            self.assertLess(len(str(error)), 250)
            return
        self.assertEqual(read(string), string)


_REACTOR: Any = MemoryReactorClock()
