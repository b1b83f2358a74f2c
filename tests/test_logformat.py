"""
Tests for the names of formats and places of the access log, and for templates.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from iawlb.errors import InvalidSetting
from iawlb.logformat import (
    FIELDS,
    FORMATS,
    LONGEST_TEMPLATE,
    logFormat,
    logTarget,
    parseTemplate,
)
from iawlb.processsettings import ProcessSettings


class Case(SynchronousTestCase):
    """
    A validator.
    """

    def read(self, value: object) -> str:
        """
        Validate a value.
        """
        raise NotImplementedError

    def refused(self, value: object) -> str:
        """
        Return the message about a wrong value, which is one line.
        """
        error = self.assertRaises(InvalidSetting, self.read, value)
        self.assertNotIn("\n", str(error))
        return str(error)


class FormatTests(Case):
    """
    L{logFormat}.
    """

    def read(self, value: object) -> str:
        """
        Read a format.
        """
        return logFormat(value)

    def test_names(self) -> None:
        """
        Each format is known by its name.
        """
        for name in FORMATS:
            self.assertEqual(logFormat(name), name)

    def test_wrongName(self) -> None:
        """
        For a name that is nearly right, the message has the right one.
        """
        self.assertTrue(self.refused("tcp-log").endswith(": write tcplog"))
        self.assertTrue(self.refused("JSON").endswith(": write json"))
        self.assertIn("text, tcplog, halog, json", self.refused("xyz"))
        for value in (None, 3, "", True):
            self.refused(value)

    def test_template(self) -> None:
        """
        Each field can stand in a template, with the formats that Python has for its
        kind.
        """
        for name in FIELDS:
            template = f"a {{{name}}} b"
            self.assertEqual(logFormat(template), template)
        logFormat("{total:.3f} {bytesIn:>10d} {client:<40}\t{{braces}}")
        self.assertEqual(
            parseTemplate("a {total:.3f}{{"),
            [("a ", "total", ".3f"), ("{", None, "")],
        )

    def test_unknownField(self) -> None:
        """
        A field that does not exist is named, with the right one if it is near, or all.
        """
        self.assertEqual(
            self.refused("{bytes_in}"),
            "{bytes_in} is not a field of a log line: write {bytesIn}",
        )
        self.assertIn("write {destination}", self.refused("{destinaton}"))
        self.assertIn("there are time, event, id, pool", self.refused("{zzz}"))

    def test_noAccess(self) -> None:
        """
        A template reaches nothing but the fields themselves.
        """
        for template in ("{}", "{0}", "{client.__class__}", "{client[0]}", "{ client}"):
            self.assertIn("is not a field", self.refused(template))
        self.assertIn("write {client}", self.refused("{client!r}"))

    def test_wrongSpec(self) -> None:
        """
        A format that does not fit its field is named, with one that would; so is one
        that would fill the memory, or that holds another field.
        """
        self.assertEqual(
            self.refused("{client:.3f}"),
            "{client:.3f}: '.3f' is not a format of client: write >20 for instance, as "
            "for text",
        )
        self.assertIn("for a number", self.refused("{total:d}"))
        self.assertIn("for a whole number", self.refused("{tries:s}"))
        self.assertIn("'>1000000000'", self.refused("{client:>1000000000}"))
        self.refused("{client:{tries}}")

    def test_wrongBraces(self) -> None:
        """
        Braces that do not match are refused, and how to write one is said.
        """
        for template in ("{client", "{client}}", "a { b", "}{"):
            self.assertIn("write {{ for a brace", self.refused(template))

    def test_oneLine(self) -> None:
        """
        A template is one line that can be read, and not too long.
        """
        for text in ("\n", "\r", "\0", "\x1b[2J"):
            self.assertIn("cannot be printed", self.refused("{client}" + text))
        self.assertIn("longer than", self.refused("{client}" * LONGEST_TEMPLATE))


class TargetTests(Case):
    """
    L{logTarget}.
    """

    def read(self, value: object) -> str:
        """
        Read a place.
        """
        return logTarget(value)

    def test_right(self) -> None:
        """
        The places that there are.
        """
        for place in (
            "-",
            "stdout",
            "syslog",
            "syslog:/run/log",
            "/var/log/iawlb/access log",
            "udp:loghost:514",
            "udp:192.0.2.1:1",
            "udp:[2001:db8::1]:514",
        ):
            self.assertEqual(logTarget(place), place)

    def test_wrong(self) -> None:
        """
        For what is no place, the message says what would be right.
        """
        for text, right in (
            ("access.log", "write the path from / on"),
            ("access.json", "write the path from / on"),
            ("logs/access", "write the path from / on"),
            ("udp:host", "write udp:host:514"),
            ("udp:host:0", "write udp:host:514"),
            ("udp:host:65536", "write udp:host:514"),
            ("udp:::1:514", "write udp:host:514"),
            ("syslog:dev", "write syslog:/dev/log"),
            ("stdot", ": write stdout"),
            ("tcp", "not one of -, stdout, syslog, /path"),
        ):
            self.assertIn(right, self.refused(text))
        wrong: list[object] = [None, 1, "", "/a\nb", "stdout "]
        for value in wrong:
            self.refused(value)


class SettingsTests(SynchronousTestCase):
    """
    The settings of the log.
    """

    def test_defaults(self) -> None:
        """
        Without a word of the user's, the log is as it always was.
        """
        settings = ProcessSettings()
        self.assertEqual(
            (settings.logFormat, settings.logTo, settings.logNull, settings.logLevel),
            ("text", "-", True, "info"),
        )
        self.assertEqual((settings.logConnect, settings.logInterval), (False, 0))
