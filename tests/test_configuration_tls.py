"""
TLS to destinations, and routes, in the configuration file.
"""

from __future__ import annotations

from pathlib import Path

from iawlb.config.model import Configuration
from tests.pem import Issued
from tests.test_configuration import Case as ReadingCase

ROUTED = """\
[pools.web]
listen = "127.0.0.1:8443"
destinations = { a = "localhost:9443" }

[pools.api]
through = "web"
server-names = ["api.example.org", "*.api.example.org"]
destinations = { a = "localhost:9444" }

[pools.mail]
through = "web"
protocols = "xmpp-client"
destinations = { a = "localhost:9445" }
"""


class RoutesTests(ReadingCase):
    """
    Pools through the listeners of another.
    """

    def test_routes(self) -> None:
        """
        A pool names another one, and what it takes of its clients; it needs no listener
        of its own.
        """
        pools = self.read(ROUTED).pools
        self.assertEqual(pools["api"].listeners, ())
        self.assertEqual(pools["api"].settings.through, "web")
        names = ("api.example.org", "*.api.example.org")
        self.assertEqual(pools["api"].settings.serverNames, names)
        self.assertEqual(pools["mail"].settings.protocols, ("xmpp-client",))

    def test_mistakes(self) -> None:
        """
        Routes that make no sense are refused, with the line of the pool.
        """
        for old, new, why in (
            ('through = "web"\nserver', 'through = "wep"\nserver', "no pool 'wep'"),
            ('through = "web"\nserver', 'through = "api"\nserver', "names this pool"),
            ("server-names", "# server-names", "which clients of pool 'web' come here"),
            ('"xmpp-client"', '"xmpp-client"\nserver-names = "API.example.org"', ""),
            ('protocols = "xmpp', 'protocols = "xmpp,,', "is not an application prot"),
            ('"api.example.org"', '"api..org"', "'api..org' is not the name of a host"),
            ('through = "web"\nserver', "server", "nowhere to listen"),
        ):
            text = ROUTED.replace(old, new)
            self.assertNotEqual(text, ROUTED)
            if why:
                self.assertIn(why, "\n".join(self.mistakes(text)))
            else:
                self.read(text)
        same = ROUTED.replace(
            'protocols = "xmpp-client"', 'server-names = "api.example.org"'
        )
        (mistake,) = self.mistakes(same)
        self.assertIn("pools.mail: pool 'api' takes api.example.org too", mistake)


class TlsTests(ReadingCase):
    """
    TLS to destinations.
    """

    def secured(self, *lines: str) -> Configuration:
        """
        Read a pool whose destinations use TLS.
        """
        text = "\n".join(["[pools.web]", "listen = 1", "tls = true", *lines])
        return self.read(text)

    def test_inherited(self) -> None:
        """
        What the pool says holds for all its destinations that do not say their own.
        """
        ca = Path(self.path).absolute().with_suffix(".pem")
        ca.write_bytes(Issued("root", authority=True).pem)
        pools = self.secured(
            f'tls-ca = "{ca}"',
            "[pools.web.destinations]",
            'a = "a.example:443"',
            'b = { address = "192.0.2.1:1", tls-name = "b.example", tls-alpn = "h2" }',
            'c = { address = "localhost:80", tls = false }',
            'd = { address = "/run/d", tls-verify = false }',
        ).pools
        own = {name: each.settings for name, each in pools["web"].destinations.items()}
        self.assertEqual({each.tlsCa for each in own.values()}, {str(ca)})
        self.assertEqual([each.tls for each in own.values()], [True, True, False, True])
        self.assertEqual(own["b"].tlsName, "b.example")
        self.assertEqual(own["b"].tlsAlpn, ("h2",))
        self.assertFalse(own["d"].tlsVerify)

    def test_notSpoken(self) -> None:
        """
        What a destination has about TLS is a mistake if no TLS is spoken with it,
        unless it says that itself: else its bytes would go in the clear by a slip.
        """
        text = "[pools.web]\nlisten = 1\n[pools.web.destinations]\n"
        (mistake,) = self.mistakes(text + "a = { address = 'a:1', tls-ca = '/ca' }")
        self.assertIn("4: pools.web.destinations.a.tls-ca: no TLS is spoken", mistake)
        self.read(text + "a = { address = 'a:1', tls-ca = '/ca', tls = false }")

    def test_mistakes(self) -> None:
        """
        What cannot be used is refused with its line, and by the name of the setting in
        the file.
        """
        for destination, why in (
            ('"a:1", tls-ca = "/none"', "cannot read '/none': No such file"),
            ('"a:1", tls-key = "/none"', "a.tls-key: '/none' is the key of no cert"),
            ('"tls:a:1"', "is over TLS without it: write tcp:HOST:PORT"),
            ('"/run/a"', "a: tls-name: the address has no host"),
        ):
            text = "[pools.web]\nlisten = 1\ntls = true\n[pools.web.destinations]\n"
            text += f"a = {{ address = {destination} }}"
            (mistake,) = self.mistakes(text)
            self.assertIn("5: pools.web.destinations.a", mistake)
            self.assertIn(why, mistake)
