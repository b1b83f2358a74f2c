"""
Tests for the settings of the process around a balancer.
"""

from __future__ import annotations

from dataclasses import fields

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
