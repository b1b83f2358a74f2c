"""
A configuration, read and checked: what a balancer is built from, and compared with.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from iawlb.processsettings import ProcessSettings
from iawlb.settings import DestinationSettings, ListenerSettings, Settings


@dataclass(frozen=True, slots=True)
class Origin:
    """
    Where a value comes from.

    @ivar text: C{iawlb.toml:12}, C{IAWLB_QUEUE_TIMEOUT}, C{--queue-timeout},
        C{default}, or C{runtime} for what was changed while the balancer ran.
    """

    text: str

    def __str__(self) -> str:
        return self.text

    @property
    def inFile(self) -> bool:
        """
        Whether the value stands in a file.
        """
        return self.text.rpartition(":")[2].isdecimal()


DEFAULT = Origin("default")


@dataclass(frozen=True, slots=True)
class Given:
    """
    A value that an option, a variable or the file has set.
    """

    value: Any
    origin: Origin


@dataclass(frozen=True, slots=True)
class DestinationConfig:
    """
    A destination of a pool.

    @ivar origin: Where the destination is written. Two that differ in this alone are
        equal.
    """

    name: str
    address: str
    settings: DestinationSettings
    origin: Origin = field(default=DEFAULT, compare=False)


@dataclass(frozen=True, slots=True)
class ListenerConfig:
    """
    A listener of a pool.

    @ivar name: The name, which is the address unless another is given.
    @ivar origin: Where the listener is written. Two that differ in this alone are
        equal.
    """

    name: str
    address: str
    settings: ListenerSettings
    origin: Origin = field(default=DEFAULT, compare=False)


@dataclass(frozen=True, slots=True)
class PoolConfig:
    """
    A pool.

    @ivar settings: The settings of the pool; those of the whole balancer have their
        defaults here.
    @ivar destinations: The destinations by their names, in the order of the file.
    @ivar origin: Where the pool is written. Two that differ in this alone are equal.
    """

    name: str
    settings: Settings
    listeners: tuple[ListenerConfig, ...]
    destinations: dict[str, DestinationConfig]
    origin: Origin = field(default=DEFAULT, compare=False)


@dataclass(frozen=True, slots=True)
class Configuration:
    """
    A whole configuration.

    @ivar settings: The settings of the whole balancer; those of pools have their
        defaults here.
    @ivar process: The settings of the process.
    @ivar pools: The pools by their names, in the order of the file.
    @ivar origins: Where each value comes from, by its path, such as
        C{pools.web.queue-timeout}.
    @ivar path: The whole path of the file, if there is one.
    """

    settings: Settings
    process: ProcessSettings
    pools: dict[str, PoolConfig]
    origins: dict[str, Origin] = field(compare=False)
    path: str | None = None

    def mistake(self, path: str, why: object) -> str:
        """
        Return the line about a mistake that shows itself only after the reading.

        @param path: The path of the value that is wrong.
        """
        origin = self.origins.get(path, DEFAULT)
        if origin is DEFAULT:
            return f"{path}: {why}"
        return f"{origin}: {path}: {why}" if origin.inFile else f"{origin}: {why}"
