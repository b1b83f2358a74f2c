"""
Read a configuration: the file, over it the environment, over that the options. All
mistakes are found at once.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from iawlb.config.document import Document, readDocument
from iawlb.config.environment import readGiven
from iawlb.config.keys import GLOBAL, POOL, PROCESS, SECTIONS, Keys, explainSection
from iawlb.config.lines import Path
from iawlb.config.model import DEFAULT, Configuration, Given, Origin, PoolConfig
from iawlb.config.pools import PoolReader
from iawlb.config.section import MOST, Section
from iawlb.config.wording import pathOf
from iawlb.core.routes import wrongRoutes
from iawlb.errors import InvalidConfiguration
from iawlb.processsettings import ProcessSettings
from iawlb.settings import Settings


def readConfiguration(
    path: str | None,
    environment: Mapping[str, str],
    options: Mapping[str, object],
    reactor: Any = None,
    name: str | None = None,
) -> Configuration:
    """
    Read and check a configuration. Nothing is opened but the files it names.

    @param path: The file; L{None} for a configuration without pools.
    @param environment: Variables, of which those that begin with C{IAWLB_} count.
    @param options: Settings of the command line, by their names in Python, as text or
        as values.
    @param reactor: The reactor that the addresses are read for; by default the one that
        is installed.
    @param name: How messages call the file; by default its path.
    @raise InvalidConfiguration: Something is wrong.
    """
    if reactor is None:
        from twisted.internet import reactor
    outside: list[str] = []
    given: dict[str, Given] = {}
    try:
        given = readGiven(environment, options)
    except InvalidConfiguration as error:
        outside = error.mistakes
    document = Document("", {}, {})
    if path is not None:
        try:
            document = readDocument(path, name)
        except InvalidConfiguration as error:
            raise InvalidConfiguration([*error.mistakes, *outside]) from error
    section = Section(document)
    reader = _Reader(section, given, reactor)
    configuration = reader.read(None if path is None else os.path.abspath(path))
    mistakes = [*section.mistakes(), *outside]
    if mistakes:
        more = len(mistakes) - MOST
        if more > 0:
            mistakes[MOST:] = [f"{document.name}: and {more} mistakes more"]
        raise InvalidConfiguration(mistakes)
    return configuration


class _Reader:
    """
    The making of a configuration from a document, the environment and options.
    """

    def __init__(
        self, section: Section, given: Mapping[str, Given], reactor: Any
    ) -> None:
        """
        @param given: What the environment and the options set.
        """
        self._section = section
        self._given = given
        self._reactor = reactor
        self._origins: dict[str, Origin] = {}

    def read(self, path: str | None) -> Configuration:
        """
        Read all sections.
        """
        section = self._section
        for key, value in section.document.data.items():
            if key not in SECTIONS:
                section.wrong((key,), explainSection(key, value))
        given = self._merged(("global",), GLOBAL)
        settings = Settings(**self._values(("global",), GLOBAL, given))
        process: dict[str, Any] = {}
        for name, keys in PROCESS.items():
            process |= self._values((name,), keys, self._merged((name,), keys))
        defaults = section.settings(("defaults",), POOL)
        pools = self._pools(defaults)
        if path is not None and not section.document.data.get("pools"):
            section.wrong(("pools",), "there is no pool: write [pools.web], say")
        return Configuration(
            settings, ProcessSettings(**process), pools, self._origins, path
        )

    def _merged(self, path: Path, keys: Keys) -> dict[str, Given]:
        """
        Return what is set in a section, and over it what is set outside of the file.
        """
        return {**self._section.settings(path, keys), **self._outside(keys)}

    def _outside(self, keys: Keys) -> dict[str, Given]:
        names = {each.name for each in keys.values()}
        return {name: each for name, each in self._given.items() if name in names}

    def _values(
        self, path: Path, keys: Keys, given: Mapping[str, Given]
    ) -> dict[str, Any]:
        """
        Return the values that are set, and note where each value comes from, also the
        defaults.
        """
        for key, of in keys.items():
            found = given.get(of.name)
            origin = DEFAULT if found is None else found.origin
            self._origins[pathOf((*path, key))] = origin
        return {name: each.value for name, each in given.items()}

    def _pools(self, defaults: Mapping[str, Given]) -> dict[str, PoolConfig]:
        section = self._section
        reader = PoolReader(section, self._reactor, self._origins)
        pools = {}
        outside = self._outside(POOL)
        for name in section.table(("pools",), "[pools.web], say"):
            path = ("pools", name)
            if not reader.isPool(path):
                continue
            own = section.settings(path, POOL, "listen", "destinations")
            given = {**defaults, **own, **outside}
            values = self._values(path, POOL, given)
            pools[name] = reader.read(path, Settings(**values))
        reader.checkClashes()
        routed = {name: each.settings for name, each in pools.items()}
        for name, why in wrongRoutes(routed):
            section.wrong(("pools", name), why)
        return pools
