"""
Settings from the environment, C{IAWLB_QUEUE_TIMEOUT=10s}, and from options.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import Field
from typing import Any

from iawlb.config.keys import ALL
from iawlb.config.model import Given, Origin
from iawlb.config.wording import readShown, written
from iawlb.errors import InvalidConfiguration, InvalidSetting
from iawlb.setting import nearest, optionName

PREFIX = "IAWLB_"

OTHER_VARIABLES = frozenset(("IAWLB_CONFIG", "IAWLB_TOKEN_FILE"))
"""
Variables of ours that are no settings: the file, and what a client needs.
"""

_KUBERNETES = re.compile(
    r"IAWLB_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_[A-Z]+(_[A-Z]+)?)?)"
)
"""
Variables that Kubernetes sets in every container when there is a service called iawlb,
or one whose name begins so.
"""


def variableName(of: Field[Any]) -> str:
    """
    Return a setting's name in the environment, such as C{IAWLB_QUEUE_TIMEOUT}.
    """
    return PREFIX + optionName(of).upper().replace("-", "_")


def readGiven(
    environment: Mapping[str, str], options: Mapping[str, object]
) -> dict[str, Given]:
    """
    Read the settings that are given outside of a file. Options win.

    @param options: The values by the settings' names in Python.
    @return: The settings by their names in Python.
    @raise InvalidConfiguration: A value or a variable is wrong.
    """
    mistakes: list[str] = []
    given = {
        **_fromEnvironment(environment, mistakes),
        **_fromOptions(options, mistakes),
    }
    if mistakes:
        raise InvalidConfiguration(mistakes)
    return given


def _fromEnvironment(
    environment: Mapping[str, str], mistakes: list[str]
) -> dict[str, Given]:
    """
    Read the settings in the environment.

    @param mistakes: Gets a line for each variable that is wrong.
    @return: The settings by their names in Python.
    """
    known = {variableName(each): each for each in ALL.values()}
    found: dict[str, Given] = {}
    for variable in sorted(environment):
        if variable in known:
            _read(known[variable], environment[variable], variable, found, mistakes)
        elif (
            variable.startswith(PREFIX)
            and variable not in OTHER_VARIABLES
            and not _KUBERNETES.fullmatch(variable)
        ):
            names = [each.removeprefix(PREFIX) for each in (*known, *OTHER_VARIABLES)]
            near = nearest(variable.removeprefix(PREFIX), names)
            # Other programs may have variables that begin so, too.
            if near is not None:
                shown = written(variable)[1:-1]
                mistakes.append(
                    f"{shown}: there is no such variable: write {PREFIX}{near}"
                )
    return found


def _fromOptions(
    options: Mapping[str, object], mistakes: list[str]
) -> dict[str, Given]:
    """
    Read the settings that were given as options.

    @param options: The values by the settings' names in Python.
    @param mistakes: Gets a line for each value that is wrong.
    @return: The settings by their names in Python.
    """
    found: dict[str, Given] = {}
    for name, value in options.items():
        _read(ALL[name], value, f"--{optionName(ALL[name])}", found, mistakes)
    return found


def _read(
    of: Field[Any],
    value: object,
    source: str,
    found: dict[str, Given],
    mistakes: list[str],
) -> None:
    try:
        read = readShown(of.metadata["read"], value)
    except InvalidSetting as error:
        mistakes.append(f"{source}: {error}")
    else:
        found[of.name] = Given(read, Origin(source))
