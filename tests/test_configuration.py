"""
Tests for reading a configuration.
"""

from __future__ import annotations

import os
from pathlib import Path
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from iawlb.config.keys import ALL, explainKey
from iawlb.config.model import Configuration
from iawlb.config.read import readConfiguration
from iawlb.config.section import MOST
from iawlb.errors import InvalidConfiguration
from iawlb.process.options import checkFile

repeatable = settings(deadline=None, derandomize=True, database=None)

WHOLE = """\
[global]
max-connections = 5000
drain-timeout = "1m"

[defaults]
connect-timeout = "2s"
idle-timeout = 60

[pools.web]
listen = ["tcp:8080", { address = "[::]:8081", name = "six", v6only = true }]
policy = "first"
queue-timeout = 0.5

[pools.web.destinations]
a = "localhost:9001"
b = { address = "localhost:9002", slots = 4, weight = 2 }

[pools.web.destinations.c]
address = 9003

[pools.db]
listen = 5432
idle-timeout = 0
destinations = { primary = "localhost:5433" }

[admin]
listen = "/run/iawlb/admin.sock"

[log]
to = "/var/log/iawlb/access.log"
"""


class Case(SynchronousTestCase):
    """
    A file to read.
    """

    def setUp(self) -> None:
        """
        Name a file.
        """
        self.path = self.mktemp()

    def read(
        self,
        text: str,
        environment: dict[str, str] | None = None,
        options: dict[str, object] | None = None,
    ) -> Configuration:
        """
        Read a file.
        """
        Path(self.path).write_text(text)
        return readConfiguration(self.path, environment or {}, options or {})

    def mistakes(
        self,
        text: str,
        environment: dict[str, str] | None = None,
        options: dict[str, object] | None = None,
    ) -> list[str]:
        """
        Read a file that is wrong.

        @return: The mistakes, without the file's name.
        """
        error = self.assertRaises(
            InvalidConfiguration, self.read, text, environment, options
        )
        for each in error.mistakes:
            self.assertTrue(each.isprintable(), each)
            self.assertLess(len(each), 500)
        return [each.removeprefix(f"{self.path}:") for each in error.mistakes]

    def wrong(self, text: str, *mistakes: str) -> None:
        """
        Check that a file has these mistakes; each is given from its line on, or a part
        of it.
        """
        found = self.mistakes(text)
        self.assertEqual(len(found), len(mistakes), found)
        for line, part in zip(found, mistakes, strict=True):
            self.assertIn(part, line)

    def pool(self, inner: str, *mistakes: str) -> None:
        """
        Check that a pool has these mistakes; its first line is 3.
        """
        self.wrong(f"[pools.web]\nlisten = 80\n{inner}", *mistakes)


class ReadTests(Case):
    """
    What is right.
    """

    def test_whole(self) -> None:
        """
        A pool has its own settings, else those of the defaults, else those of the
        table; its listeners and destinations are as written.
        """
        read = self.read(WHOLE)
        self.assertEqual(read.path, os.path.abspath(self.path))
        self.assertEqual(read.settings.maxConnections, 5000)
        self.assertEqual(read.settings.drainTimeout, 60)
        self.assertEqual(read.process.admin, "/run/iawlb/admin.sock")
        self.assertEqual(read.process.logTo, "/var/log/iawlb/access.log")
        self.assertEqual(list(read.pools), ["web", "db"])
        web, db = read.pools.values()
        self.assertEqual(web.settings.policy, "first")
        self.assertEqual(web.settings.queueTimeout, 0.5)
        self.assertEqual(web.settings.connectTimeout, 2)
        self.assertEqual(web.settings.idleTimeout, 60)
        self.assertEqual(db.settings.idleTimeout, 0)
        self.assertEqual(db.settings.policy, "least")
        self.assertEqual(
            [(each.name, each.address) for each in web.listeners],
            [("tcp:8080", "tcp:8080"), ("six", "[::]:8081")],
        )
        self.assertTrue(web.listeners[1].settings.v6only)
        self.assertEqual([each.address for each in db.listeners], ["5432"])
        a, b, c = web.destinations.values()
        self.assertEqual((a.name, a.address), ("a", "localhost:9001"))
        self.assertEqual((b.settings.slots, b.settings.weight), (4, 2))
        self.assertEqual((c.name, c.address, c.settings.weight), ("c", "9003", 1))

    def test_origins(self) -> None:
        """
        Each value knows the line, the variable or the option it comes from; of several,
        the option wins, then the environment.
        """
        read = self.read(
            WHOLE,
            {"IAWLB_IDLE_TIMEOUT": "9s", "IAWLB_REST": "1s", "IAWLB_METRICS": "9100"},
            {"rest": "2s", "maxConnections": 7, "logTo": "-"},
        )
        web, db = read.pools.values()
        self.assertEqual((web.settings.idleTimeout, db.settings.idleTimeout), (9, 9))
        self.assertEqual((web.settings.rest, db.settings.rest), (2, 2))
        self.assertEqual(read.settings.maxConnections, 7)
        self.assertEqual(read.process.metrics, "9100")
        self.assertEqual(read.process.logTo, "-")
        for path, origin in (
            ("global.max-connections", "--max-connections"),
            ("global.drain-timeout", f"{self.path}:3"),
            ("global.relay", "default"),
            ("pools.web", f"{self.path}:9"),
            ("pools.web.connect-timeout", f"{self.path}:6"),
            ("pools.web.idle-timeout", "IAWLB_IDLE_TIMEOUT"),
            ("pools.web.rest", "--rest"),
            ("pools.web.listen[1].v6only", f"{self.path}:10"),
            ("pools.web.destinations.a", f"{self.path}:15"),
            ("pools.web.destinations.a.weight", "default"),
            ("pools.web.destinations.b.slots", f"{self.path}:16"),
            ("pools.web.destinations.c", f"{self.path}:18"),
            ("pools.db.listen", f"{self.path}:22"),
            ("admin.listen", f"{self.path}:27"),
            ("metrics.listen", "IAWLB_METRICS"),
            ("log.to", "--log-to"),
        ):
            self.assertEqual(str(read.origins[path]), origin, path)
        self.assertEqual(str(web.listeners[0].origin), f"{self.path}:10")
        self.assertEqual(str(web.destinations["c"].origin), f"{self.path}:18")

    def test_equal(self) -> None:
        """
        A file in which only the lines moved says the same.
        """
        first = self.read(WHOLE)
        second = self.read(f"# moved\n\n{WHOLE}")
        self.assertEqual(first, second)
        self.assertNotEqual(first.origins, second.origins)
        self.assertNotEqual(first, self.read(WHOLE.replace("9001", "9009")))

    def test_withoutFile(self) -> None:
        """
        Without a file there are the environment and the options, and no pools.
        """
        read = readConfiguration(None, {"IAWLB_ADMIN": "/a"}, {"log": "errors"})
        self.assertEqual((read.process.admin, read.settings.log), ("/a", "errors"))
        self.assertEqual((read.pools, read.path), ({}, None))

    def test_withoutDestinations(self) -> None:
        """
        A pool may be without destinations: they can be added while it runs.
        """
        read = self.read("[pools.web]\nlisten = 80")
        self.assertEqual(read.pools["web"].destinations, {})
        read = self.read("[pools.web]\nlisten = 80\ndestinations = {}")
        self.assertEqual(read.pools["web"].destinations, {})

    def test_checkFile(self) -> None:
        """
        A check says nothing of a file that is right, and all that is wrong with another
        and with the environment.
        """
        Path(self.path).write_text(WHOLE)
        with mock.patch.dict(os.environ, clear=True):
            self.assertEqual(checkFile(self.path), [])
        with mock.patch.dict(os.environ, {"IAWLB_REST": "x"}, clear=True):
            (line,) = checkFile(self.path)
            self.assertTrue(line.startswith("IAWLB_REST: 'x' is not a duration"), line)
            missing = checkFile("/missing")
        self.assertEqual(
            [each.partition(":")[0] for each in missing], ["/missing", "IAWLB_REST"]
        )


class MistakeTests(Case):
    """
    What is wrong: each line has the place, the full path, the value and what is right.
    """

    def test_all(self) -> None:
        """
        All mistakes are found at once, in the order of the file.
        """
        self.assertEqual(
            self.mistakes(
                "[global]\n"
                "max-conections = 3\n"
                "[pools.web]\n"
                "listen = 8080\n"
                "queue-timeout = 'soon'\n"
                "[pools.web.destinations]\n"
                "a = { address = 'localhost:9001', slots = 'many' }\n",
                {"IAWLB_RESTS": "1"},
                {"relay": "slow"},
            ),
            [
                "2: global.max-conections: there is no such key: write max-connections",
                "5: pools.web.queue-timeout: 'soon' is not a duration: write 500ms, "
                "30s, 5m or 1h, at most 168h",
                "7: pools.web.destinations.a.slots: 'many' is not a whole number from "
                "0 to 1000000",
                "IAWLB_RESTS: there is no such variable: write IAWLB_REST",
                "--relay: 'slow' is not one of auto, fast, portable",
            ],
        )

    def test_many(self) -> None:
        """
        Of very many mistakes the first are listed, and the others counted.
        """
        found = self.mistakes("".join(f"k{each} = 1\n" for each in range(5000)))
        self.assertEqual(len(found), MOST + 1)
        self.assertEqual(found[-1], " and 4901 mistakes more")

    def test_elsewhere(self) -> None:
        """
        A setting in a section where it has no effect is refused, and the message says
        where it belongs.
        """
        self.pool(
            "max-connections = 3",
            "3: pools.web.max-connections: is not set here: write it in [global]",
        )
        self.wrong(
            "queue-timeout = 3\nlisten = 8080\n[defaults]\ndestinations = 1\n"
            "[global]\nrest = 1\n[log]\nstate = 'x'\n[pools.web]\nlisten = 80",
            "1: queue-timeout: is not set here: write it in [defaults] or [pools.NAME]",
            "2: listen: is not set here: write it in [pools.NAME], [admin] or ",
            "4: defaults.destinations: is not set here: write it in [pools.NAME]",
            "6: global.rest: is not set here: write it in [defaults] or [pools.NAME]",
            "8: log.state: is not set here: write it in [admin]",
        )

    def test_unknown(self) -> None:
        """
        An unknown key is refused with the key that was meant, also if other programs
        have that name, or with those that there are.
        """
        for key, meant in (
            ("connectTimeout", "connect-timeout"),
            ("connect_timeout", "connect-timeout"),
            ("balance", "policy"),
            ("bind", "listen"),
            ("servers", "destinations"),
            ("timeout-queue", "queue-timeout"),
            ("timeout_connect", "connect-timeout"),
            ("max_conns", "slots"),
            ("proxy_timeout", "idle-timeout"),
        ):
            self.pool(
                f"{key} = 1", f"3: pools.web.{key}: there is no such key: write {meant}"
            )
        self.pool("colour = 1", "docs/configuration.md lists them")
        self.pool("max_connection = 1", "write max-connections, in [global]")
        self.pool(
            "destinations = { a = { address = 81, name = 'b' } }",
            "destinations.a.name: there is no such key; docs/configuration.md lists",
        )
        self.pool(
            "destinations = { a = { host = 81 } }",
            "a.host: there is no such key: write address",
        )
        self.pool(
            "destinations = { a = { slots = 1 } }",
            "a: has no address",
        )
        self.pool("weight = 1", "write it in the table of a destination")
        self.wrong(
            "[global]\nmaxconn = 1\nmetrics = 1\n[pools.web]\nlisten = 80",
            "global.maxconn: there is no such key: write max-connections",
            "global.metrics: is not set here: it is a section, [metrics]",
        )
        self.assertIn("log, to", explainKey("colour", ["log", "to"]))
        self.pool('"a\\u0000\\"\\n" = 1', 'pools.web."a\\x00\\"\\n": there is no such')
        self.pool(f"{'x' * 10_000} = 1", 'xxx...": there is no such')

    def test_off(self) -> None:
        """
        A word that is meant to open no admin server is refused with what does.
        """
        for word in ("false", "'off'", "'none'"):
            self.wrong(
                f"[admin]\nlisten = {word}\n[pools.web]\nlisten = 80",
                "is not an address: write an empty text for none",
            )

    def test_checks(self) -> None:
        """
        Settings of checks that do not fit together are mistakes in the file.
        """
        for written, why in (
            ("health-check = 'command'", "a.health-check: command needs a program"),
            ("health-check = 'htp'", "a.health-check: 'htp' is not a check"),
            ("agent = 9000", "a: '9000' is a port, and unix:/run/x has no host"),
        ):
            self.pool(f"destinations.a = {{ address = '/run/x', {written} }}", why)

    def test_unlike(self) -> None:
        """
        A key that is like one of another section by chance gets no wrong advice.
        """
        for key in ("stats", "timeout", "acl", "mailers"):
            self.pool(f"{key} = 1", f"{key}: there is no such key; docs/configuration")

    def test_sections(self) -> None:
        """
        A section that does not exist is refused with the one that was meant.
        """
        end = "\n[pools.web]\nlisten = 80"
        self.wrong(
            f"[pool.x]\nlisten = 1{end}",
            "pool: there is no such section: write [pools.x]",
        )
        self.wrong(
            f"[web]\nlisten = 1{end}", "there is no such section: write [pools.web]"
        )
        self.wrong(f"[web]\nservers = []{end}", "write [pools.web]")
        self.wrong(f"[backend.'a b']{end}", 'write [pools."a b"]')
        self.wrong(f"[upstream]{end}", "write [pools.NAME]")
        self.wrong(f"[accessLog]{end}", "write [log]")
        self.wrong(f"[colours]{end}", "there is global, defaults, pools, admin")
        self.wrong(
            f"admin = '/x'{end}", "1: admin: '/x' is not a section: write [admin]"
        )
        self.wrong(f"[[defaults]]{end}", "1: defaults: a list is not a section")
        self.wrong("pools = 3", "1: pools: 3 is not a section: write [pools.web], say")
        self.wrong("[[pools]]\nlisten = 80", "pools: a list is not a section")
        self.wrong(f"[pools]\nlisten = 80{end}", "pools.listen: 80 is not a pool")
        self.wrong(f"[pools.'a/b']\nlisten = 1{end}", "'a/b' is not a name of a pool")

    def test_empty(self) -> None:
        """
        A file without a pool is refused, as HAProxy refuses one without a listener.
        """
        for text in ("", "# nothing\n", "[pools]", "[global]\nlog = 'errors'"):
            self.wrong(text, "pools: there is no pool: write [pools.web], say")

    def test_listeners(self) -> None:
        """
        A listener that cannot be is refused; a pool needs one.
        """
        for listen, part in (
            ("", "listen: nowhere to listen"),
            ("listen = []", "2: pools.web.listen: nowhere to listen"),
            ("listen = true", 'true is not an address: write "tcp:8080"'),
            ("listen = 1.5", "1.5 is not an address"),
            ("listen = [[80]]", "listen[0]: a list is not an address"),
            ("listen = {}", "listen: has no address"),
            ("listen = { address = [] }", "listen.address: a list is not an address"),
            ("listen = 65536", "'65536' is not a port"),
            ("listen = -1", "'-1' is not a port"),
            ("listen = ''", "is empty"),
            ("listen = 'localhost'", "write 'localhost:8080'"),
            ("listen = 'unix:/a mode=660'", "{ address = 'unix:/a', mode = '660' }"),
            ("listen = '/a mode 660 x=1'", "holds settings"),
            ("listen = '80 accept-proxy=all'", "'80', accept-proxy = 'all' }"),
            ("listen = '80 name : x'", "write name=x"),
            ("listen = { address = 80, mode = '660' }", "for Unix sockets"),
            ("listen = { address = '/a', mode = 660 }", "in octal, such as '660'"),
            ("listen = { address = '/a', group = 'no-such-group' }", "no group"),
            ("listen = { address = 80, name = 'a b' }", "listen.name: 'a b' is not"),
            (
                "listen = [{ address = 80, name = 'a' }, { address = 81, name = 'a' }]",
                "listen[1]: there is a listener 'a' in this pool already",
            ),
        ):
            self.wrong(f"[pools.web]\n{listen}", part)

    def test_destinations(self) -> None:
        """
        A destination that cannot be is refused.
        """
        for value, part in (
            ("['localhost:9001']", 'write destinations = { a = "localhost:9001" }'),
            ("'localhost:9001'", "is not a table of destinations by their names"),
            ("{ a = '' }", "destinations.a: '' is empty"),
            ("{ a = 0 }", "'0' is not a port"),
            ("{ a = {} }", "destinations.a: has no address"),
            ("{ a = { address = 1979-05-27 } }", "1979-05-27 is not an address"),
            ("{ 'a b' = 81 }", "destinations.\"a b\": 'a b' is not a name"),
            ("{ '' = 81 }", "destinations.\"\": '' is not a name"),
            ("{ '10.0.0.1' = 0 }", "destinations.\"10.0.0.1\": '0': '0' is not a port"),
            ("{ a = { address = 81, weight = 0 } }", "a.weight: 0 is not a whole"),
            ("{ a = 'systemd:domain=INET:index=0' }", "is no destination"),
        ):
            self.pool(f"destinations = {value}", part)

    def test_values(self) -> None:
        """
        Values of wrong types are shown as they are in the file, shortened.
        """
        for key, value, part in (
            ("slots", "true", "true is not a whole number"),
            ("slots", "4.0", "4.0 is not a whole number"),
            ("slots", "0x" + "f" * 5000, "a number of more than 64 bits is not"),
            ("slots", "[[[]]]", "a list is not"),
            ("slots", "{ a = 1 }", "a table is not"),
            ("slots", "'" + "x" * 100_000 + "'", "'" + "x" * 59 + "... is not a whole"),
            ("rest", "inf", "inf is not a duration"),
            ("rest", "-nan", "nan is not a duration"),
            ("rest", "-1", "-1 is not a duration"),
            ("rest", "12:00:00", "12:00:00 is not a duration"),
            ("rest", "'30 s'", "'30 s' is not a duration"),
            ("rest", "'\\n'", r"'\\n' is not a duration"),
            ("policy", "1", "1 is not one of least"),
            ("policy", "[]", "a list is not one of least"),
            ("when-down", "false", "false is not one of hold, refuse"),
        ):
            self.pool(f"{key} = {value}", f"3: pools.web.{key}: {part}")
        self.wrong(
            "[global]\nabort-on-close = 1\nbuffer-size = '1g'\n"
            "[pools.web]\nlisten = 80",
            "1 is not yes or no",
            "'1g' is not a size",
        )

    def test_environment(self) -> None:
        """
        A variable that is no setting is reported, so that no typing mistake goes
        unseen; those that Kubernetes makes for a service of that name are not.
        """
        text = "[pools.web]\nlisten = 80"
        self.read(
            text,
            {
                "IAWLB_CONFIG": "x",
                "IAWLB_SERVICE_HOST": "10.0.0.1",
                "IAWLB_SERVICE_PORT_HTTP": "80",
                "IAWLB_PORT": "tcp://10.0.0.1:80",
                "IAWLB_PORT_80_TCP": "tcp://10.0.0.1:80",
                "IAWLB_PORT_80_TCP_ADDR": "10.0.0.1",
                "IAWLB_ADMIN_SERVICE_PORT": "80",
                "OTHER": "x",
            },
        )
        self.assertEqual(
            self.mistakes(
                text,
                {
                    "IAWLB_QUEUETIMEOUT": "1",
                    "IAWLB_REQUIRE_INTEGRATION": "1",
                    "IAWLB_LOG_FORM\n": "1",
                    "IAWLB_REST": "\udcff",
                },
            ),
            [
                "IAWLB_LOG_FORM\\n: there is no such variable: write IAWLB_LOG_FORMAT",
                "IAWLB_QUEUETIMEOUT: there is no such variable: write "
                "IAWLB_QUEUE_TIMEOUT",
                "IAWLB_REST: '\\udcff' is not a duration: write 500ms, 30s, 5m or 1h, "
                "at most 168h",
            ],
        )

    @repeatable
    @given(
        st.recursive(
            st.one_of(st.text(), st.integers(), st.floats(), st.booleans(), st.none()),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        ),
        st.sampled_from(sorted(ALL)),
    )
    def test_any(self, value: object, name: str) -> None:
        """
        Whatever is given for whatever setting, it is taken, or refused in one line.
        """
        try:
            readConfiguration(None, {}, {name: value})
        except InvalidConfiguration as error:
            (line,) = error.mistakes
            self.assertTrue(line.isprintable())
            self.assertLess(len(line), 300)


class ClashTests(Case):
    """
    Addresses that do not fit each other.
    """

    def test_listeners(self) -> None:
        """
        Two listeners on one address are refused, in whatever form it is written, also
        in two pools; those that can be there together are not.
        """
        six = "{ address = '[::]:80', v6only = true }"
        for one, other, clash in (
            ("80", "'tcp:80'", True),
            ("80", "'127.0.0.1:80'", True),
            ("80", "81", False),
            ("0", "'tcp:0'", False),
            ("'[::]:80'", "80", True),
            ("80", "'[::]:80'", True),
            (six, "80", False),
            (six, "'[::1]:80'", True),
            ("'[::1]:80'", "80", False),
            ("'127.0.0.1:80'", "'127.0.0.2:80'", False),
            ("'127.0.0.1:80'", "'localhost:80'", True),
            ("'example.org:80'", "'EXAMPLE.org:80'", True),
            ("'example.org:80'", "'example.net:80'", False),
            ("'/tmp/a'", "'unix:/tmp/./a'", True),
            ("'/tmp/a'", "'/tmp/b'", False),
            ("'haproxy:tcp:80'", "80", True),
            ("'plain:a:b'", "'plain:a:b'", True),
            ("'plain:a:b'", "'plain:b:b'", False),
        ):
            text = f"[pools.a]\nlisten = [{one}, {other}]"
            apart = f"[pools.a]\nlisten = {one}\n[pools.b]\nlisten = {other}"
            with mock.patch("iawlb.backend.address.serverFromString"):
                if clash:
                    self.wrong(text, "2: pools.a.listen[1]: ")
                    self.wrong(apart, "4: pools.b.listen: ")
                    (line,) = self.mistakes(apart)
                    self.assertIn("is where pools.a.listen listens already", line)
                else:
                    self.read(text)
                    self.read(apart)

    def test_destinations(self) -> None:
        """
        A destination that is in a pool twice would have its slots twice.
        """
        self.pool(
            "destinations = { a = 81, b = 'tcp:localhost:81' }",
            "3: pools.web.destinations.b: 'tcp:localhost:81' is "
            "pools.web.destinations.a already",
        )
        self.read(
            "[pools.a]\nlisten = 80\ndestinations = { a = 90 }\n"
            "[pools.b]\nlisten = 81\ndestinations = { a = 90 }"
        )

    def test_circles(self) -> None:
        """
        A destination that leads back to its own pool is refused, also by way of other
        pools; a pool behind another is not.
        """
        self.read(
            "[pools.a]\nlisten = '127.0.0.1:80'\ndestinations = { d = '192.0.2.1:80' }"
        )
        with mock.patch("iawlb.backend.address.clientFromString"):
            # An endpoint of another kind does not say where it leads.
            self.read("[pools.a]\nlisten = 80\ndestinations = { d = 'plain:a:b' }")
        pool = "[pools.{}]\nlisten = {}\ndestinations = {{ d = {} }}\n".format
        self.read(pool("a", 8000, 8001) + pool("b", 8001, 9001))
        self.wrong(
            pool("a", 8000, 8000),
            "3: pools.a.destinations.d: '8000' leads back to pools.a.listen, '8000'",
        )
        self.wrong(
            pool("a", 8000, 8001) + pool("b", 8001, 8002) + pool("c", 8002, 8000),
            "3: pools.a.destinations.d: '8001' leads back to pools.b.listen",
            "6: pools.b.destinations.d: '8002' leads back to pools.c.listen",
            "9: pools.c.destinations.d: '8000' leads back to pools.a.listen",
        )
        self.wrong(
            "[pools.a]\nlisten = ['127.0.0.1:80', '[::1]:80']\n"
            "destinations = { d = 80 }",
            "leads back to pools.a.listen[0]",
        )
        self.read(
            "[pools.a]\nlisten = { address = '[::]:80', v6only = true }\n"
            "destinations = { d = '127.0.0.1:80' }"
        )
        self.wrong(
            "[pools.a]\nlisten = '/tmp/a'\ndestinations = { d = '/tmp/a' }",
            "leads back",
        )
