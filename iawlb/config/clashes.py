"""
Addresses that do not fit each other: two listeners on one address, a destination that
is there twice, and destinations that lead back to the balancer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from iawlb.backend.address import placeOf
from iawlb.backend.hints import quoted
from iawlb.backend.places import Place, clash, reaches
from iawlb.config.lines import Path
from iawlb.config.wording import pathOf


@dataclass(frozen=True, slots=True)
class Written:
    """
    An address in the file.

    @ivar pool: The name of its pool.
    @ivar path: Where it is written.
    @ivar address: The address as the user wrote it.
    @ivar text: The endpoint string it stands for.
    @ivar v6only: Whether it is a listener for IPv6 alone.
    """

    pool: str
    path: Path
    address: str
    text: str
    v6only: bool = False


def findClashes(
    listeners: list[Written], destinations: list[Written]
) -> Iterator[tuple[Path, str]]:
    """
    Find addresses that do not fit each other.

    @return: Where each is written, and what is wrong with it.
    """
    places = [placeOf(each.text, True, each.v6only) for each in listeners]
    yield from _sharedListeners(listeners, places)
    yield from _sameDestinations(destinations)
    yield from _circles(listeners, places, destinations)


def _sharedListeners(
    listeners: list[Written], places: list[Place | None]
) -> Iterator[tuple[Path, str]]:
    before: dict[int, list[int]] = {}
    same: dict[str, Written] = {}
    for index, (each, place) in enumerate(zip(listeners, places, strict=True)):
        if place is None:
            # An endpoint of another kind: only the same text is known to clash.
            other = same.setdefault(each.text, each)
            if other is not each:
                yield each.path, _taken(each, other)
            continue
        for earlier in before.setdefault(place.port, []):
            there = places[earlier]
            if there is not None and clash(there, place):
                yield each.path, _taken(each, listeners[earlier])
                break
        before[place.port].append(index)


def _taken(each: Written, other: Written) -> str:
    return (
        f"{quoted(each.address)} is where {pathOf(other.path)} listens already, "
        f"{quoted(other.address)}"
    )


def _sameDestinations(destinations: list[Written]) -> Iterator[tuple[Path, str]]:
    first: dict[tuple[str, str], Written] = {}
    for each in destinations:
        other = first.setdefault((each.pool, each.text), each)
        if other is not each:
            yield (
                each.path,
                f"{quoted(each.address)} is {pathOf(other.path)} already: "
                "give that one more slots or weight",
            )


def _circles(
    listeners: list[Written],
    places: list[Place | None],
    destinations: list[Written],
) -> Iterator[tuple[Path, str]]:
    """
    Find destinations that lead back to their own pool, if by way of other pools.
    """
    byPort: dict[int, list[tuple[Written, Place]]] = {}
    for listener, place in zip(listeners, places, strict=True):
        if place is not None:
            byPort.setdefault(place.port, []).append((listener, place))
    leads: list[tuple[Written, Written]] = []
    for destination in destinations:
        there = placeOf(destination.text, listening=False)
        if there is not None:
            for listener, place in byPort.get(there.port, ()):
                if reaches(there, place):
                    leads.append((destination, listener))
    graph: dict[str, set[str]] = {}
    for destination, listener in leads:
        graph.setdefault(destination.pool, set()).add(listener.pool)
    found: set[Path] = set()
    for destination, listener in leads:
        if destination.path in found:
            continue
        if destination.pool in _reached(graph, listener.pool):
            found.add(destination.path)
            yield (
                destination.path,
                f"{quoted(destination.address)} leads back to "
                f"{pathOf(listener.path)}, {quoted(listener.address)}: "
                "give the address of a server",
            )


def _reached(graph: dict[str, set[str]], start: str) -> set[str]:
    """
    Return the pools that a client of a pool may come to, that pool included.
    """
    found, todo = {start}, [start]
    while todo:
        for each in graph.get(todo.pop(), set()) - found:
            found.add(each)
            todo.append(each)
    return found
