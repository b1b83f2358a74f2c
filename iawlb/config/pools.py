"""
Read the pools of a document, with their listeners and destinations.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from iawlb.backend.address import parseDestination, parseListen
from iawlb.backend.hints import quoted
from iawlb.backend.tlsextra import checkSpoken, tlsClientOf
from iawlb.config.clashes import Written, findClashes
from iawlb.config.keys import DESTINATION, LISTENER, MANY, Keys, meantBy
from iawlb.config.lines import Path
from iawlb.config.model import (
    DEFAULT,
    DestinationConfig,
    Given,
    ListenerConfig,
    Origin,
    PoolConfig,
)
from iawlb.config.section import Section
from iawlb.config.wording import pathOf, readShown, written
from iawlb.errors import InvalidSetting
from iawlb.health.making import checkPlaces
from iawlb.setting import asOption, byOption, splitSettings
from iawlb.settings import (
    DestinationSettings,
    ListenerSettings,
    Settings,
    inherited,
)
from iawlb.validators import name as destinationName
from iawlb.validators import poolName

_LISTENER = '"tcp:8080", a port, or { address = "tcp:8080", name = "web" }'
_DESTINATION = '"localhost:9001", a port, or { address = "localhost:9001", slots = 4 }'


class PoolReader:
    """
    Reads the pools of a document, with their listeners and destinations.
    """

    def __init__(
        self, section: Section, reactor: Any, origins: dict[str, Origin]
    ) -> None:
        """
        @param origins: Gets where each value comes from, by its path.
        """
        self._section = section
        self._reactor = reactor
        self._origins = origins
        self._listeners: list[Written] = []
        self._destinations: list[Written] = []

    def isPool(self, path: Path) -> bool:
        """
        Return whether what stands at a path is a pool; if not, note what is wrong.
        """
        pool, name = self._section.value(path), path[-1]
        try:
            readShown(poolName, name)
        except InvalidSetting as error:
            self._section.wrong(path, str(error))
            return False
        if isinstance(pool, dict):
            return True
        self._section.wrong(
            path, f"{written(pool)} is not a pool: write [pools.NAME] above its keys"
        )
        return False

    def read(self, path: Path, settings: Settings) -> PoolConfig:
        """
        Read a pool.

        @param settings: The settings of the pool.
        """
        name, origin = str(path[-1]), self._section.origin(path)
        self._origins[pathOf(path)] = origin
        listeners = self._readListeners((*path, "listen"), settings)
        destinations = self._readDestinations((*path, "destinations"), settings)
        return PoolConfig(name, settings, listeners, destinations, origin)

    def checkClashes(self) -> None:
        """
        Find the addresses that do not fit each other, once all pools are read.
        """
        for path, why in findClashes(self._listeners, self._destinations):
            self._section.wrong(path, why)

    # Listeners.

    def _readListeners(
        self, path: Path, settings: Settings
    ) -> tuple[ListenerConfig, ...]:
        given = self._section.value(path)
        places = [path]
        if isinstance(given, list):
            places = [(*path, index) for index in range(len(given))]
        if given is None and settings.through:
            return ()
        if given is None or not places:
            self._section.wrong(
                path, f'nowhere to listen: write {path[-1]} = "tcp:8080", say'
            )
            return ()
        found: dict[str, ListenerConfig] = {}
        for place in places:
            listener = self._readListener(place, settings)
            if listener is None:
                continue
            if listener.name in found:
                self._section.wrong(
                    place,
                    f"there is a listener {quoted(listener.name)} in this pool already",
                )
                self._listeners.pop()  # otherwise its address would clash too
                continue
            found[listener.name] = listener
        return tuple(found.values())

    def _readListener(self, path: Path, settings: Settings) -> ListenerConfig | None:
        address = self._address(path, LISTENER, _LISTENER)
        given = self._own(path, LISTENER)
        if address is None:
            return None
        own = ListenerSettings(
            **{**inherited(settings, ListenerSettings), **_values(given)}
        )
        try:
            parsed = parseListen(self._reactor, address, settings.backlog, own)
            if "name" not in given:
                own = replace(own, name=address)
        except InvalidSetting as error:
            self._wrongSetting(path, error)
            return None
        self._listeners.append(
            Written(str(path[1]), path, address, parsed.text, own.v6only)
        )
        origin = self._note(path, LISTENER, given)
        return ListenerConfig(own.name, address, own, origin)

    # Destinations.

    def _readDestinations(
        self, path: Path, settings: Settings
    ) -> dict[str, DestinationConfig]:
        given = self._section.value(path)
        if given is None:
            return {}
        if not isinstance(given, dict):
            self._section.wrong(
                path,
                f"{written(given)} is not a table of destinations by their names: "
                f'write {path[-1]} = {{ a = "localhost:9001" }}',
            )
            return {}
        found = {}
        for key in given:
            destination = self._readDestination((*path, key), settings)
            if destination is not None:
                found[key] = destination
        return found

    def _readDestination(
        self, path: Path, settings: Settings
    ) -> DestinationConfig | None:
        key = str(path[-1])
        address = self._address(path, DESTINATION, _DESTINATION)
        given = self._own(path, DESTINATION)
        try:
            readShown(destinationName, key)
            if address is None:
                return None
            parsed, _ = parseDestination(
                self._reactor, address, settings.connectTimeout
            )
        except InvalidSetting as error:
            self._section.wrong(path, str(error))
            return None
        self._destinations.append(Written(str(path[1]), path, address, parsed))
        own = {
            **inherited(settings, DestinationSettings),
            "name": key,
            **_values(given),
        }
        origin = self._note(path, DESTINATION, given)
        try:
            read = DestinationSettings(**own)
            checkSpoken(given, read.tls)
            checkPlaces(parsed, read)
            tlsClientOf(self._reactor, read, parsed)
        except InvalidSetting as error:
            self._wrongSetting(path, error)
            return None
        return DestinationConfig(key, address, read, origin)

    # Both.

    def _address(self, path: Path, keys: Keys, right: str) -> str | None:
        """
        Read the address of a listener or a destination: it stands alone, or in a table
        with its settings.
        """
        value = self._section.value(path)
        place = path
        if isinstance(value, dict):
            place = (*path, "address")
            known = ("address", *keys)
            if "address" not in value:
                # A key that is a wrong name of it has a message of its own.
                if "address" not in (meantBy(key, known) for key in [*value][:MANY]):
                    self._section.wrong(path, f"has no address: write {right}")
                return None
            value = value["address"]
        if isinstance(value, int) and not isinstance(value, bool):
            value = written(value)
        if not isinstance(value, str):
            self._section.wrong(
                place, f"{written(value)} is not an address: write {right}"
            )
            return None
        try:
            address, behind = splitSettings(value)
        except InvalidSetting as error:
            self._section.wrong(place, str(error))
            return None
        if behind:
            pairs = "".join(
                f", {asOption(key)} = {quoted(text)}" for key, text in behind.items()
            )
            self._section.wrong(
                place,
                f"{quoted(value)} holds settings: write "
                f"{{ address = {quoted(address)}{pairs} }}",
            )
            return None
        return address

    def _own(self, path: Path, keys: Keys) -> dict[str, Given]:
        """
        Read the settings of a listener or a destination.
        """
        if not isinstance(self._section.value(path), dict):
            return {}
        return self._section.settings(path, keys, "address")

    def _wrongSetting(self, path: Path, error: InvalidSetting) -> None:
        """
        Note a mistake in the settings of a listener or a destination: at the setting
        with whose name the message begins, if the file has it there.
        """
        name, _, why = byOption(error).partition(": ")
        value = self._section.value(path)
        if isinstance(value, dict) and name in value:
            self._section.wrong((*path, name), why)
        else:
            self._section.wrong(path, byOption(error))

    def _note(self, path: Path, keys: Keys, given: dict[str, Given]) -> Origin:
        """
        Note where a listener or a destination, and each of its settings, comes from.
        """
        origin = self._section.origin(path)
        self._origins[pathOf(path)] = origin
        self._origins[pathOf((*path, "address"))] = origin
        for key, of in keys.items():
            found = given.get(of.name)
            self._origins[pathOf((*path, key))] = (
                DEFAULT if found is None else found.origin
            )
        return origin


def _values(given: dict[str, Given]) -> dict[str, Any]:
    return {name: each.value for name, each in given.items()}
