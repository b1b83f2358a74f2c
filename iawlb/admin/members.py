"""
The members of a request: what each may be. The same description checks requests and
makes the document at C{/openapi.json}.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from iawlb.admin.problem import Problem
from iawlb.arguments import SHOWN, shown
from iawlb.setting import nearest
from iawlb.validators import LONGEST

REQUIRED: Any = object()
"""
The default of a member that has to be given.
"""

_NUMBER = re.compile(r"-?\d{1,15}(\.\d{1,30})?(e[+-]?\d{1,3})?", re.ASCII | re.I)

_TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "number": (int, float),
    "integer": int,
    "boolean": bool,
    "array": list,
    "scalar": (str, int, float, bool),
}
_CALLED = {
    "string": "a text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "array": "an array",
    "scalar": "a text, a number, true or false",
}


@dataclass(frozen=True, slots=True)
class Member:
    """
    One member of a body, or one parameter of a query.

    @ivar kind: The type in JSON; C{scalar} is a text, a number or a truth value.
    @ivar default: The value if the member is not given; if it is L{None}, C{null} may
        be given too.
    @ivar most: The largest number, or the longest text or array.
    @ivar parts: The words of a text that lists some, parted by commas.
    @ivar items: The members of each object of an array.
    """

    name: str
    kind: str
    text: str
    default: Any = REQUIRED
    least: float = 0
    most: float = 1024
    words: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    items: tuple[Member, ...] = field(default=())

    def read(self, value: Any, path: str = "") -> Any:
        """
        Check a value.

        @param path: What to write before the member's name in messages.
        @return: The value that the handler gets.
        @raise Problem: It is not what the member may be.
        """
        name = f"{path}{self.name}"
        if value is None and self.default is None:
            return None
        if self.kind == "integer" and isinstance(value, float) and value.is_integer():
            value = int(value)  # 4.0 is a whole number in JSON
        if not isinstance(value, _TYPES[self.kind]) or (
            isinstance(value, bool) and self.kind in ("number", "integer")
        ):
            right = _CALLED[self.kind] + (" or null" if self.default is None else "")
            raise Problem(400, f"{name}: {shown(value)} is not {right}")
        if self.words and value not in self.words:
            words = ", ".join(self.words)
            raise Problem(400, f"{name}: {shown(value)} is not one of {words}")
        if self.kind == "scalar":
            return value
        for each in str(value).split(",") if self.parts else ():
            if each not in self.parts:
                words = ", ".join(self.parts)
                raise Problem(400, f"{name}: {shown(each)} is not one of {words}")
        if isinstance(value, int | float) and not isinstance(value, bool):
            if self.least <= value <= self.most:
                return value
            raise Problem(
                400,
                f"{name}: {shown(value)} is not from {self.least:g} to {self.most:g}",
            )
        if isinstance(value, str | list) and not self.least <= len(value) <= self.most:
            raise Problem(
                400,
                f"{name}: has {len(value)} "
                f"{'items' if self.kind == 'array' else 'characters'}, and may have "
                f"from {self.least:g} to {self.most:g}",
            )
        if isinstance(value, list):
            return [
                readMembers(self.items, each, f"{name}[{place}].")
                for place, each in enumerate(value)
            ]
        return value

    def readText(self, text: str) -> Any:
        """
        Read the value of a parameter of a query.

        @raise Problem: It is not what the parameter may be.
        """
        if self.kind == "boolean" and text in ("true", "false"):
            return text == "true"
        if self.kind in ("number", "integer") and _NUMBER.fullmatch(text):
            return self.read(float(text))
        return self.read(text)

    def schema(self) -> dict[str, Any]:
        """
        Return the JSON schema.
        """
        made: dict[str, Any] = {"description": self.text}
        if self.kind == "scalar":
            kinds = ["string", "number", "boolean"]
        else:
            kinds = [self.kind]
        if self.default is None:
            kinds.append("null")
        made["type"] = kinds if len(kinds) > 1 else kinds[0]
        if self.default is not REQUIRED and self.default is not None:
            made["default"] = self.default
        if self.words:
            made["enum"] = [*self.words, *([None] if self.default is None else [])]
        elif self.parts:
            one = f"({'|'.join(self.parts)})"
            made["pattern"] = f"^{one}(,{one})*$"
        elif self.kind in ("number", "integer"):
            made.update(minimum=self.least, maximum=self.most)
        elif self.kind == "string":
            made.update(minLength=int(self.least), maxLength=int(self.most))
        elif self.kind == "array":
            made.update(minItems=int(self.least), maxItems=int(self.most))
            made["items"] = objectSchema(self.items)
        return made


def _refuseUnknown(members: Iterable[Member], given: Iterable[str], path: str) -> None:
    """
    Refuse names that are not declared.

    @raise Problem: There is one; the message says which is meant, or lists all.
    """
    known = [each.name for each in members]
    for name in given:
        if name not in known:
            meant = nearest(name[:SHOWN], known)
            right = f"write {meant}" if meant else f"there are {', '.join(known)}"
            if not known:
                right = "nothing may be given here"
            raise Problem(400, f"{path}{shown(name)[1:-1]} is not known: {right}")


def readMembers(
    members: tuple[Member, ...], given: Any, path: str = ""
) -> dict[str, Any]:
    """
    Check an object.

    @return: All declared members, those that were not given with their defaults.
    @raise Problem: A member is wrong, unknown or missing; the message names it.
    """
    if not isinstance(given, Mapping):
        raise Problem(400, f"{path.rstrip('.')}: {shown(given)} is not an object")
    _refuseUnknown(members, given, path)
    found = {}
    for each in members:
        if each.name in given:
            found[each.name] = each.read(given[each.name], path)
        elif each.default is REQUIRED:
            raise Problem(400, f"{path}{each.name} is missing: {each.text}")
        else:
            found[each.name] = each.default
    return found


def readQuery(
    members: tuple[Member, ...], given: Iterable[tuple[str, str]]
) -> dict[str, Any]:
    """
    Check the parameters of a query.

    @raise Problem: A parameter is wrong, unknown, or given twice.
    """
    found: dict[str, str] = {}
    for name, value in given:
        if name in found:
            raise Problem(400, f"{shown(name)[1:-1]} is given twice")
        found[name] = value
    _refuseUnknown(members, found, "")
    return {
        each.name: each.readText(found[each.name])
        if each.name in found
        else each.default
        for each in members
    }


def objectSchema(members: tuple[Member, ...]) -> dict[str, Any]:
    """
    Return the JSON schema of an object of members.
    """
    required = [each.name for each in members if each.default is REQUIRED]
    return {
        "type": "object",
        "properties": {each.name: each.schema() for each in members},
        **({"required": required} if required else {}),
        "additionalProperties": False,
    }


def timeout(name: str, default: Any, text: str) -> Member:
    """
    Make a member that is a time in seconds.
    """
    return Member(name, "number", text, default, most=LONGEST)
