"""
Every setting: its name, default, unit, limits and meaning.

The command line, the configuration file and the Python API all read this table, whose
parts are the modules of C{options}. On the command line C{connectTimeout} is written
C{--connect-timeout}; a value given as text and one given as a Python number pass the
same validator.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

from iawlb.errors import InvalidSetting
from iawlb.options.admission import ListenerAdmission, PoolAdmission
from iawlb.options.affinity import PoolAffinity
from iawlb.options.basics import DestinationBasics, ListenerBasics, PoolBasics
from iawlb.options.bounds import PoolBounds
from iawlb.options.health import DestinationHealth, PoolHealth
from iawlb.options.proxy import DestinationProxy, ListenerProxy, PoolProxy
from iawlb.options.routing import PoolRouting
from iawlb.options.tls import DestinationTls, ListenerTls, PoolTls
from iawlb.options.wake import DestinationWake


# The fields of the last base come first, in the help too.
@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(
    PoolHealth,
    PoolAffinity,
    PoolBounds,
    PoolAdmission,
    PoolRouting,
    PoolTls,
    PoolProxy,
    PoolBasics,
):
    """
    The settings of a pool, and those of the whole balancer. Durations are seconds,
    sizes bytes.

    @raise InvalidSetting: A value is out of its limits.
    """

    def take(self, other: Settings) -> None:
        """
        Take over all values of other settings. Objects that read their settings from
        this one use the new values from then on.
        """
        for each in fields(self):
            object.__setattr__(self, each.name, getattr(other, each.name))


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationSettings(
    DestinationWake,
    DestinationHealth,
    DestinationTls,
    DestinationProxy,
    DestinationBasics,
):
    """
    The settings of one destination, written after its address.

    @raise InvalidSetting: A value is out of its limits.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerSettings(
    ListenerAdmission,
    ListenerTls,
    ListenerProxy,
    ListenerBasics,
):
    """
    The settings of one listener, written after its address.

    @raise InvalidSetting: A value is out of its limits.
    """


def inherited(
    settings: Settings, kind: type[DestinationSettings | ListenerSettings]
) -> dict[str, Any]:
    """
    Return the values that a pool has for settings of its destinations or its listeners:
    those of the same names. A destination or listener may have its own instead.

    @param settings: The settings of the pool.
    @param kind: The settings of which values are wanted.
    """
    names = {each.name for each in fields(Settings)}
    return {
        each.name: getattr(settings, each.name)
        for each in fields(kind)
        if each.name in names and each.metadata["inherits"]
    }


def checkScope(given: Iterable[str], scope: str) -> None:
    """
    Refuse settings of another scope.

    @param given: Names of settings.
    @param scope: C{pool} or C{global}.
    @raise InvalidSetting: A setting belongs to the other scope.
    """
    for each in fields(Settings):
        if each.name in given and each.metadata["scope"] != scope:
            right = "the whole balancer" if scope == "pool" else "each pool"
            raise InvalidSetting(f"{each.name} is a setting of {right}")


def checkLive(old: Settings, new: Settings) -> None:
    """
    Refuse changes that have no effect while the balancer runs.

    @raise InvalidSetting: Such a setting differs.
    """
    for each in fields(Settings):
        value = getattr(old, each.name)
        if not each.metadata["live"] and getattr(new, each.name) != value:
            raise InvalidSetting(
                f"{each.name} cannot change while the balancer runs; it is {value}"
            )
