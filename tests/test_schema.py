"""
Tests for the JSON Schema of the configuration file.
"""

from __future__ import annotations

import tomllib
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from twisted.trial.unittest import SynchronousTestCase

from iawlb.config.keys import DESTINATION, GLOBAL, LISTENER, POOL, PROCESS
from iawlb.config.read import readConfiguration
from iawlb.config.schema import schema
from iawlb.errors import InvalidConfiguration, InvalidSetting
from iawlb.settings import Settings
from iawlb.validators import shapeOf
from tests.test_configuration import WHOLE

repeatable = settings(deadline=None, derandomize=True, database=None)

SCHEMA = Draft202012Validator(schema())
FIELDS: list[Field[Any]] = [
    each
    for keys in (GLOBAL, POOL, LISTENER, DESTINATION, *PROCESS.values())
    for each in keys.values()
]

values = st.one_of(
    st.integers(),
    st.integers(0, 2000),
    st.floats(),
    st.booleans(),
    st.text(max_size=5),
    st.sampled_from(
        ["yes", "no", "least", "hold", "idle", "auto", "all", "first-byte", "660", "0"]
    ),
    st.from_regex(r"[0-9]{1,6}(\.[0-9])?(ms|s|m|h|k|M)?", fullmatch=True),
    st.lists(st.integers(), max_size=1),
)
tables = st.dictionaries(
    st.sampled_from([*POOL, *GLOBAL, "listen", "destinations", "address", "x"]),
    st.one_of(
        values,
        st.lists(
            st.one_of(
                st.integers(0, 70_000), st.fixed_dictionaries({"address": values})
            )
        ),
        st.dictionaries(
            st.text("ab ", max_size=2),
            st.one_of(
                st.integers(1, 70_000),
                st.fixed_dictionaries(
                    {"address": st.integers(1, 70_000)},
                    optional={"slots": values, "weight": values, "name": values},
                ),
            ),
        ),
    ),
    max_size=3,
)


def toml(value: Any) -> str:
    """
    Write a value as TOML.
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        escaped = "".join(
            f"\\U{ord(each):08x}" if not each.isalnum() else each for each in value
        )
        return f'"{escaped}"'
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, dict):
        pairs = (f"{toml(key)} = {toml(inner)}" for key, inner in value.items())
        return f"{{{', '.join(pairs)}}}"
    return repr(value)


class SchemaTests(SynchronousTestCase):
    """
    L{schema}.
    """

    def test_valid(self) -> None:
        """
        The schema is a JSON Schema, and the file of the tests fits it.
        """
        Draft202012Validator.check_schema(schema())
        SCHEMA.validate(tomllib.loads(WHOLE))

    def test_through(self) -> None:
        """
        A pool whose clients come through the listeners of another needs no C{listen}.
        """
        pool = {"through": "web", "server-names": ["api.example.org"]}
        SCHEMA.validate({"pools": {"web": {"listen": 8443}, "api": pool}})

    def test_complete(self) -> None:
        """
        Each setting is in the schema, with its meaning, and with a default that fits;
        and each has a shape.
        """
        properties = schema()["properties"]
        pool = schema()["$defs"]["pool"]["properties"]
        for keys, found in (
            (GLOBAL, properties["global"]["properties"]),
            (POOL, properties["defaults"]["properties"]),
            (POOL, pool),
            *((PROCESS[each], properties[each]["properties"]) for each in PROCESS),
        ):
            for key, of in keys.items():
                self.assertGreater(len(found[key]["description"]), 10)
                Draft202012Validator(found[key]).validate(found[key]["default"])
                read = of.metadata["read"]
                self.assertEqual(read(found[key]["default"]), of.default)
                self.assertTrue(shapeOf(read), key)
        names = {each.name for each in fields(Settings)}
        both = {each.name for each in (*GLOBAL.values(), *POOL.values())}
        self.assertEqual(both, names)

    @repeatable
    @given(st.sampled_from(FIELDS), values)
    def test_values(self, of: Field[Any], value: Any) -> None:
        """
        A value that the reader takes fits the schema; and a number that fits the schema
        is taken.
        """
        read = of.metadata["read"]
        fits = Draft202012Validator(shapeOf(read)).is_valid(value)
        try:
            read(value)
            taken = True
        except InvalidSetting:
            taken = False
        if taken:
            self.assertTrue(fits, (of.name, value))
        # To JSON, 4.0 is a whole number; and a comparison with nan is never wrong.
        elif isinstance(value, int) or (isinstance(value, float) and value % 1):
            self.assertFalse(fits, (of.name, value))

    @settings(parent=repeatable, max_examples=300)
    @given(
        st.dictionaries(
            st.sampled_from(["global", "defaults", "admin", "log", "x"]),
            tables,
            max_size=1,
        ),
        st.dictionaries(
            st.sampled_from(["web", "a b", ""]),
            tables.map(lambda table: {"listen": 8080, **table}),
            max_size=1,
        ),
    )
    def test_files(self, sections: dict[str, Any], pools: dict[str, Any]) -> None:
        """
        A file that the reader takes fits the schema, so an editor marks nothing in it
        as wrong.
        """
        document = {**sections, "pools": pools}
        text = "\n".join(f"{key} = {toml(document[key])}" for key in document)
        path = Path(self.mktemp())
        path.write_text(text)
        self.assertEqual(tomllib.loads(text).keys(), document.keys())
        try:
            readConfiguration(str(path), {}, {})
        except InvalidConfiguration:
            return
        SCHEMA.validate(document)

    def test_refused(self) -> None:
        """
        An editor marks what the reader refuses, as far as a schema can say it.
        """
        for text in (
            "",
            "pools = {}",
            "[pools.web]",
            "[pools.web]\nlisten = []",
            "[pools.web]\nlisten = true",
            "[pools.web]\nlisten = {}",
            "[pools.'a/b']\nlisten = 80",
            "[pools.web]\nlisten = 80\nqueue-timout = 3",
            "[pools.web]\nlisten = 80\nmax-connections = 3",
            "[pools.web]\nlisten = 80\nqueue-timeout = '30 s'",
            "[pools.web]\nlisten = 80\ndestinations = ['a:1']",
            "[pools.web]\nlisten = 80\ndestinations = { 'a b' = 1 }",
            "[pools.web]\nlisten = 80\ndestinations = { a = { slots = 1 } }",
            "[pools.web]\nlisten = 80\ndestinations = { a = { address = 1, x = 1 } }",
            "[pools.web]\nlisten = { address = '/a', mode = 660 }",
            "[pools.web]\nlisten = 80\n[colours]",
            "[pools.web]\nlisten = 80\n[log]\nlisten = 1",
        ):
            self.assertFalse(SCHEMA.is_valid(tomllib.loads(text)), text)
