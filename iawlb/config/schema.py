"""
The JSON Schema of the configuration file, made from the tables of settings. Editors
complete and check a file with it.
"""

from __future__ import annotations

from dataclasses import Field, fields
from typing import Any

from iawlb.config.keys import DESTINATION, GLOBAL, LISTENER, POOL, PROCESS, Keys
from iawlb.settings import DestinationSettings
from iawlb.validators import flag, poolName, shapeOf

Schema = dict[str, Any]

_PORT = {"type": "integer", "minimum": 0, "maximum": 65535}
_ADDRESS = {"anyOf": [_PORT, {"type": "string", "minLength": 1}]}
_NAME = next(each for each in fields(DestinationSettings) if each.name == "name")


def schema() -> Schema:
    """
    Return the JSON Schema (draft 2020-12) of the configuration file.
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "iawlb",
        "description": "The configuration file of the load balancer iawlb.",
        **_table(
            {
                "global": {
                    "description": "Settings of the whole balancer.",
                    **_table(_settings(GLOBAL)),
                },
                "defaults": {
                    "description": "Settings of all pools that do not have their own.",
                    **_table(_settings(POOL)),
                },
                "pools": {
                    "description": "The pools, by their names.",
                    "type": "object",
                    "minProperties": 1,
                    "propertyNames": shapeOf(poolName),
                    "additionalProperties": {"$ref": "#/$defs/pool"},
                },
                **{
                    section: _table(_settings(keys))
                    for section, keys in PROCESS.items()
                },
            },
            "pools",
        ),
        "$defs": {
            "pool": _pool(),
            "listener": _addressed("Where clients connect to.", LISTENER),
            "destination": _addressed(
                "Where connections are forwarded to.", DESTINATION
            ),
        },
    }


def _pool() -> Schema:
    listener = {"$ref": "#/$defs/listener"}
    return {
        "description": "One queue, with its listeners and destinations.",
        **_table(
            {
                "listen": {
                    "description": "Where to accept connections: an address, or "
                    "several.",
                    "anyOf": [
                        listener,
                        {"type": "array", "minItems": 1, "items": listener},
                    ],
                },
                "destinations": {
                    "description": "Where to forward them: destinations by their "
                    "names.",
                    "type": "object",
                    "propertyNames": shapeOf(_NAME.metadata["read"]),
                    "additionalProperties": {"$ref": "#/$defs/destination"},
                },
                **_settings(POOL),
            },
        ),
        # Clients come by its own listeners, or through those of another pool.
        "anyOf": [{"required": ["listen"]}, {"required": ["through"]}],
    }


def _addressed(text: str, keys: Keys) -> Schema:
    """
    Return the schema of an address, alone or with settings.
    """
    address = {"description": text, **_ADDRESS}
    with_ = _table({"address": address, **_settings(keys)}, "address")
    return {"description": text, "anyOf": [*_ADDRESS["anyOf"], with_]}


def _table(properties: Schema, *required: str) -> Schema:
    """
    Return the schema of a table.
    """
    made: Schema = {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }
    return {**made, "required": list(required)} if required else made


def _settings(keys: Keys) -> Schema:
    """
    Return the schemas of settings, by their keys.
    """
    return {key: _setting(of) for key, of in keys.items()}


def _setting(of: Field[Any]) -> Schema:
    text = of.metadata["text"]
    made = {
        "description": text[0].upper() + text[1:] + ".",
        **shapeOf(of.metadata["read"]),
    }
    if of.name != "name":  # it is the address
        made["default"] = _default(of)
    return made


def _default(of: Field[Any]) -> Any:
    """
    Return a setting's default as one would write it in the file.
    """
    shown: str = of.metadata["shown"]
    if of.metadata["read"] is flag:
        return of.default
    return int(shown) if shown.isdecimal() else shown
