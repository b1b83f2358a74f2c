"""
Tests for L{iawlb.backend.certificates} and L{iawlb.backend.tlsserver}: what a
client of a TLS listener is shown.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

from cryptography import x509
from OpenSSL import SSL
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import formatEvent
from twisted.trial.unittest import SynchronousTestCase

from iawlb.backend import pem
from iawlb.backend.address import parseListen
from iawlb.backend.certificates import TICKETS, Certificates
from iawlb.backend.filewatch import FILES, LOOK_EVERY
from iawlb.errors import InvalidSetting
from iawlb.settings import ListenerSettings
from tests.doubles import logged
from tests.pem import Chain, Issued, shown

OFFERED = (b"h2", b"http/1.1")

DH = b"""\
-----BEGIN DH PARAMETERS-----
MIIBCAKCAQEA//////////+t+FRYortKmq/cViAnPTzx2LnFg84tNpWp4TZBFGQz
+8yTnc4kmz75fS/jY2MMddj2gbICrsRhetPfHtXV/WVhJDP1H18GbtCFY2VVPe0a
87VXE15/V8k1mE8McODmi3fipona8+/och3xWKE2rec1MKzKT0g6eXq8CrGCsyT7
YdEIqUuyyOP7uWrat2DX9GgdT0Kj3jlN9K5W7edjcrsZCwenyO4KbXCeAvzhzffi
7MA0BM0oNC9hkXL+nOmFg/+OTxIy7vKBg8P+OxtMb61zO7X8vC7CIAXFjvGDfRaD
ssbzSibBsu/6iGtCOGEoXJf//////////wIBAg==
-----END DH PARAMETERS-----
"""


class Case(SynchronousTestCase):
    """
    Listens with the files of a folder.
    """

    chain = Chain()

    def setUp(self) -> None:
        """
        Make a reactor and the folder.
        """
        self.reactor: Any = MemoryReactorClock()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def write(self, name: str, *parts: bytes) -> Path:
        """
        Write a file.
        """
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"".join(parts))
        return path

    def listen(self, text: str, **settings: Any) -> None:
        """
        Listen on an address.
        """
        read = parseListen(self.reactor, text, 10, ListenerSettings(**settings))
        self.successResultOf(read.endpoint.listen(Factory()))
        assert read.certificates is not None
        self.served: Certificates = read.certificates

    def shown(self, *args: Any, **kwargs: Any) -> list[x509.Certificate]:
        """
        List the certificates that a client is shown.
        """
        return shown(self.served.accept(), *args, **kwargs)[0]

    def refused(
        self, text: str, *parts: str, named: bool = True, **settings: Any
    ) -> None:
        """
        Check that an address is refused, in one line that holds some words.

        @param named: Whether the address is among them.
        """
        own = ListenerSettings(**settings)
        message = str(
            self.assertRaises(InvalidSetting, parseListen, self.reactor, text, 10, own)
        )
        self.assertEqual(len(message.splitlines()), 1)
        for part in (*([repr(text)[:59]] if named else []), *parts):
            self.assertIn(part, message)


class FilesTests(Case):
    """
    C{ssl:}, with a key's and a certificate's file.
    """

    def pair(self) -> str:
        """
        Write key and chain; return the address.
        """
        key = self.write("key", self.chain.leaf.keyPem)
        text = self.write("cert", self.chain.leaf.pem, self.chain.middle.pem)
        return f"ssl:443:privateKey={key}:certKey={text}"

    def test_fullChain(self) -> None:
        """
        All certificates in certKey= are served, as nginx and HAProxy do, so that a
        client that knows the root only can trust the server.
        """
        self.listen(self.pair())
        expected = [self.chain.leaf.certificate, self.chain.middle.certificate]
        self.assertEqual(self.shown(), expected)
        self.assertEqual(self.shown(version=SSL.TLS1_2_VERSION), expected)

    def test_v6only(self) -> None:
        """
        A TLS listener can take IPv6 clients alone.
        """
        settings = ListenerSettings(v6only=True)
        text = self.pair().replace(":443:", ":0:interface=\\:\\:1:")
        read = parseListen(self.reactor, text, 10, settings)
        self.successResultOf(read.endpoint.listen(Factory()))
        ((_, family, _),) = self.reactor.adoptedPorts
        self.assertEqual(family, socket.AF_INET6)
        self.assertIsNotNone(read.certificates)

    def test_order(self) -> None:
        """
        The certificate that belongs to the key is the server's, wherever it stands.
        """
        both = self.write(
            "all", self.chain.middle.pem, self.chain.leaf.pem, self.chain.leaf.keyPem
        )
        self.listen(f"ssl:443:{both}")
        expected = [self.chain.leaf.certificate, self.chain.middle.certificate]
        self.assertEqual(self.shown(), expected)

    def test_extraCertChain(self) -> None:
        """
        The chain may have a file of its own, as with Twisted's C{ssl:}.
        """
        key = self.write("key", self.chain.leaf.keyPem)
        text = self.write("cert", self.chain.leaf.pem)
        more = self.write("chain", self.chain.middle.pem)
        self.listen(f"ssl:443:{key}:{text}:extraCertChain={more}")
        expected = [self.chain.leaf.certificate, self.chain.middle.certificate]
        self.assertEqual(self.shown(), expected)

    def test_noProtocol(self) -> None:
        """
        A client that offers application protocols is served, and none is chosen.
        """
        self.listen(self.pair())
        chain, chosen = shown(self.served.accept(), alpn=OFFERED)
        self.assertEqual(len(chain), 2)
        self.assertEqual(chosen, b"")

    def test_options(self) -> None:
        """
        All that Twisted's C{ssl:} takes is taken.
        """
        parameters = self.write("dh", DH)
        self.listen(
            f"{self.pair()}:dhParameters={parameters}:sslmethod=TLS_METHOD"
            ":interface=127.0.0.1:backlog=7"
        )
        port, _, backlog, interface = self.reactor.tcpServers[0]
        self.assertEqual((port, backlog, interface), (443, 7, "127.0.0.1"))
        self.assertEqual(len(self.shown()), 2)

    def test_method(self) -> None:
        """
        A method of OpenSSL's may be for one version of TLS alone.
        """
        self.listen(f"{self.pair()}:sslmethod=TLSv1_2_METHOD")
        self.assertEqual(len(self.shown(version=SSL.TLS1_2_VERSION)), 2)
        self.assertRaises(SSL.Error, self.shown, version=SSL.TLS1_3_VERSION)

    def test_bad(self) -> None:
        """
        A file that cannot be used is refused at the start, in a line that names it.
        """
        good = self.pair()
        key = self.write("key", self.chain.leaf.keyPem)
        cert = self.write("cert", self.chain.leaf.pem)
        other = self.write("other", self.chain.middle.pem)
        locked = self.write("locked", self.chain.leaf.lockedPem)
        empty = self.write("empty", b"-----BEGIN EC PARAMETERS-----\n")
        broken = self.write("broken", cert.read_bytes().replace(b"M", b"?"))
        for bad, *parts in (
            (f"ssl:443:{key}:{other}", str(key), str(other), "do not belong together"),
            (f"ssl:443:{locked}:{cert}", str(locked), "passphrase", "openssl pkey"),
            (f"ssl:443:{empty}:{cert}", str(empty), "no private key"),
            (f"ssl:443:{key}:{empty}", str(empty), "no certificate"),
            (f"ssl:443:{key}", str(key), "no certificate"),
            (f"{good}:extraCertChain={empty}", str(empty), "no certificate"),
            (f"{good}:extraCertChain=/no", "'/no'", "No such file"),
            (f"{good}:dhParameters=/no", "'/no'", "No such file"),
            (f"ssl:443:{key}:{broken}", str(broken), "certificate cannot be read"),
            (f"{good}:sslmethod=X", "'X'", "TLS_METHOD"),
            (f"{good}:sslmethod=X_METHOD", "'X_METHOD'", "TLS_METHOD"),
            (f"{good}:nothing=1", "'nothing'"),
        ):
            self.refused(bad, *parts)

    def test_refusedByOpenssl(self) -> None:
        """
        If only OpenSSL finds a certificate wrong, the message has OpenSSL's words.
        """
        text = self.pair() + f":dhParameters={self.write('dh', b'nothing')}"
        self.refused(text, "OpenSSL does not take")


class FolderTests(Case):
    """
    C{tls:}, with a folder of files.
    """

    def setUp(self) -> None:
        """
        Write certificates for two names, one with its chain, and other files.
        """
        super().setUp()
        self.other = Issued("other", hosts=["*.Example.org", "example.net"])
        self.write("certs/a.pem", self.chain.leaf.keyPem, self.chain.leaf.pem)
        self.write("certs/b.pem", self.chain.middle.pem, self.chain.root.pem)
        self.write("certs/c.pem", self.other.pem, self.other.keyPem)
        self.write("certs/unused.pem", Issued("unused").keyPem)
        self.write("certs/readme.txt", b"nothing")
        self.text = f"tls:{self.folder / 'certs'}"

    def test_names(self) -> None:
        """
        A client is shown the certificate of the name that it asks for, with its
        chain; without a name, or with another, that of the first file.
        """
        self.listen(self.text)
        leaf = [self.chain.leaf.certificate, self.chain.middle.certificate]
        for name, expected in (
            ("localhost", leaf),
            ("www.example.org", [self.other.certificate]),
            ("WWW.EXAMPLE.ORG", [self.other.certificate]),
            ("www.example.org.", [self.other.certificate]),
            ("example.net", [self.other.certificate]),
            ("example.org", leaf),
            ("a.b.example.org", leaf),
            (None, leaf),
        ):
            self.assertEqual(self.shown(name), expected, name)

    def test_noProtocol(self) -> None:
        """
        A client that offers application protocols is served, and none is chosen.
        """
        self.listen(self.text)
        for name in (None, "localhost", "example.net"):
            end = self.served.accept()
            chain, chosen = shown(end, name, OFFERED)
            self.assertNotEqual(chain, [])
            self.assertEqual(chosen, b"")

    def test_longest(self) -> None:
        """
        Of several certificates for a name, as after a renewal, the one that is
        valid for longest is shown.
        """
        late = Issued("late", hosts=["localhost"], days=9)
        later = Issued("later", hosts=["localhost"], days=10, key=late.key)
        self.write("certs/0.pem", late.keyPem, later.pem, late.pem)
        self.listen(self.text)
        self.assertEqual(self.shown("localhost"), [later.certificate])

    def test_noNames(self) -> None:
        """
        A certificate without a host name serves those who ask for no other.
        """
        plain = Issued("plain")
        self.write("certs/0.pem", plain.keyPem, plain.pem)
        self.listen(self.text)
        self.assertEqual(self.shown(), [plain.certificate])
        self.assertEqual(self.shown("example.net"), [self.other.certificate])

    def test_circle(self) -> None:
        """
        Authorities that have issued each other are no endless chain.
        """
        one = Issued("one", authority=True)
        two = Issued("two", one, authority=True)
        one = Issued("one", two, authority=True, key=one.key)
        leaf = Issued("leaf", one, ["localhost"], days=9)
        self.write("certs/0.pem", leaf.keyPem, leaf.pem, one.pem, two.pem)
        self.listen(self.text)
        expected = [leaf.certificate, one.certificate, two.certificate]
        self.assertEqual(self.shown("localhost"), expected)

    def test_bad(self) -> None:
        """
        A folder that cannot be used is refused at the start.
        """
        self.write("keys/a.pem", self.chain.leaf.keyPem)
        self.write("broken/a.pem", self.chain.leaf.pem.replace(b"M", b"?"))
        self.write("nothing/readme.txt", b"nothing")
        for bad, *parts in (
            ("tls:/nowhere:443", "'/nowhere'", "No such file"),
            (f"tls:{self.folder / 'keys'}", "keys", "no .pem file", "private key"),
            (f"tls:{self.folder / 'nothing'}", "nothing", "there is no .pem file"),
            (f"tls:{self.folder / 'broken'}", "a.pem", "cannot be read"),
            (f"{self.text}/a.pem", "a.pem", "Not a directory"),
            ("tls:port=443", "an argument is missing"),
        ):
            self.refused(bad, *parts)


class SettingsTests(Case):
    """
    C{certificate} and the settings beside it, of any listener.
    """

    def setUp(self) -> None:
        """
        Write two pairs and an authority of clients.
        """
        super().setUp()
        self.other = Issued("other", hosts=["*.example.org"])
        self.one = str(
            self.write("one.pem", self.chain.leaf.pem, self.chain.middle.pem)
        )
        self.oneKey = str(self.write("one.key", self.chain.leaf.keyPem))
        self.two = str(self.write("two.pem", self.other.keyPem, self.other.pem))
        self.clients = Issued("clients", authority=True)
        self.ca = str(self.write("clients.pem", self.clients.pem))

    def test_first(self) -> None:
        """
        The first certificate is the default one; the others are for clients that ask
        for their names.
        """
        leaf = [self.chain.leaf.certificate, self.chain.middle.certificate]
        other = [self.other.certificate]
        keys = [self.oneKey, self.two]
        self.listen("tcp:443", certificate=[self.one, self.two], certificateKey=keys)
        for name, expected in (
            (None, leaf),
            ("localhost", leaf),
            ("elsewhere", leaf),
            ("www.example.org", other),
        ):
            self.assertEqual(self.shown(name), expected, name)
        keys.reverse()
        self.listen("tcp:443", certificate=[self.two, self.one], certificateKey=keys)
        self.assertEqual(self.shown(), other)
        self.assertEqual(self.shown("localhost"), leaf)

    def test_folder(self) -> None:
        """
        A folder stands for the keys and certificates in it.
        """
        self.write("more/key.pem", self.chain.leaf.keyPem)
        path = self.write("more/full.pem", self.chain.leaf.pem, self.chain.middle.pem)
        self.listen("tcp:443", certificate=f"{self.two},{path.parent}")
        self.assertEqual(self.shown(), [self.other.certificate])
        self.assertEqual(self.shown("localhost")[0], self.chain.leaf.certificate)

    def test_notInstalled(self) -> None:
        """
        Without OpenSSL, the message says what to install.
        """
        with mock.patch.dict(sys.modules, {"iawlb.backend.tlsserver": None}):
            self.refused("tcp:443", "pip install 'iawlb[tls]'", certificate=[self.two])

    def test_noTls(self) -> None:
        """
        A listener without a certificate does not end TLS.
        """
        self.assertIsNone(parseListen(self.reactor, "tcp:443", 10).certificates)

    def test_alpn(self) -> None:
        """
        The first protocol of the listener's that a client offers is chosen. A client
        that offers others is refused, with the alert for this; one that offers none is
        served.
        """
        self.listen("tcp:443", certificate=self.two, alpn="h2, http/1.1")
        make = self.served.accept
        for offered, chosen in (
            (OFFERED, b"h2"),
            ((b"http/1.1", b"h2"), b"h2"),
            ((b"http/1.1",), b"http/1.1"),
            ((), b""),
        ):
            self.assertEqual(shown(make(), alpn=offered)[1], chosen)
        error = self.assertRaises(SSL.Error, shown, make(), alpn=[b"smtp"])
        self.assertIn("no application protocol", str(error))

    def test_versions(self) -> None:
        """
        TLS 1.2 is spoken, unless the listener takes 1.3 alone; 1.1 never is.
        """
        for least, version, served in (
            ("1.2", SSL.TLS1_2_VERSION, True),
            ("1.2", SSL.TLS1_1_VERSION, False),
            ("1.3", SSL.TLS1_2_VERSION, False),
            ("1.3", None, True),
        ):
            self.listen("tcp:443", certificate=self.two, tlsMin=least)
            if served:
                self.assertEqual(len(self.shown(version=version)), 1)
            else:
                self.assertRaises(SSL.Error, self.shown, version=version)

    def test_groups(self) -> None:
        """
        Only groups that Mozilla's configuration has are used for the key exchange.
        """
        self.listen("tcp:443", certificate=self.two)
        for group, served in (("X25519", True), ("P-384", True), ("P-521", False)):
            if served:
                self.assertEqual(len(self.shown(groups=group)), 1)
            else:
                self.assertRaises(SSL.Error, self.shown, groups=group)

    def test_clients(self) -> None:
        """
        A client's certificate is checked by the authorities that are set: where it is
        asked for, a client may have none; where it is required, it must have one; a
        wrong one is refused in either case.
        """
        good = Issued("good", self.clients)
        bad = Issued("bad", Issued("elsewhere", authority=True))
        old = Issued("old", self.clients, days=-0.5)
        for word, outcomes in (
            ("none", (True, True, True, True)),
            ("asked", (True, True, False, False)),
            ("required", (False, True, False, False)),
        ):
            ca = {} if word == "none" else {"clientCa": self.ca}
            self.listen("tcp:443", certificate=self.two, clientCertificate=word, **ca)
            for client, good_ in zip((None, good, bad, old), outcomes, strict=True):
                for version in (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION):
                    end = self.served.accept()
                    try:
                        shown(end, version=version, client=client)
                    except SSL.Error:
                        self.assertFalse(good_, (word, client))
                    else:
                        self.assertTrue(good_, (word, client))

    def resumed(self, session: Any) -> tuple[bool, Any]:
        """
        Shake hands with a client that wants to resume a TLS session.

        @return: Whether it could, and its TLS session.
        """
        context = ssl.create_default_context(cadata=self.chain.root.pem.decode())
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = context.wrap_bio(
            incoming, outgoing, server_hostname="localhost", session=session
        )
        server = self.served.accept()
        for _ in range(3):
            with contextlib.suppress(ssl.SSLWantReadError):
                client.do_handshake()
            with contextlib.suppress(SSL.WantReadError):
                if data := outgoing.read():
                    server.bio_write(data)
                server.do_handshake()
            with contextlib.suppress(SSL.WantReadError):
                incoming.write(server.bio_read(1 << 16))
        with contextlib.suppress(ssl.SSLWantReadError):
            client.read()
        return bool(client.session_reused), client.session

    def test_resumed(self) -> None:
        """
        A client can resume its TLS session, which saves both sides work, also where
        clients have certificates; but not after some hours, nor after a renewal.
        """
        self.listen(
            "tcp:443",
            certificate=[self.two, self.one],
            certificateKey=[self.two, self.oneKey],
            clientCa=self.ca,
            clientCertificate="asked",
        )
        context = ssl.create_default_context(cadata=self.chain.root.pem.decode())
        with mock.patch.object(ssl, "create_default_context", lambda **_: context):
            reused, session = self.resumed(None)
            self.assertFalse(reused)
            reused, session = self.resumed(session)
            self.assertTrue(reused)
            self.reactor.advance(TICKETS)
            reused, session = self.resumed(session)
            self.assertFalse(reused)
            reused, session = self.resumed(session)
            self.assertTrue(reused)
            new = Issued("new", hosts=["*.example.org"])
            self.write("two.pem", new.keyPem, new.pem)
            self.served.readAgain()
            reused, session = self.resumed(session)
            self.assertFalse(reused)

    def test_caRenewed(self) -> None:
        """
        Another authority in the file is used without a restart.
        """
        required = {"clientCa": self.ca, "clientCertificate": "required"}
        self.listen("tcp:443", certificate=self.two, **required)
        new = Issued("new", authority=True)
        client = Issued("client", new)
        make = self.served.accept
        self.assertRaises(SSL.Error, shown, make(), client=client)
        self.write("clients.pem", new.pem)
        self.reactor.advance(LOOK_EVERY)
        shown(make(), client=client)

    def test_strings(self) -> None:
        """
        The settings are for C{ssl:} and C{tls:} too, but for the certificate, which
        these have themselves.
        """
        for text in (f"ssl:443:{self.two}", f"tls:{self.folder}"):
            self.listen(text, alpn=["h2"])
            end = self.served.accept()
            self.assertEqual(shown(end, alpn=OFFERED)[1], b"h2")
            self.refused(
                text,
                "names its certificate itself",
                named=False,
                certificate=[self.two],
            )

    def test_bad(self) -> None:
        """
        Settings that do not fit each other, and files that cannot be used, are refused
        in one line.
        """
        pipe = self.folder / "pipe"
        os.mkfifo(pipe)
        large = self.folder / "large.pem"
        with large.open("wb") as file:
            file.truncate(5 << 20)
        for settings, *parts in (
            ({"certificate": [self.one]}, "one.pem", "no private key"),
            ({"certificate": ["/no"]}, "'/no'", "No such file"),
            ({"certificate": [self.two], "certificateKey": ["/a", "/b"]}, "2", "1"),
            (
                {"certificate": [self.one], "certificateKey": [self.two]},
                "do not belong together",
            ),
            ({"certificateKey": [self.two]}, "certificate-key", "set certificate"),
            ({"alpn": ["h2"]}, "alpn", "set certificate"),
            ({"clientCa": self.ca}, "client-ca", "set certificate"),
            ({"certificate": [self.two], "clientCa": self.ca}, "client-certificate"),
            (
                {"certificate": [self.two], "clientCertificate": "asked"},
                "client-ca",
            ),
            (
                {
                    "certificate": [self.two],
                    "clientCertificate": "asked",
                    "clientCa": self.oneKey,
                },
                "one.key",
                "no certificate",
            ),
            ({"certificate": [str(pipe)]}, "pipe"),
            ({"certificate": [str(large)]}, "large.pem", "4 MiB"),
        ):
            self.refused("tcp:443", *parts, named=False, **settings)
        for bad, part in (
            ({"certificate": "x.pem"}, "whole path"),
            ({"certificate": ["/a", ""]}, "not the path"),
            ({"certificate": 7}, "not a list"),
            ({"certificate": ["/a"] * 1001}, "at most 1000"),
            ({"alpn": "h2,"}, "not an application protocol"),
            ({"alpn": ["\n"]}, "not an application protocol"),
            ({"tlsMin": "1.1"}, "1.2, 1.3"),
            ({"clientCertificate": "yes"}, "none, asked, required"),
        ):
            error = self.assertRaises(InvalidSetting, ListenerSettings, **bad)
            self.assertIn(part, str(error))

    def test_shown(self) -> None:
        """
        The balancer can say which certificates it has, and when they expire.
        """
        self.write("bare.pem", (bare := Issued("bare")).keyPem, bare.pem)
        self.listen("tcp:443", certificate=[self.two, str(self.folder / "bare.pem")])
        one, two = self.served.shown
        self.assertEqual((one.name, two.name), ("*.example.org", "CN=bare"))
        self.assertEqual(one.until, self.other.certificate.not_valid_after_utc)


class RenewalTests(Case):
    """
    Files that change while the listener is open.
    """

    def setUp(self) -> None:
        """
        Listen both ways.
        """
        super().setUp()
        self.new = Issued("new", self.chain.middle, ["localhost"], days=9)
        self.events = logged(self)
        self.counted = 0

    def both(self) -> list[Certificates]:
        """
        Open a listener of each kind; list what makes their connections.
        """
        parts = (self.chain.leaf.keyPem, self.chain.leaf.pem)
        made = []
        for name, text in (("one.pem", "ssl:443:{}"), ("certs/a.pem", "tls:{}")):
            path = self.write(name, *parts)
            self.listen(text.format(path if text[0] == "s" else path.parent))
            made.append(self.served)
        return made

    def replace(self, *parts: bytes) -> None:
        """
        Replace the files, as certbot and others do: by renaming.
        """
        for name in ("one.pem", "certs/a.pem"):
            os.rename(self.write("fresh", *parts), self.folder / name)

    def expect(self, made: list[Certificates], certificate: x509.Certificate) -> None:
        """
        Check what clients are shown.
        """
        for self.served in made:
            self.assertEqual(self.shown()[0], certificate)

    def logs(self) -> list[str]:
        """
        List the levels of what was logged since this was asked.
        """
        fresh = list(self.events)[self.counted :]
        self.counted += len(fresh)
        self.lines = [formatEvent(event) for event in fresh]
        return [event["log_level"].name for event in fresh]

    def test_renewed(self) -> None:
        """
        A certificate that was replaced is served to new clients, at most a second
        later, without a command or restart.
        """
        made = self.both()
        self.expect(made, self.chain.leaf.certificate)
        self.replace(self.new.keyPem, self.new.pem)
        self.reactor.advance(LOOK_EVERY - 0.01)
        self.expect(made, self.chain.leaf.certificate)
        self.reactor.advance(0.01)
        self.expect(made, self.new.certificate)
        self.assertEqual(self.logs(), ["info", "info"])

    def test_unchanged(self) -> None:
        """
        Files that have not changed are not read again.
        """
        made = self.both()
        with mock.patch.object(pem, "readFile") as read:
            for _ in range(3):
                self.reactor.advance(LOOK_EVERY)
                self.expect(made, self.chain.leaf.certificate)
        read.assert_not_called()

    def test_once(self) -> None:
        """
        A reload that finds the same mistake, or nothing new, writes no line.
        """
        made = self.both()
        self.replace(self.new.keyPem)
        for each in made:
            each.readAgain()
            each.readAgain()
        self.assertEqual(self.logs(), ["error", "error"])
        self.assertIn("certificate", made[0].problem or "")
        self.replace(self.new.keyPem, self.new.pem)
        for each in made:
            each.readAgain()
            each.readAgain()
            self.assertIsNone(each.problem)
        self.assertEqual(self.logs(), ["info", "info"])
        self.expect(made, self.new.certificate)

    def test_kept(self) -> None:
        """
        When one of many certificates is renewed, nothing is made anew for the others;
        when the authority of clients changes, everything is.
        """
        other = self.write("other.pem", self.new.keyPem, self.new.pem)
        own = self.write("own.pem", self.chain.leaf.keyPem, self.chain.leaf.pem)
        ca = self.write("ca.pem", self.chain.root.pem)
        self.listen(
            "tcp:443",
            certificate=[str(own), str(other)],
            clientCa=str(ca),
            clientCertificate="asked",
        )
        before = self.served._contexts.default
        newer = Issued("newer", hosts=["localhost"])
        self.write("other.pem", newer.keyPem, newer.pem)
        self.served.readAgain()
        self.assertIs(self.served._contexts.default, before)
        self.assertEqual(self.shown("localhost"), [newer.certificate])
        self.write("ca.pem", self.chain.middle.pem)
        self.served.readAgain()
        self.assertIsNot(self.served._contexts.default, before)

    def test_manyFiles(self) -> None:
        """
        A folder of many files is looked at less often, as it takes longer.
        """
        for number in range(FILES):
            self.write(f"certs/more{number}.pem", b"\n")
        made = self.both()[1:]
        self.replace(self.new.keyPem, self.new.pem)
        self.reactor.advance(2 * LOOK_EVERY - 0.01)
        self.expect(made, self.chain.leaf.certificate)
        self.reactor.advance(0.01)
        self.expect(made, self.new.certificate)

    def test_setBack(self) -> None:
        """
        A clock that is set back does not keep a renewal from being seen.
        """
        self.reactor.advance(3600)
        made = self.both()
        self.replace(self.new.keyPem, self.new.pem)
        self.reactor.advance(-3600)
        self.expect(made, self.new.certificate)

    def test_partOfSeveral(self) -> None:
        """
        While one file of a folder is empty, or is written by half, all its former
        certificates stay in use, that of the bad file too, and the log says why.
        """
        other = Issued("other", hosts=["other.test"])
        self.write("certs/a.pem", self.chain.leaf.keyPem, self.chain.leaf.pem)
        whole = other.keyPem + other.pem
        self.write("certs/b.pem", whole)
        self.listen(f"tls:{self.folder / 'certs'}")
        for half, why in (
            (b"", "b.pem' is empty"),
            (other.keyPem[:99], "b.pem' is cut off"),
            (whole[: len(other.keyPem) + 99], "b.pem' is cut off"),
        ):
            self.write("certs/b.pem", half)
            self.reactor.advance(LOOK_EVERY)
            self.assertEqual(self.shown("other.test"), [other.certificate])
            self.assertEqual(self.logs(), ["error"])
            self.assertIn(why, self.lines[0])

    def test_broken(self) -> None:
        """
        A new file that cannot be used, or is away, leaves the old certificate in
        use, and one line in the log says why; a good one then is served.
        """
        made = self.both()
        for parts, why in (
            ((self.new.keyPem, self.new.pem[:99]), "no"),
            ((self.new.keyPem, self.chain.leaf.pem), "key"),
            ((self.new.keyPem, self.new.pem.replace(b"M", b"?")), "cannot be read"),
        ):
            self.replace(*parts)
            for _ in range(3):
                self.reactor.advance(LOOK_EVERY)
                self.expect(made, self.chain.leaf.certificate)
            self.assertEqual(self.logs(), ["error", "error"])
            for line in self.lines:
                self.assertIn(why, line)
        (self.folder / "one.pem").unlink()
        (self.folder / "certs/a.pem").unlink()
        (self.folder / "certs").rmdir()
        self.reactor.advance(LOOK_EVERY)
        self.expect(made, self.chain.leaf.certificate)
        self.assertEqual(self.logs(), ["error", "error"])
        self.write("one.pem", b"")
        self.write("certs/a.pem", b"")
        self.replace(self.new.keyPem, self.new.pem)
        self.reactor.advance(LOOK_EVERY)
        self.expect(made, self.new.certificate)
        self.assertEqual(self.logs(), ["info", "info"])
