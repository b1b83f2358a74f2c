"""
Tests for L{iawlb.backend.tlsclient} and L{iawlb.backend.tlsfaults}.
"""

from __future__ import annotations

import contextlib
import os
import ssl
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

from OpenSSL import SSL
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from iawlb.backend.tlsclient import CONTEXTS, TlsClient
from iawlb.backend.tlsextra import sameTls, tlsClientOf
from iawlb.backend.tlsfaults import certificateFault, handshakeFault, nameFault
from iawlb.errors import InvalidSetting
from iawlb.settings import DestinationSettings
from tests.doubles import logged
from tests.pem import Issued


class Server:
    """
    A server that speaks TLS in memory.
    """

    def __init__(self, certificate: Path, ca: Path | None = None) -> None:
        """
        @param ca: The authorities of the certificates that clients have to show.
        """
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate)
        self.context.set_alpn_protocols(["http/1.1"])
        if ca is not None:
            self.context.verify_mode = ssl.CERT_REQUIRED
            self.context.load_verify_locations(ca)
        self.names: list[str | None] = []
        self.context.sni_callback = lambda _, name, __: self.names.append(name)

    def meet(self, client: SSL.Connection) -> ssl.SSLObject:
        """
        Do a handshake, and let the client read what follows.

        @raise SSL.Error: The client refuses the server.
        """
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        server = self.context.wrap_bio(incoming, outgoing, server_side=True)
        for _ in range(6):
            with contextlib.suppress(SSL.WantReadError):
                client.do_handshake()
            with contextlib.suppress(SSL.WantReadError):
                incoming.write(client.bio_read(1 << 16))
            with contextlib.suppress(ssl.SSLError):
                server.do_handshake()
            if outgoing.pending:
                client.bio_write(outgoing.read())
        with contextlib.suppress(SSL.WantReadError):
            client.recv(1)
        return server


class Case(SynchronousTestCase):
    """
    An authority, and a folder for files.
    """

    def setUp(self) -> None:
        """
        Make the authority.
        """
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.clock = Clock()
        self.root = Issued("root", authority=True)
        self.ca = self.folder / "ca.pem"
        self.ca.write_bytes(self.root.pem)

    def write(self, issued: Issued, name: str = "server.pem") -> Path:
        """
        Write a certificate and its key.
        """
        path = self.folder / name
        path.write_bytes(issued.keyPem + issued.pem)
        return path

    def client(self, host: str = "localhost", **settings: Any) -> TlsClient:
        """
        Make a client that trusts the authority.
        """
        given = {"tls": True, "tlsCa": str(self.ca), "name": "d", **settings}
        return TlsClient(self.clock, DestinationSettings(**given), host)

    def fault(self, issued: Issued, host: str = "localhost", **settings: Any) -> str:
        """
        Return what a client says about a certificate; nothing, if it accepts it.
        """
        attempt = self.client(host, **settings).attempt()
        connection = attempt.connection()
        server = Server(self.write(issued))
        if attempt.client.verify:
            with contextlib.suppress(SSL.Error):
                server.meet(connection)
        else:
            server.meet(connection)
        self.assertEqual(bool(attempt.fault), connection.get_finished() is None)
        return attempt.fault


class VerifyTests(Case):
    """
    A destination's certificate is verified, and what is wrong is said.
    """

    def test_right(self) -> None:
        """
        A certificate for the host that a known authority has issued is accepted, for a
        name, for any name below one, and for an address.
        """
        leaf = Issued(
            "leaf", self.root, ["localhost", "*.b.example"], addresses=["::1"]
        )
        for host in ("localhost", "LOCALHOST.", "a.b.example", "::1"):
            self.assertEqual(self.fault(leaf, host), "")

    def test_spelling(self) -> None:
        """
        A name in other letters than those of ASCII, and an address with the interface
        behind which it is, are compared as certificates have them.
        """
        leaf = Issued(
            "leaf", self.root, ["xn--bcher-kva.example"], addresses=["fe80::1"]
        )
        for host in ("b\xfccher.example", "B\xdcCHER.example.", "fe80::1%eth0"):
            self.assertEqual(self.fault(leaf, host), "")
            self.assertEqual(self.fault(leaf, "::1", tlsName="fe80::1%eth0"), "")

    def test_named(self) -> None:
        """
        A setting says another name than that of the address, also if it has none.
        """
        leaf = Issued("leaf", self.root, ["a.example"])
        for host in ("localhost", "192.0.2.1", ""):
            self.assertEqual(self.fault(leaf, host, tlsName="a.example"), "")
        why = self.fault(leaf, "localhost")
        self.assertEqual(why, "it is for a.example, and not for localhost")

    def test_wrong(self) -> None:
        """
        A certificate that is not right is refused, and the message says why.
        """
        other = Issued("other", authority=True)
        names = [f"{each}.example" for each in "abcde"]
        for issued, why in (
            (
                Issued("a", self.root, names),
                "b.example, c.example and 2 more",
            ),
            (Issued("a", self.root), "not for localhost, and has no names"),
            (
                Issued("a", self.root, addresses=["::1"]),
                "is for ::1, and not for",
            ),
            (Issued("a", self.root, ["localhost"], days=-0.5), "it expired on 2"),
            (Issued("a", hosts=["localhost"]), "it has issued itself (self-signed)"),
            (
                Issued("a", other, ["localhost"]),
                "its issuer is not known: give",
            ),
        ):
            self.assertIn(why, self.fault(issued))
        self.assertIn(
            "not for 192.0.2.1",
            self.fault(issued := Issued("a", self.root, ["localhost"]), "192.0.2.1"),
        )
        self.assertEqual(self.fault(issued), "")

    def test_malformed(self) -> None:
        """
        A certificate whose names cannot be read is refused in words, as any other: the
        handshake fails with OpenSSL's error, and raises no other.
        """
        # An IP address of three bytes.
        leaf = Issued("a", self.root, rawNames=bytes.fromhex("30058703616263"))
        self.assertEqual(self.fault(leaf), "it is malformed")

    def test_issuer(self) -> None:
        """
        The fault may be that of an issuer.
        """
        middle = Issued("middle", self.root, days=-0.5, authority=True)
        leaf = Issued("leaf", middle, ["localhost"])
        self.ca.write_bytes(self.root.pem + middle.pem)
        why = self.fault(leaf)
        self.assertIn("the certificate of an issuer: it expired on", why)

    def test_notVerified(self) -> None:
        """
        Without verification, any certificate is accepted, also of an address without a
        host; the name is asked for all the same.
        """
        for host in ("localhost", ""):
            issued = Issued("a", hosts=["b.example"], days=-0.5)
            for ca in (str(self.ca), ""):
                fault = self.fault(issued, host, tlsVerify=False, tlsCa=ca)
                self.assertEqual(fault, "")

    def test_noName(self) -> None:
        """
        An address without a host needs a name, or no verification.
        """
        error = self.assertRaises(InvalidSetting, self.client, "")
        self.assertIn("give tls-name, or tls-verify=no", str(error))

    def test_asked(self) -> None:
        """
        The destination is told the name and the protocols that are set; an address is
        no name.
        """
        leaf = self.write(Issued("leaf", self.root, ["a.b"], addresses=["192.0.2.1"]))
        server = Server(leaf)
        for host in ("a.b", "192.0.2.1"):
            client = self.client(host, tlsAlpn="h2,http/1.1")
            ours = client.attempt().connection()
            server.meet(ours)
            self.assertEqual(ours.get_alpn_proto_negotiated(), b"http/1.1")
        self.assertEqual(server.names, ["a.b", None])

    def test_system(self) -> None:
        """
        Without a file of authorities, those of the system are trusted.
        """
        leaf = Issued("leaf", self.root, ["localhost"])
        self.assertIn("its issuer is not known", self.fault(leaf, tlsCa=""))


class OwnCertificateTests(Case):
    """
    The balancer shows a certificate, if it has one.
    """

    def meet(self, **settings: Any) -> ssl.SSLObject:
        """
        Meet a server that asks for a certificate.
        """
        server = Server(self.write(Issued("leaf", self.root, ["localhost"])), self.ca)
        client = self.client(**settings)
        return server.meet(client.attempt().connection())

    def test_shown(self) -> None:
        """
        The certificate is shown with its chain, from one file or two.
        """
        middle = Issued("middle", self.root, authority=True)
        own = Issued("balancer", middle)
        both, key = self.write(own, "own.pem"), self.folder / "own.key"
        both.write_bytes(own.keyPem + own.pem + middle.pem)
        alone = self.folder / "alone.pem"
        alone.write_bytes(own.pem + middle.pem)
        key.write_bytes(own.keyPem)
        for settings in (
            {"tlsCertificate": str(both)},
            {"tlsCertificate": str(alone), "tlsKey": str(key)},
        ):
            found = self.meet(**settings).getpeercert()
            assert found is not None
            self.assertEqual(found["subject"], ((("commonName", "balancer"),),))

    def test_refused(self) -> None:
        """
        The destination's alert is put in words.
        """
        error = self.assertRaises(SSL.Error, self.meet)
        why = handshakeFault(Failure(error))
        self.assertIn("certificate required (it asks for a certificate: give", why)

    def test_wrongFiles(self) -> None:
        """
        A file that cannot be used is refused, and named.
        """
        empty, other = self.folder / "empty", self.write(Issued("x"), "x.pem")
        empty.write_bytes(b"")
        own = self.write(Issued("balancer", self.root), "own.pem")
        for settings, why in (
            ({"tlsCa": "/none"}, "cannot read '/none': No such file"),
            ({"tlsCa": str(empty)}, "is empty"),
            ({"tlsCertificate": "/none"}, "cannot read '/none': No such file"),
            ({"tlsCertificate": str(self.ca)}, "there is no private key in"),
            ({"tlsCertificate": str(own), "tlsKey": str(other)}, "do not belong to"),
            (
                {"tlsKey": str(own)},
                "is the key of no certificate: give",
            ),
        ):
            error = self.assertRaises(InvalidSetting, self.client, **settings)
            self.assertIn(why, str(error))

    def test_refusedByOpenssl(self) -> None:
        """
        If only OpenSSL finds a certificate wrong, the message has OpenSSL's words.
        """
        own = self.write(Issued("balancer", self.root), "own.pem")
        wrong = SSL.Error([("SSL routines", "", "ee key too small")])
        with mock.patch.object(SSL.Context, "use_certificate", side_effect=wrong):
            error = self.assertRaises(
                InvalidSetting, self.client, tlsCertificate=str(own)
            )
        self.assertIn("OpenSSL does not take the destination's", str(error))
        self.assertIn("ee key too small", str(error))


class RenewalTests(Case):
    """
    Files are read again when they change.
    """

    def setUp(self) -> None:
        """
        Make a client, and a server whose authority the client does not know.
        """
        super().setUp()
        self.events = logged(self)
        self.other = Issued("other", authority=True)
        self.server = Server(self.write(Issued("leaf", self.other, ["localhost"])))
        self.made = self.client()

    def accepted(self) -> bool:
        """
        Meet the server.
        """
        attempt = self.made.attempt()
        with contextlib.suppress(SSL.Error):
            self.server.meet(attempt.connection())
        return not attempt.fault

    def replace(self, data: bytes) -> None:
        """
        Write the file of authorities anew.
        """
        self.ca.write_bytes(data)
        os.utime(self.ca, ns=(1, len(data)))

    def said(self) -> list[str]:
        """
        Return what was logged.
        """
        return [each["log_format"].split(" {name} ")[1][:15] for each in self.events]

    def test_renewed(self) -> None:
        """
        Another authority is trusted soon after its file was written, and that is
        logged. A look happens once a second.
        """
        self.assertFalse(self.accepted())
        self.replace(self.other.pem)
        self.assertFalse(self.accepted())
        self.clock.advance(1)
        self.assertTrue(self.accepted())
        self.assertEqual(self.said(), ["were read again"])
        self.clock.advance(1)
        self.assertTrue(self.accepted())
        self.assertEqual(len(self.events), 1)

    def test_broken(self) -> None:
        """
        If the file cannot be used, what was read before stays in use, and that is
        logged once.
        """
        self.replace(self.other.pem)
        self.made = self.client()
        self.replace(b"")
        for _ in range(2):
            self.clock.advance(1)
            self.assertTrue(self.accepted())
        self.assertEqual(self.said(), ["have changed an"])
        os.remove(self.ca)
        self.clock.advance(1)
        self.assertTrue(self.accepted())
        self.assertEqual(len(self.events), 2)


class ResumeTests(Case):
    """
    A TLS session is resumed, which spares both ends the work of a full handshake.
    """

    def test_resumed(self) -> None:
        """
        The second connection resumes the TLS session of the first, until one has
        failed, or the files have changed.
        """
        server = Server(self.write(Issued("leaf", self.root, ["localhost"])))
        client = self.client()

        def meet() -> bool | None:
            ours = client.attempt().connection()
            resumed = server.meet(ours).session_reused
            client.succeeded(ours)
            return resumed

        self.assertEqual([meet(), meet(), meet()], [False, True, True])
        client.failed()
        self.assertEqual([meet(), meet()], [False, True])
        os.utime(self.ca, ns=(1, 1))
        self.clock.advance(1)
        self.assertEqual([meet(), meet()], [False, True])

    def test_notTaken(self) -> None:
        """
        If OpenSSL does not take the former TLS session, a full handshake is done.
        """
        server = Server(self.write(Issued("leaf", self.root, ["localhost"])))
        client = self.client()
        ours = client.attempt().connection()
        server.meet(ours)
        client.succeeded(ours)
        wrong = SSL.Error([("SSL routines", "", "session")])
        with mock.patch.object(SSL.Connection, "set_session", side_effect=wrong):
            ours = client.attempt().connection()
        self.assertFalse(server.meet(ours).session_reused)

    def test_former(self) -> None:
        """
        A connection that was made before the files changed is not resumed.
        """
        server = Server(self.write(Issued("leaf", self.root, ["localhost"])))
        client = self.client()
        ours = client.attempt().connection()
        server.meet(ours)
        os.utime(self.ca, ns=(1, 1))
        self.clock.advance(1)
        client.attempt()
        client.succeeded(ours)
        ours = client.attempt().connection()
        self.assertFalse(server.meet(ours).session_reused)

    def test_shared(self) -> None:
        """
        A thousand destinations with the same settings have one context, as reading the
        system's authorities takes a while.
        """
        made = {id(self.client(tlsCa="")._context) for _ in range(10)}
        self.assertEqual(len(made), 1)
        self.assertNotEqual(self.client()._context, self.client(tlsCa="")._context)
        self.assertGreater(CONTEXTS, 10)


class FaultTests(SynchronousTestCase):
    """
    What is wrong, in words.
    """

    def test_certificates(self) -> None:
        """
        Each error of OpenSSL's has words, or its number.
        """

        class Certificate:
            not_valid_before_utc = datetime(2030, 1, 2, 3, 4, tzinfo=UTC)

            def to_cryptography(self) -> Certificate:
                return self

        why = certificateFault(9, Certificate())
        self.assertEqual(why, "it is not valid before 2030-01-02 at 03:04 UTC")
        self.assertEqual(certificateFault(26, None), "it is not for servers")
        self.assertEqual(certificateFault(99, None), "OpenSSL refuses it with error 99")

    def test_names(self) -> None:
        """
        What a certificate says of itself cannot spoil the log.
        """
        why = nameFault("a.example", ["b\nc", "x" * 1000])
        self.assertEqual(why, f"it is for b\\nc, {'x' * 100}, and not for a.example")

    def test_handshakes(self) -> None:
        """
        An error of OpenSSL's comes with what it may mean.
        """
        for reasons, why in (
            (["wrong version number"], "(does it speak TLS on this port?)"),
            (["tlsv1 alert unknown ca"], "(it does not trust the issuer of tls-cert"),
            (["one", "two"], "one, two"),
        ):
            error = SSL.Error([("SSL routines", "", each) for each in reasons])
            self.assertIn(why, handshakeFault(Failure(error)))
        closed = "the destination has closed the connection"
        self.assertEqual(handshakeFault(None), closed)
        self.assertEqual(handshakeFault(Failure(SSL.SysCallError(-1, "EOF"))), closed)
        self.assertEqual(handshakeFault(Failure(OSError("reset"))), closed)


class ExtraTests(Case):
    """
    TLS as the settings of a destination ask for it.
    """

    def test_off(self) -> None:
        """
        A destination without TLS needs nothing of it.
        """
        off = DestinationSettings(tlsCa="/none")
        self.assertIsNone(tlsClientOf(self.clock, off, "tcp:a:1"))

    def test_host(self) -> None:
        """
        The name is the host of the address, in any form.
        """
        own = DestinationSettings(tls=True, tlsCa=str(self.ca))
        for text in ("tcp:a.example:1", "a.example:1", "tcp:host=a.example:port=1"):
            client = tlsClientOf(self.clock, own, text)
            assert client is not None
            self.assertEqual(client.name, "a.example")
        for text in ("/run/x", "<an endpoint>"):
            self.assertRaises(InvalidSetting, tlsClientOf, self.clock, own, text)

    def test_twice(self) -> None:
        """
        An address that is over TLS already is refused.
        """
        own = DestinationSettings(tls=True)
        error = self.assertRaises(
            InvalidSetting, tlsClientOf, self.clock, own, "tls:a.example:1"
        )
        self.assertIn("is over TLS without it: write tcp:HOST:PORT", str(error))

    def test_notInstalled(self) -> None:
        """
        Without the extra, a message says what to install.
        """
        own = DestinationSettings(tls=True)
        lacking: Any = {"iawlb.backend.tlsclient": None}
        with mock.patch.dict(sys.modules, lacking):
            error = self.assertRaises(
                InvalidSetting, tlsClientOf, self.clock, own, "a.example:1"
            )
        self.assertIn("pip install 'iawlb[tls]'", str(error))

    def test_same(self) -> None:
        """
        Other settings than those of TLS make no difference.
        """
        own = DestinationSettings(tls=True)
        self.assertTrue(sameTls(own, DestinationSettings(tls=True, slots=3)))
        self.assertFalse(sameTls(own, DestinationSettings(tls=True, tlsVerify=False)))
