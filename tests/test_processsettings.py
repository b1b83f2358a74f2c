"""
Tests for the settings of the process around a balancer.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from iawlb.errors import InvalidSetting
from iawlb.processsettings import ProcessSettings


class ProcessSettingsTests(SynchronousTestCase):
    """
    L{ProcessSettings}.
    """

    def test_defaults(self) -> None:
        """
        Without a word of the user's nothing listens and nothing is kept.
        """
        settings = ProcessSettings()
        self.assertEqual(
            (settings.admin, settings.metrics, settings.state), ("", "", "")
        )

    def test_places(self) -> None:
        """
        Each setting has a place of its own in the configuration file.
        """
        places = [
            (each.metadata["section"], each.metadata["key"])
            for each in fields(ProcessSettings)
        ]
        self.assertEqual(len(places), len(set(places)))
        self.assertIn(("admin", "listen"), places)

    def test_wrong(self) -> None:
        """
        A wrong value is refused, and the message names the setting.
        """
        error = self.assertRaises(InvalidSetting, ProcessSettings, admin="a\nb")
        self.assertTrue(str(error).startswith("admin: "))

    def test_metricsAddress(self) -> None:
        """
        An address for metrics is a port, host and port, or the path of a Unix socket.
        """
        for right in ("", "9100", "127.0.0.1:9100", "[::]:9100", "/run/m.sock"):
            self.assertEqual(ProcessSettings(metrics=right).metrics, right)
        number: Any = 9100  # as in the file
        self.assertEqual(ProcessSettings(metrics=number).metrics, "9100")
        for wrong in ("99999", "a b", "run/m.sock", "tcp:x", True, "127.0.0.1:0"):
            error = self.assertRaises(InvalidSetting, ProcessSettings, metrics=wrong)
            self.assertTrue(str(error).startswith("metrics: "), str(error))
        self.assertIn("write 127.0.0.1:9100, a port, or", str(error))
