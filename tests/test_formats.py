"""
Tests for the formats of the access log.
"""

from __future__ import annotations

import json
import re
import time
from typing import Any

from hypothesis import given, strategies
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress
from twisted.trial.unittest import SynchronousTestCase

from iawlb.core.clientinfo import TlsInfo
from iawlb.core.origin import Origin, PoolCount
from iawlb.core.outcome import Outcome
from iawlb.core.session import Session
from iawlb.logformat import FIELDS, FORMATS
from iawlb.observe import formats
from iawlb.observe.formats import GETTERS, STATUS, formatNamed
from iawlb.observe.moments import MONTHS, haproxySecond, isoSecond, syslogSecond
from tests.doubles import session

MOMENT = 1_795_646_660.568
"""
2026-11-25T22:44:20.568Z, the time of day in these tests.
"""

TCPLOG = re.compile(
    r"(?P<client>\S+):(?P<port>\d+) "
    r"\[(?P<date>\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d\.\d{3})\] "
    r"(?P<frontend>\S+) (?P<backend>[^/\s]+)/(?P<server>\S+) "
    r"(?P<tw>-?\d+)/(?P<tc>-?\d+)/(?P<tt>\+?\d+) (?P<bytes>\+?\d+) "
    r"(?P<code>[A-Za-z-]{2}) "
    r"(?P<ac>\d+)/(?P<fc>\d+)/(?P<bc>\d+)/(?P<sc>\d+)/(?P<rc>\d+) "
    r"(?P<sq>\d+)/(?P<bq>\d+)$"
)
"""
A line of HAProxy's C{option tcplog}, as parsers read it.
"""


class Case(SynchronousTestCase):
    """
    A session, at a moment.
    """

    def setUp(self) -> None:
        """
        Fix the time of day.
        """
        self.patch(formats, "time", lambda: MOMENT)

    def ended(self, outcome: Outcome = Outcome.DONE, **known: Any) -> Session:
        """
        Make a session that was accepted at 10 s and has ended at 12.5 s.
        """
        one = session(7, accepted=10.0)
        for name, value in known.items():
            setattr(one, name, value)
        one.ended = 12.5
        one.outcome = outcome
        return one

    def served(self, outcome: Outcome = Outcome.DONE, **known: Any) -> Session:
        """
        Make a session that a destination has served.
        """
        return self.ended(
            outcome,
            **{
                "destination": "a",
                "pulled": 11.0,
                "connected": 11.25,
                "tries": 1,
                "_bytes": (120, 4096),
                **known,
            },
        )

    def line(self, name: str, one: Session, event: str = "end") -> str:
        """
        Write a session's line, without its end.
        """
        line = formatNamed(name, timed=True)(one, 12.5, event)
        self.assertTrue(line.endswith("\n"))
        self.assertEqual(line.count("\n"), 1)
        return line[:-1]

    def tcplog(self, one: Session, event: str = "end") -> dict[str, str]:
        """
        Read a line of HAProxy's.
        """
        line = self.line("tcplog", one, event)
        match = TCPLOG.match(line)
        assert match is not None, line
        return match.groupdict()


class TextTests(Case):
    """
    The format for people.
    """

    def test_line(self) -> None:
        """
        The line says what has happened, in words.
        """
        self.assertEqual(
            self.line("text", self.served()),
            "192.0.2.1:1 to a: closed by both sides (--), waited 1.000 s, "
            "connect 0.250 s, total 2.500 s, 120 bytes in, 4096 out, tries 1, test",
        )
        self.assertEqual(
            self.line("text", self.ended(Outcome.QUEUE_TIMEOUT)),
            "192.0.2.1:1 to nobody: waited too long in the queue (sQ), waited 2.500 s, "
            "connect 0.000 s, total 2.500 s, 0 bytes in, 0 out, tries 0, test",
        )

    def test_running(self) -> None:
        """
        A line about a session that runs says so, in place of how it ended.
        """
        one = self.served()
        one.outcome = None
        self.assertIn(" to a: connected, waited 1", self.line("text", one, "connect"))
        self.assertIn(" to a: running, waited 1", self.line("text", one, "interval"))


class TcplogTests(Case):
    """
    HAProxy's line.
    """

    def test_served(self) -> None:
        """
        Each part is where HAProxy has it.
        """
        one = self.served(tries=3, ahead=4)
        found = self.tcplog(one)
        self.assertEqual(
            {key: found[key] for key in ("client", "port", "frontend", "backend")},
            {"client": "192.0.2.1", "port": "1", "frontend": "test"}
            | {"backend": "default"},
        )
        self.assertEqual((found["server"], found["code"]), ("a", "--"))
        self.assertEqual(
            (found["tw"], found["tc"], found["tt"]), ("1000", "250", "2500")
        )
        self.assertEqual((found["bytes"], found["rc"]), ("4096", "2"))
        self.assertEqual((found["sq"], found["bq"]), ("0", "4"))

    def test_accept(self) -> None:
        """
        The time is that of the accept, to the millisecond.
        """
        self.assertEqual(
            self.tcplog(self.served())["date"],
            f"{haproxySecond(int(MOMENT - 2.5))}.068",
        )

    def test_notReached(self) -> None:
        """
        What a session did not come to is -1, and its server <NOSRV>.
        """
        for outcome, times in (
            (Outcome.QUEUE_TIMEOUT, ("2500", "-1", "2500")),
            (Outcome.CLIENT_LEFT_QUEUE, ("2500", "-1", "2500")),
            (Outcome.CLIENT_LEFT_HANDSHAKE, ("-1", "-1", "2500")),
            (Outcome.FIRST_BYTE_TIMEOUT, ("-1", "-1", "2500")),
        ):
            found = self.tcplog(self.ended(outcome))
            self.assertEqual((found["tw"], found["tc"], found["tt"]), times)
            self.assertEqual(
                (found["server"], found["code"]), ("<NOSRV>", outcome.code)
            )
            self.assertEqual(found["rc"], "0")
        found = self.tcplog(self.served(Outcome.CLIENT_LEFT_CONNECT, connected=None))
        self.assertEqual((found["tw"], found["tc"]), ("1000", "-1"))

    def test_outcomes(self) -> None:
        """
        The two letters are there for each way to end.
        """
        for outcome in Outcome:
            self.assertEqual(self.tcplog(self.served(outcome))["code"], outcome.code)

    def test_counts(self) -> None:
        """
        A session that ends is counted as one of the process and of the frontend, and no
        more of the backend and the server, as in HAProxy; one that runs is counted
        everywhere.
        """
        one = self.served()
        format = formatNamed("tcplog", timed=True)
        assert isinstance(format, formats.TcpFormat)
        format.count = lambda session: (5, 3, 2)
        self.assertIn(" 6/4/3/2/0 ", format(one, 12.5, "end"))
        one.outcome = None
        self.assertIn(" 5/3/3/2/0 ", format(one, 12.5, "interval"))

    def test_ownCount(self) -> None:
        """
        Without a balancer the sessions of the pool are counted.
        """
        one = self.served()
        one.origin.pool.live = 8
        found = self.tcplog(one)
        self.assertEqual((found["ac"], found["fc"], found["bc"]), ("9", "9", "8"))

    def test_running(self) -> None:
        """
        What is not final has a plus before it, as with HAProxy's logasap.
        """
        one = self.served()
        one.outcome = None
        found = self.tcplog(one, "interval")
        self.assertEqual((found["tt"], found["bytes"]), ("+2500", "+4096"))
        self.assertEqual(found["code"], "--")

    def test_clients(self) -> None:
        """
        A client's address is one word, whatever its family.
        """
        for address, text in (
            (IPv6Address("TCP", "2001:db8::1", 5), "2001:db8::1:5 ["),
            (UNIXAddress(b"/tmp/a b"), "unix:/tmp/a\\x20b ["),
            (None, "None ["),
        ):
            line = self.line("tcplog", self.served(address=address))
            self.assertTrue(line.startswith(text), line)

    def test_prefix(self) -> None:
        """
        In a file the line begins as the one that a syslog server writes.
        """
        line = formatNamed("tcplog")(self.served(), 12.5, "end")
        self.assertRegex(
            line, r"^[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \S+ iawlb\[\d+\]: 192\.0"
        )
        self.assertTrue(line.startswith(syslogSecond(int(MOMENT))))


class HalogTests(Case):
    """
    HAProxy's HTTP line.
    """

    def test_line(self) -> None:
        """
        The time with the destination is the response's, and the first letter gives the
        status.
        """
        self.assertIn(
            " test default/a 0/1000/250/1250/2500 200 4096 - - ---- ",
            self.line("halog", self.served()),
        )
        self.assertIn(
            " test default/<NOSRV> 0/2500/-1/-1/2500 504 0 - - sQ-- ",
            self.line("halog", self.ended(Outcome.QUEUE_TIMEOUT)),
        )
        self.assertTrue(
            self.line("halog", self.served()).endswith(' 1/1/0/0/0 0/0 "TCP test -"')
        )

    def test_statuses(self) -> None:
        """
        There is a status for each way to end.
        """
        for outcome in Outcome:
            status = STATUS[outcome.code[0]]
            self.assertIn(f" {status} 4096 ", self.line("halog", self.served(outcome)))

    def test_running(self) -> None:
        """
        What is not final has a plus before it.
        """
        one = self.served()
        one.outcome = None
        self.assertIn("/+2500 200 +4096 - - ---- ", self.line("halog", one, "connect"))


class JsonTests(Case):
    """
    JSON.
    """

    def test_fields(self) -> None:
        """
        The object has the documented fields in the documented order, and each has the
        type that the documentation says or is null.
        """
        kinds = {"WORD": str, "INTEGER": int, "SECONDS": float}
        for outcome in Outcome:
            for one in (self.served(outcome), self.ended(outcome)):
                found = json.loads(self.line("json", one))
                self.assertEqual(list(found), list(FIELDS))
                for name, value in found.items():
                    if value is not None:
                        self.assertIs(type(value), kinds[FIELDS[name][0]], name)
                self.assertEqual(found["code"], outcome.code)
                self.assertEqual(found["text"], outcome.text)

    def test_values(self) -> None:
        """
        The values are the session's, and the time that of the accept.
        """
        found = json.loads(self.line("json", self.served(ahead=2)))
        self.assertEqual(found["time"], "2026-11-25T22:44:18.068Z")
        self.assertEqual((found["id"], found["ahead"]), (7, 2))
        self.assertEqual((found["waited"], found["connect"]), (1.0, 0.25))
        self.assertEqual((found["bytesIn"], found["bytesOut"]), (120, 4096))

    def test_unset(self) -> None:
        """
        What a session does not have is null.
        """
        found = json.loads(self.line("json", self.ended(Outcome.QUEUE_TIMEOUT)))
        self.assertIsNone(found["destination"])
        self.assertIsNone(found["connect"])
        self.assertEqual(found["waited"], 2.5)
        one = self.served()
        one.outcome = None
        found = json.loads(self.line("json", one, "interval"))
        self.assertEqual((found["code"], found["text"]), (None, None))
        self.assertEqual(found["event"], "interval")

    @given(strategies.text(), strategies.binary(max_size=107))
    def test_anyName(self, name: str, path: bytes) -> None:
        """
        Whatever a peer or a user has chosen as a name, the line is one object.
        """
        one = session(1)
        one.ended, one.outcome = 1.0, Outcome.DONE
        one.address = UNIXAddress(path)
        one.origin = Origin(PoolCount(name), name)
        one.destination = name
        line = formatNamed("json")(one, 1.0, "end")
        self.assertEqual(line.count("\n"), 1)
        found = json.loads(line)
        self.assertEqual((found["pool"], found["destination"]), (name, name))


class TemplateTests(Case):
    """
    Templates.
    """

    def test_getters(self) -> None:
        """
        Each field of the documentation has its value.
        """
        self.assertEqual(list(GETTERS), list(FIELDS))

    def test_line(self) -> None:
        """
        The fields are written as the template says.
        """
        self.assertEqual(
            self.line("{client} {destination:>3} {total:.3f}", self.served()),
            "192.0.2.1:1   a 2.500",
        )
        self.assertEqual(self.line("{{{id}}}", self.served()), "{7}")

    def test_sameAsJson(self) -> None:
        """
        Each field is what it is in JSON.
        """
        for one in (self.served(ahead=3), self.ended(Outcome.CLIENT_LEFT_QUEUE)):
            found = json.loads(self.line("json", one))
            for name in FIELDS:
                text = self.line(f"{{{name}}}", one)
                value = "-" if found[name] is None else str(found[name])
                self.assertEqual(text, value, name)

    def test_unset(self) -> None:
        """
        What a session does not have is a dash, whatever its format.
        """
        one = self.ended(Outcome.QUEUE_TIMEOUT)
        self.assertEqual(
            self.line("{destination:>9} {connect:.3f}|{connect}", one), "- -|-"
        )
        one.outcome = None
        self.assertEqual(
            self.line("{code} {text} {event}", one, "connect"), "- - connect"
        )

    def test_quotes(self) -> None:
        """
        A client cannot end the quotes that a template puts around its address.
        """
        one = self.served(address=UNIXAddress(b'/a" code="--\\'))
        self.assertEqual(
            self.line('client="{client}"', one), 'client="unix:/a\\" code=\\"--\\\\"'
        )


class InfoTests(Case):
    """
    What is known of a client beyond its address.
    """

    TEMPLATE = '{sni} {alpn} {tls} "{tlsClient}"'

    def test_tls(self) -> None:
        """
        The log has what the TLS handshake has told.
        """
        one = self.served()
        info = one.learn()
        info.serverName, info.protocol = "www.example.org", "h2"
        info.tls = TlsInfo("TLSv1.3", "TLS_X", 'a "client"\\\n', True)
        found = json.loads(self.line("json", one))
        self.assertEqual(
            [found[name] for name in ("sni", "alpn", "tls", "tlsClient")],
            ["www.example.org", "h2", "TLSv1.3/TLS_X", 'a "client"\\\n'],
        )
        self.assertEqual(
            self.line(self.TEMPLATE, one),
            'www.example.org h2 TLSv1.3/TLS_X "a \\"client\\"\\\\\\\\n"',
        )

    def test_nothing(self) -> None:
        """
        Fields of which nothing is known are unset, also if something else is known.
        """
        one = self.served()
        for _ in range(2):
            found = json.loads(self.line("json", one))
            for name in ("sni", "alpn", "tls", "tlsClient"):
                self.assertIsNone(found[name])
            self.assertEqual(self.line(self.TEMPLATE, one), '- - - "-"')
            one.learn()


class ClientTests(Case):
    """
    Clients that have chosen their own address.
    """

    def test_oneLine(self) -> None:
        """
        No address breaks a line in two, in any format.
        """
        addresses: list[IAddress | None] = [
            UNIXAddress(b"/a\nb\r\x1b[2J"),
            UNIXAddress(b"\0abstract"),
            UNIXAddress(None),
            IPv4Address("TCP", "a\nb", 1),
            IPv6Address("TCP", "a\nb", 1),
        ]
        for address in addresses:
            for name in (*FORMATS, "{client}"):
                line = self.line(name, self.served(address=address))
                self.assertTrue(line.isprintable(), line)


class MomentTests(SynchronousTestCase):
    """
    Times of day.
    """

    def test_written(self) -> None:
        """
        They are those of the system's clock, with English months.
        """
        for second in (0, 951_782_400, int(MOMENT)):
            local = time.localtime(second)
            month = MONTHS[local.tm_mon - 1]
            self.assertEqual(
                haproxySecond(second),
                time.strftime(f"%d/{month}/%Y:%H:%M:%S", local),
            )
            self.assertEqual(
                syslogSecond(second),
                f"{month} {local.tm_mday:2d} " + time.strftime("%H:%M:%S", local),
            )
        self.assertEqual(isoSecond(int(MOMENT)), "2026-11-25T22:44:20")
        self.assertEqual(MONTHS[1], "Feb")
