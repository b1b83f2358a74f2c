"""
What has to change, so that a balancer with one configuration has another. Rules only,
no I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import Field, dataclass, fields, replace
from typing import Any, TypeVar

from iawlb.config.keys import GLOBAL, POOL, PROCESS, Keys, fileKey
from iawlb.config.model import (
    Configuration,
    DestinationConfig,
    ListenerConfig,
    PoolConfig,
)
from iawlb.config.wording import pathOf
from iawlb.settings import DestinationSettings, ListenerSettings

ADD = "add"
CHANGE = "change"
REMOVE = "remove"

_KEYS: Mapping[str, Keys] = {"pools": POOL, "global": GLOBAL, **PROCESS}
"""
The settings that each section of the file has.
"""

T = TypeVar("T")

Where = tuple[str, ...]
"""
The place of a value: C{("pools", "web", "destinations", "a", "slots")}. Names may hold
dots, so the joined path of a place is for people alone.
"""


@dataclass(frozen=True, slots=True)
class Change:
    """
    One change of a configuration.

    @ivar where: The place of what changes.
    @ivar before: The value before, or L{None} for what is added: a setting's value; a
        pool, listener or destination that is removed; or the names of destinations in
        their order.
    @ivar after: The value after, or L{None} for what is removed.
    @ivar action: C{add}, C{change} or C{remove}.
    """

    where: Where
    before: Any
    after: Any
    action: str

    @property
    def path(self) -> str:
        """
        The place, as messages name it.
        """
        return pathOf(self.where)

    @property
    def pool(self) -> str | None:
        """
        The name of the pool that changes, if it is one.
        """
        return self.where[1] if self.where[0] == "pools" else None

    def shown(self) -> dict[str, Any]:
        """
        Return the change with values that JSON has.
        """
        return {
            "path": self.path,
            "before": _written(self.where[-1], shown(self.before)),
            "after": _written(self.where[-1], shown(self.after)),
            "action": self.action,
        }


def shown(value: Any) -> Any:
    """
    Return a value of a configuration as JSON has it: an object becomes a short text.
    """
    if isinstance(value, PoolConfig):
        listeners = ", ".join(each.address for each in value.listeners)
        destinations = ", ".join(value.destinations)
        return f"listen {listeners or 'nowhere'}; destinations {destinations or 'none'}"
    if isinstance(value, ListenerConfig | DestinationConfig):
        kind = type(value.settings)
        values = [(each, getattr(value.settings, each.name)) for each in fields(kind)]
        own = [
            f"{fileKey(each)}={_behind(each.name, now)}"
            for each, now in values
            if each.name != "name" and now != each.default
        ]
        if value.name != value.address:
            own.insert(0, f"name={value.name}")
        return " ".join((value.address, *own))
    if isinstance(value, tuple):
        return list(value)
    return value


def _written(key: str, value: Any) -> Any:
    """
    Return the value of a setting as people write it: the mode of a socket is octal.
    """
    return f"{value:o}" if key == "mode" and isinstance(value, int) else value


def _behind(key: str, value: Any) -> Any:
    """
    Return the value of a setting as it is written behind an address.
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return _written(key, value)


def plan(before: Configuration, after: Configuration) -> list[Change]:
    """
    List what has to change so that the first configuration becomes the second, in the
    order in which a balancer does it: what is new comes before what goes.

    @return: Nothing, if the two are alike; where a value was written is not compared.
    """
    changes = list(_settings(("global",), before.settings, after.settings, GLOBAL))
    for section, keys in PROCESS.items():
        changes += _settings((section,), before.process, after.process, keys)
    for name, pool in after.pools.items():
        if name not in before.pools:
            changes.append(Change(("pools", name), None, pool, ADD))
    for name, pool in after.pools.items():
        if name in before.pools:
            changes += _pool(before.pools[name], pool)
    for name, pool in before.pools.items():
        if name not in after.pools:
            changes.append(Change(("pools", name), pool, None, REMOVE))
    return changes


def _settings(where: Where, before: Any, after: Any, keys: Keys) -> Iterator[Change]:
    """
    Compare the settings of a section.
    """
    for key, each in keys.items():
        old, new = getattr(before, each.name), getattr(after, each.name)
        if old != new:
            yield Change((*where, key), old, new, CHANGE)


def fieldOf(change: Change) -> Field[Any]:
    """
    Return the setting that a change concerns: one of a pool, of the whole balancer or
    of the process.
    """
    return _KEYS[change.where[0]][change.where[-1]]


def isLive(change: Change) -> bool:
    """
    Return whether a change can be made while the balancer runs.
    """
    if change.where[0] != "pools" or (
        len(change.where) == 3 and change.where[2] != "destinations"
    ):
        return bool(fieldOf(change).metadata["live"])
    return True


def _pool(before: PoolConfig, after: PoolConfig) -> Iterator[Change]:
    """
    Compare two pools of the same name.
    """
    where: Where = ("pools", after.name)
    yield from _settings(where, before.settings, after.settings, POOL)
    yield from _members(
        (*where, "destinations"),
        before.destinations,
        after.destinations,
        DestinationSettings,
    )
    yield from _members(
        (*where, "listeners"),
        listenersOf(before),
        listenersOf(after),
        ListenerSettings,
    )
    order = tuple(after.destinations)
    appended = [name for name in before.destinations if name in after.destinations]
    appended += [name for name in order if name not in before.destinations]
    if tuple(appended) != order:
        old = tuple(before.destinations)
        yield Change((*where, "destinations"), old, order, CHANGE)


def listenersOf(pool: PoolConfig) -> dict[str, ListenerConfig]:
    """
    Return the listeners of a pool by their addresses as the user wrote them. A second
    one of the same address, such as C{tcp:0}, has a number behind the address.
    """
    return numbered((each.address, each) for each in pool.listeners)


def numbered(listeners: Iterable[tuple[str, T]]) -> dict[str, T]:
    """
    Return listeners by their addresses, as L{listenersOf} does.
    """
    found: dict[str, T] = {}
    for address, each in listeners:
        key, number = address, 1
        while key in found:
            number += 1
            key = f"{address} #{number}"
        found[key] = each
    return found


def _members(
    where: Where,
    before: Mapping[str, ListenerConfig] | Mapping[str, DestinationConfig],
    after: Mapping[str, ListenerConfig] | Mapping[str, DestinationConfig],
    kind: type[Any],
) -> Iterator[Change]:
    """
    Compare the listeners or the destinations of a pool.
    """
    old: Any = before
    new: Any = after
    for name, each in new.items():
        if name not in old:
            yield Change((*where, name), None, each, ADD)
    for name, each in new.items():
        if name in old:
            place = (*where, name)
            if old[name].address != each.address:
                yield Change(
                    (*place, "address"), old[name].address, each.address, CHANGE
                )
            for setting in fields(kind):
                was = getattr(old[name].settings, setting.name)
                now = getattr(each.settings, setting.name)
                if was != now:
                    yield Change((*place, fileKey(setting)), was, now, CHANGE)
    # The last first: so a listener keeps its number while others of its address go.
    for name in reversed(old):
        if name not in new:
            yield Change((*where, name), old[name], None, REMOVE)


# Applying changes to a configuration.


def applied(configuration: Configuration, changes: Iterable[Change]) -> Configuration:
    """
    Return a configuration with changes made to it, all that L{plan} lists or some.
    """
    pools = dict(configuration.pools)
    settings, process = configuration.settings, configuration.process
    for change in changes:
        name = change.pool
        if name is None:
            if change.where[0] == "global":
                settings = _with(settings, change)
            else:
                new: Any = {fieldOf(change).name: change.after}
                process = replace(process, **new)
        elif len(change.where) > 2:
            pools[name] = _poolWith(pools[name], change)
        elif change.action == REMOVE:
            del pools[name]
        else:
            pools[name] = change.after
    return replace(configuration, settings=settings, process=process, pools=pools)


def _with(settings: Any, change: Change) -> Any:
    """
    Return settings with one of them changed.
    """
    key = change.where[-1]
    (name,) = (each.name for each in fields(settings) if fileKey(each) == key)
    return replace(settings, **{name: change.after})


def _poolWith(pool: PoolConfig, change: Change) -> PoolConfig:
    """
    Return a pool with a change made to it.
    """
    if len(change.where) == 3:
        if change.where[2] == "destinations":
            order = {name: index for index, name in enumerate(change.after)}
            # Those that are not named come last, as in the pool.
            names = sorted(
                pool.destinations, key=lambda each: order.get(each, len(order))
            )
            ordered = {name: pool.destinations[name] for name in names}
            return replace(pool, destinations=ordered)
        return replace(pool, settings=_with(pool.settings, change))
    if change.where[2] == "destinations":
        destinations: dict[str, Any] = _membersWith(dict(pool.destinations), change)
        return replace(pool, destinations=destinations)
    listeners: dict[str, Any] = _membersWith(dict(listenersOf(pool)), change)
    return replace(pool, listeners=tuple(listeners.values()))


def _membersWith(members: dict[str, Any], change: Change) -> dict[str, Any]:
    """
    Return listeners or destinations with a change made to them.
    """
    name = change.where[3]
    if len(change.where) == 4:
        if change.action == REMOVE:
            del members[name]
        else:
            members[name] = change.after
        return members
    member, key = members[name], change.where[4]
    if key == "address":
        members[name] = replace(member, address=change.after)
    else:
        members[name] = replace(member, settings=_with(member.settings, change))
    if key == "name":
        members[name] = replace(members[name], name=change.after)
    return members
