"""
Tests for the words of an agent.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from iawlb.health.words import MOST_SLOTS, Words, readWords
from tests.test_settings import repeatable


class WordsTests(SynchronousTestCase):
    """
    What an agent may say.
    """

    def test_words(self) -> None:
        """
        The words of HAProxy's agents are read, in any order and case.
        """
        for text, words in (
            ("up", Words(up=True)),
            ("UP\r", Words(up=True)),
            ("down", Words(up=False, why="down")),
            ("failed # disk is full", Words(up=False, why="failed: disk is full")),
            ("stopped", Words(up=False, why="stopped")),
            ("drain", Words(withdrawn="drain")),
            ("maint", Words(withdrawn="maint")),
            ("ready", Words(withdrawn="")),
            ("75%", Words(share=75)),
            ("0%", Words(share=0)),
            ("maxconn:10", Words(slots=10)),
            ("maxconn:0", Words(slots=0)),
            ("ready,up 50% maxconn:3", Words(True, "", "", 50, 3)),
            ("up # drain 5%", Words(up=True)),
            ("", Words()),
            ("hello 75 maxconn: maxconn:x 5%% -5% maxconn:5% %", Words()),
            ("٣%", Words()),
            ("9999999% maxconn:9999999", Words(share=1000, slots=MOST_SLOTS)),
        ):
            self.assertEqual(readWords(text), words, text)

    @repeatable
    @given(st.text(max_size=60))
    def test_anyText(self, text: str) -> None:
        """
        No text is an error.
        """
        words = readWords(text)
        self.assertTrue(words.share is None or 0 <= words.share <= 1000)
        self.assertTrue(words.slots is None or 0 <= words.slots <= MOST_SLOTS)
