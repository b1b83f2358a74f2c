"""
Tests for finding the lines of a TOML document.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from iawlb.config.lines import DEEPEST, Path, findLines

repeatable = settings(deadline=None, derandomize=True, database=None)

EXAMPLE = '''\
# a comment with [brackets] and "quotes
one = 1
[pools."my web"]
listen = [ "a]", # ]
  'b#', {address = "}", name.first = [
"x" ] },
]
text = """ not = 1
[neither] \\""" still"""""
'lit'."eral" = 1979-05-27 07:32:00 # a date
other = \'\'\'
a = 'b'
\'\'\'
[[several]]
n = 1
[[several]]
n = 2
[several.inner]
k = [[], {}]
[pools]
'''


def paths(value: Any, path: Path = ()) -> Iterator[Path]:
    """
    List the paths of all values in a document.
    """
    if path:
        yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from paths(inner, (*path, key))
    if isinstance(value, list):
        for index, inner in enumerate(value):
            yield from paths(inner, (*path, index))


def at(document: Any, path: Path) -> Any:
    """
    Return the value at a path.
    """
    for key in path:
        document = document[key]
    return document


# Each number in a document has a value of its own, and stands on the line of its key.

keys = st.one_of(
    st.text("abAB12_-", min_size=1, max_size=4),
    st.sampled_from(["'a b'", '"a.b"', '"\\u00e9"', "'#'", '"="', '"]"', '"\\""']),
)
gaps = st.sampled_from(["", " ", "\t"])
breaks = st.sampled_from(["", " ", "\n", "\n\n", " # ] } \" '''\n", "\r\n"])
strings = st.sampled_from(
    [
        '""',
        "''",
        '"a # b"',
        "'[a]'",
        '"\\\\"',
        '"\\""',
        '"""\nk = 1\n"""',
        "'''\n[a]\n'''",
        '"""a""b\\"""" ""',
        '"""x"""""',
        "'''x'''''",
        "''''''",
        '""""""',
        "true",
        "1.5e3",
        "inf",
        "1979-05-27 07:32:00",
        "07:32:00",
        "0xff",
    ]
).filter(lambda text: _isValue(text))


def _isValue(text: str) -> bool:
    try:
        tomllib.loads(f"a = {text}")
    except tomllib.TOMLDecodeError:
        return False
    return True


@st.composite
def values(draw: st.DrawFn, depth: int = 0) -> str:
    """
    Write a value; C{NUMBER} stands for a number.
    """
    kind = draw(st.integers(0, 3 if depth > 2 else 7))
    if kind < 2:
        return "NUMBER"
    if kind < 4:
        return draw(strings)
    if kind < 6:
        items = draw(st.lists(values(depth + 1), max_size=3))
        text = "["
        for item in items:
            text += draw(breaks) + item + draw(breaks) + ","
        return text + draw(breaks) + "]"
    names = draw(st.lists(keys, max_size=3, unique=True))
    pairs = [
        f"{draw(gaps)}{each}{draw(gaps)}={draw(gaps)}{draw(values(depth + 1))}"
        for each in names
    ]
    return "{" + ", ".join(pairs) + draw(gaps) + "}"


@st.composite
def documents(draw: st.DrawFn) -> str:
    """
    Write a document, which may be none.
    """
    text = draw(st.sampled_from(["", "# comment\n", "\n\n"]))
    for _ in range(draw(st.integers(0, 6))):
        dotted = f"{draw(gaps)}.{draw(gaps)}".join(
            draw(st.lists(keys, min_size=1, max_size=3))
        )
        kind = draw(st.integers(0, 4))
        if kind == 0:
            text += f"[{draw(gaps)}{dotted}{draw(gaps)}]"
        elif kind == 1:
            text += f"[[{draw(gaps)}{dotted}{draw(gaps)}]]"
        else:
            text += f"{dotted}{draw(gaps)}={draw(gaps)}{draw(values())}"
        text += draw(st.sampled_from(["\n", " # a = 1\n", "\r\n", "\n\n"]))
    for number in range(text.count("NUMBER")):
        text = text.replace("NUMBER", str(9_000_000 + number), 1)
    return text


class LineTests(SynchronousTestCase):
    """
    L{findLines}.
    """

    def test_example(self) -> None:
        """
        Each key is found on its line, however it is written.
        """
        lines = findLines(EXAMPLE)
        self.assertEqual(set(lines), set(paths(tomllib.loads(EXAMPLE))))
        for path, line in (
            (("one",), 2),
            (("pools",), 20),
            (("pools", "my web"), 3),
            (("pools", "my web", "listen", 0), 4),
            (("pools", "my web", "listen", 1), 5),
            (("pools", "my web", "listen", 2, "address"), 5),
            (("pools", "my web", "listen", 2, "name", "first", 0), 6),
            (("pools", "my web", "text"), 8),
            (("pools", "my web", "lit", "eral"), 10),
            (("pools", "my web", "other"), 11),
            (("several", 0, "n"), 15),
            (("several", 1), 16),
            (("several", 1, "inner", "k", 1), 19),
        ):
            self.assertEqual(lines[path], line, path)

    def test_deep(self) -> None:
        """
        Deep keys cost no more than others: their lines are not noted.
        """
        text = "a." * 3000 + "a = 1\nb = 2"
        lines = findLines(text)
        self.assertEqual(len(lines), DEEPEST + 1)
        self.assertEqual(lines["b",], 2)

    def test_nested(self) -> None:
        """
        Lists nested too deeply for Python are an error that the caller knows.
        """
        deep = "a = " + "[" * 100_000
        self.assertRaises(RecursionError, findLines, deep)

    @repeatable
    @given(documents())
    def test_any(self, text: str) -> None:
        """
        Whatever a document holds, all its keys are found and nothing else, and each
        number stands on the line that was noted for it.
        """
        try:
            document = tomllib.loads(text)
        except tomllib.TOMLDecodeError:
            return
        lines = findLines(text)
        known = [path for path in paths(document) if len(path) <= DEEPEST]
        self.assertEqual(set(lines), set(known))
        written = text.replace("\r\n", "\n").split("\n")
        for path in known:
            value = at(document, path)
            if isinstance(value, int) and value >= 9_000_000:
                self.assertIn(str(value), written[lines[path] - 1])
