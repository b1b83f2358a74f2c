"""
Tests for the table of settings.
"""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass, fields
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from iawlb.errors import IawlbError, InvalidSetting
from iawlb.setting import checkNames, nearest, optionName, splitSettings
from iawlb.settings import DestinationSettings, ListenerSettings, Settings
from iawlb.validators import flag

repeatable = settings(deadline=None, derandomize=True, database=None)


@dataclass(frozen=True, kw_only=True)
class Few:
    """
    Settings that are few.
    """

    slots: int = 1
    restTime: int = 1


class SettingsTests(SynchronousTestCase):
    """
    The tables.
    """

    def test_defaults(self) -> None:
        """
        The defaults are the ones that the documentation promises.
        """
        own = Settings()
        self.assertEqual(
            {each.name: getattr(own, each.name) for each in fields(own)},
            {
                "policy": "least",
                "affinity": "address",
                "loadFactor": 0.0,
                "spillAfter": 0.0,
                "slots": 0,
                "poolSlots": 0,
                "rest": 0.0,
                "whenDown": "hold",
                "queueSize": 10_000,
                "maxConnections": 0,
                "backlog": 4096,
                "acceptBatch": 1,
                "acceptDelay": 0.005,
                "takeSlot": "accept",
                "abortOnClose": False,
                "relay": "auto",
                "bufferSize": 256 * 1024,
                "strictTls": False,
                "log": "all",
                "connectTimeout": 5.0,
                "queueTimeout": 30.0,
                "handshakeTimeout": 10.0,
                "idleTimeout": 3600.0,
                "halfClosedTimeout": "idle",
                "keepaliveIdle": 60.0,
                "keepaliveInterval": 15.0,
                "keepaliveCount": 4,
                "userTimeout": 0.0,
                "answerTimeout": 0.0,
                "allow": (),
                "deny": (),
                "maxSessions": 0,
                "sessionRate": "0",
                "maxPerSource": 0,
                "sourceRate": "0",
                "sourceMask": (32, 56),
                "overLimit": "delay",
                "fairness": False,
                "clientTimeout": 0.0,
                "sendProxy": "off",
                "proxyTlvs": (),
                "tls": False,
                "tlsCa": "",
                "tlsName": "",
                "tlsVerify": True,
                "tlsCertificate": "",
                "tlsKey": "",
                "tlsAlpn": (),
                "bandwidthIn": 0,
                "bandwidthOut": 0,
                "acceptProxy": (),
                "proxyTimeout": 5.0,
                "maxAge": 0.0,
                "maxAgeJitter": 0.1,
                "through": "",
                "serverNames": (),
                "protocols": (),
                "drainTimeout": 30.0,
                "backoff": 0.1,
                "backoffMax": 5.0,
                "healthCheck": "off",
                "checkAddress": "",
                "checkInterval": 2.0,
                "checkFast": 0.5,
                "checkDown": 1.0,
                "checkTimeout": 2.0,
                "rise": 2,
                "fall": 3,
                "checkMethod": "GET",
                "checkStatus": ("2xx", "3xx"),
                "checkSend": "",
                "checkExpect": "",
                "checkCommand": (),
                "checkPasswordFile": "",
                "agent": "",
                "ejectAfter": 0,
                "slowStart": 0.0,
                "endOnDown": False,
            },
        )
        one = DestinationSettings()
        self.assertEqual((one.slots, one.weight), (0, 1))

    def test_textAndNumbers(self) -> None:
        """
        A value given as on the command line and one given as a number are the
        same setting.
        """
        self.assertEqual(
            Settings(queueTimeout="1m", bufferSize="64k", slots="4"),  # type: ignore[arg-type]
            Settings(queueTimeout=60, bufferSize=65536, slots=4),
        )

    def test_invalidNamesSetting(self) -> None:
        """
        A bad value is refused when the settings are made, with the setting's name,
        the value and what would be right.
        """
        for kind, wrong, says in (
            (Settings, {"queueTimeout": "soon"}, "queueTimeout: 'soon' is not a"),
            (Settings, {"connectTimeout": 0}, "connectTimeout: 0 must be more"),
            (Settings, {"policy": "best"}, "least, fifo, first, source"),
            (DestinationSettings, {"weight": 0}, "weight: 0 is not a whole number"),
            (ListenerSettings, {"name": "a b"}, "name: 'a b' is not a name"),
        ):
            error = self.assertRaises(InvalidSetting, kind, **wrong)
            self.assertIn(says, str(error))
            self.assertIsInstance(error, IawlbError)
            self.assertIsInstance(error, ValueError)

    def test_cannotBeChanged(self) -> None:
        """
        Settings that were checked stay as they are.
        """
        own: Any = Settings()
        with self.assertRaises(FrozenInstanceError):
            own.slots = -1

    def test_everySettingIsExplained(self) -> None:
        """
        Each setting has a default that can be typed, and a text for the help; and its
        value has a name there, unless its option has none.
        """
        for kind in (Settings, DestinationSettings, ListenerSettings):
            for each in fields(kind):
                of = each.metadata
                self.assertEqual(of["read"](of["shown"]), each.default)
                self.assertTrue(of["text"])
                self.assertEqual(of["unit"] == "", of["read"] is flag)

    def test_optionName(self) -> None:
        """
        A setting is spelled with dashes on the command line.
        """
        names = [optionName(each) for each in fields(Settings)]
        self.assertIn("connect-timeout", names)
        self.assertIn("slots", names)
        self.assertEqual(len(set(names)), len(names))

    def test_checkNames(self) -> None:
        """
        A setting that does not exist is refused, with the one that was meant, or with
        all settings that there are.
        """
        checkNames({"slots": "1", "name": "a"}, DestinationSettings, "a destination")
        for kind, key, message in (
            (
                Few,
                "timeout",
                "'timeout' is not a setting of it, which has slots, restTime",
            ),
            (DestinationSettings, "slot", "'slot' is not a setting of it: write slots"),
            (
                Settings,
                "queue_timout",
                "'queue_timout' is not a setting of it: write queueTimeout",
            ),
            (
                Settings,
                "zzz",
                "'zzz' is not a setting of it; docs/reference.md lists them",
            ),
            (
                Settings,
                "z" * 99,
                f"'{'z' * 40}' is not a setting of it; docs/reference.md lists them",
            ),
        ):
            error = self.assertRaises(InvalidSetting, checkNames, {key: 1}, kind, "it")
            self.assertEqual(str(error), message)

    def test_checkNamesBehind(self) -> None:
        """
        Behind an address a message names settings as they are written there.
        """
        checkNames({"restTime": "1"}, Few, "it", behind=True)
        error = self.assertRaises(
            InvalidSetting, checkNames, {"restTim": 1}, Few, "it", behind=True
        )
        self.assertEqual(
            str(error), "'rest-tim' is not a setting of it: write rest-time"
        )

    def test_nearest(self) -> None:
        """
        A name that is nearly right, or written as in other languages, is found.
        """
        known = ["connectTimeout", "queueTimeout", "slots"]
        for word, meant in (
            ("connect_timeout", "connectTimeout"),
            ("QUEUE-TIMEOUT", "queueTimeout"),
            ("slot", "slots"),
            ("bananas", None),
            ("", None),
        ):
            self.assertEqual(nearest(word, known), meant)
        many = ["connect-timeout", "idle-timeout", *"abcdef"]
        self.assertIsNone(nearest("max-connections", many))
        self.assertEqual(nearest("conect-timeout", many), "connect-timeout")


class SplitTests(SynchronousTestCase):
    """
    Settings behind an address.
    """

    def test_split(self) -> None:
        """
        The settings behind an address are split from it; the address is left as it was
        written, including spaces within it.
        """
        for text, address, behind in (
            ("9001", "9001", {}),
            ("  9001  ", "9001", {}),
            ("", "", {}),
            ("a:1 name=x slots=4", "a:1", {"name": "x", "slots": "4"}),
            (" a:1\tslots=  ", "a:1", {"slots": ""}),
            ("name=x", "name=x", {}),
            ("tcp:a:1:timeout=5 weight=2", "tcp:a:1:timeout=5", {"weight": "2"}),
            ("unix:/my  files/s name=x", "unix:/my  files/s", {"name": "x"}),
            ("a:1 name=b=c", "a:1", {"name": "b=c"}),
            ("a:1 send-proxy=v2", "a:1", {"sendProxy": "v2"}),
            ("a:1 name=x other", "a:1 name=x other", {}),
        ):
            self.assertEqual(splitSettings(text), (address, behind))

    def test_givenTwice(self) -> None:
        """
        A setting that is given twice is refused, since it is not clear which value
        counts.
        """
        for text, key in (
            ("a:1 slots=1 slots=2", "slots"),
            ("a:1 rest-time=1 restTime=2", "rest-time"),
        ):
            error = self.assertRaises(InvalidSetting, splitSettings, text)
            self.assertEqual(str(error), f"{key} is given twice")

    def test_wrongly(self) -> None:
        """
        A setting that is written in another way is not taken for a part of the
        address; what is right is said.
        """
        for text, *parts in (
            ("a:1 slots 4", "'slots 4'", "write slots=4"),
            ("a:1 slots = 4", "'slots = 4'", "write slots=4"),
            ("a:1 weight: 4", "'weight: 4'", "write weight=4"),
            ("/my files/a slots 4", "'slots 4'", "write slots=4"),
            ("a:1 name : a", "'name : a'", "write name=a"),
            ("a:1 weight 2 slots=4", "'weight 2'", "write weight=2"),
            ("a:1 name=a,slots=4", "'name=a,slots=4'", "space before 'slots=4'"),
            ("a:1 slots=4;weight=2", "'slots=4;weight=2'", "before 'weight=2'"),
        ):
            error = self.assertRaises(InvalidSetting, splitSettings, text)
            for part in parts:
                self.assertIn(part, str(error))

    @repeatable
    @given(
        st.sampled_from(["9001", "tcp:a:1", "unix:/my files/x", "a:1 b"]),
        st.dictionaries(
            st.sampled_from(["name", "me", "slots", "s"]),
            st.lists(st.sampled_from(["name=", "s=", "x", "="])).map("".join),
        ),
    )
    def test_anySettings(self, address: str, given: dict[str, str]) -> None:
        """
        Whatever the values hold, address and settings come back as they were.
        """
        text = " ".join([address, *(f"{key}={given[key]}" for key in given)])
        self.assertEqual(splitSettings(text), (address, given))
