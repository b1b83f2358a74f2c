"""
Build a balancer from a configuration, and describe one that was built otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from iawlb.balancer import Balancer
from iawlb.config.keys import ALL, GLOBAL, POOL, PROCESS, fileKey
from iawlb.config.model import (
    DEFAULT,
    Configuration,
    DestinationConfig,
    ListenerConfig,
    Origin,
    PoolConfig,
)
from iawlb.config.wording import pathOf
from iawlb.core.events import Observer
from iawlb.errors import InvalidConfiguration, InvalidSetting
from iawlb.pool import Pool
from iawlb.processsettings import ProcessSettings
from iawlb.settings import Settings


def buildBalancer(
    configuration: Configuration, reactor: Any, observers: Iterable[Observer] | None
) -> Balancer:
    """
    Build the balancer of a configuration. Nothing is opened.

    @param observers: Objects that are called at every step; L{None} is the log alone.
    @raise InvalidConfiguration: This machine, or the reactor, cannot do what is asked
        for.
    """
    settings = scopeOf(configuration.settings, "global")
    try:
        balancer = Balancer(reactor, observers=observers, **settings)
    except InvalidSetting as error:
        # The message begins with the name in Python, such as maxConnections.
        name, _, why = str(error).partition(": ")
        path = f"global.{fileKey(ALL[name])}"
        raise InvalidConfiguration([configuration.mistake(path, why)]) from error
    for each in configuration.pools.values():
        buildPool(balancer, each)
    return balancer


def buildPool(balancer: Balancer, config: PoolConfig) -> Pool:
    """
    Add a pool with its listeners and destinations.

    @raise InvalidSetting: A listener or a destination cannot be used.
    @raise CannotListen: The balancer runs, and a listener could not be opened.
    """
    pool = balancer.addPool(config.name, **scopeOf(config.settings, "pool"))
    for destination in config.destinations.values():
        pool.add(destination.address, valuesOf(destination.settings))
    for listener in config.listeners:
        pool.listen(listener.address, valuesOf(listener.settings))
    return pool


def scopeOf(settings: Settings, scope: str) -> dict[str, Any]:
    """
    Return the settings of a pool, or those of the whole balancer, by their names.

    @param scope: C{pool} or C{global}.
    """
    return {
        each.name: getattr(settings, each.name)
        for each in fields(Settings)
        if each.metadata["scope"] == scope
    }


def valuesOf(settings: Any) -> dict[str, Any]:
    """
    Return all of some settings by their names.
    """
    return {each.name: getattr(settings, each.name) for each in fields(settings)}


def describe(
    balancer: Balancer, process: ProcessSettings, origins: Mapping[str, Origin]
) -> Configuration:
    """
    Describe a balancer that was built from a command line, as a configuration.

    @param process: The settings of the process.
    @param origins: Where the settings come from that were given, by their names in
        Python.
    """
    found: dict[str, Origin] = {}

    def note(path: tuple[str | int, ...], kinds: Iterable[Any]) -> None:
        for each in kinds:
            found[pathOf((*path, fileKey(each)))] = origins.get(each.name, DEFAULT)

    note(("global",), GLOBAL.values())
    for section, keys in PROCESS.items():
        note((section,), keys.values())
    pools = {}
    for name, pool in balancer.pools.items():
        note(("pools", name), POOL.values())
        listeners = []
        for index, listener in enumerate(pool.listeners):
            origin = found[pathOf(("pools", name, "listen", index))] = Origin(
                "--listen"
            )
            listeners.append(
                ListenerConfig(listener.name, listener.text, listener.settings, origin)
            )
        destinations = {}
        for each in pool.destinations:
            origin = found[pathOf(("pools", name, "destinations", each.name))] = Origin(
                "--dest"
            )
            destinations[each.name] = DestinationConfig(
                each.name, each.address, each.settings, origin
            )
        settings = Settings(**valuesOf(pool.settings))
        pools[name] = PoolConfig(name, settings, tuple(listeners), destinations)
    settings = Settings(**valuesOf(balancer.settings))
    return Configuration(settings, process, pools, found)
