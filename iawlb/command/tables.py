"""
Tables that fit the terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from iawlb.command.text import shorten, width

Paint = Callable[[str, str], str]
"""
Takes a column's head and a padded cell, and returns the cell with its colour.
"""

SHORT, SHORTEST = 12, 8
"""
The numbers of columns to which long cells are shortened at most: before whole columns
are left out, and after that.
"""


@dataclass(frozen=True, slots=True)
class Column:
    """
    A column of a table.

    @ivar right: Whether the cells stand at the right end, as numbers do.
    @ivar importance: Where the terminal is narrow, columns of the least importance are
        left out first, and those at the right before those at the left.
    @ivar flexible: Whether cells may be shortened.
    @ivar optional: Whether the column is left out while all its cells are empty.
    """

    head: str
    right: bool = False
    importance: int = 1
    flexible: bool = False
    optional: bool = False


def _unpainted(head: str, cell: str) -> str:
    return cell


def layOut(
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    available: int | None,
    paint: Paint = _unpainted,
) -> list[str]:
    """
    Lay out a table.

    @param available: The width of the terminal; L{None} is without end.
    @return: The lines, that of the heads first.
    """
    widths = [
        max(width(column.head), *(width(row[place]) for row in rows), 0)
        for place, column in enumerate(columns)
    ]
    empty = [
        place
        for place, column in enumerate(columns)
        if column.optional and not any(row[place] for row in rows)
    ]
    shown = _fit(columns, widths, available, empty)
    lines: list[str] = []
    for row in ([column.head for column in columns], *rows):
        cells = []
        for place in shown:
            cell = shorten(row[place], widths[place])
            pad = " " * (widths[place] - width(cell))
            last = place == shown[-1] and not columns[place].right
            if columns[place].right:
                cell = pad + cell
            elif not last:
                cell += pad
            cells.append(paint(columns[place].head, cell) if lines else cell)
        lines.append("  ".join(cells).rstrip())
    return lines


def _fit(
    columns: Sequence[Column],
    widths: list[int],
    available: int | None,
    empty: Sequence[int],
) -> list[int]:
    """
    Choose the columns that fit, and narrow the widths of those that can be shortened.

    @param empty: The places of columns to leave out.
    @return: The places of the columns to show.
    """
    shown = [place for place in range(len(columns)) if place not in empty]

    def over() -> int:
        taken = sum(widths[place] for place in shown) + 2 * (len(shown) - 1)
        return 0 if available is None else taken - available

    def narrow(least: int) -> None:
        while over() > 0:
            flexible = [
                place
                for place in shown
                if columns[place].flexible and widths[place] > least
            ]
            if not flexible:
                return
            widths[max(flexible, key=lambda place: widths[place])] -= 1

    narrow(SHORT)
    while over() > 0 and len(shown) > 1:
        least = min(columns[place].importance for place in shown)
        shown.remove(
            max(place for place in shown if columns[place].importance == least)
        )
    narrow(SHORTEST)
    narrow(1)
    return shown
