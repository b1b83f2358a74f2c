"""
The live view of C{iawlb top} by textual.
"""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import DataTable, Footer, Static

from iawlb.command.failures import CommandError
from iawlb.command.output import COLOURS
from iawlb.command.tables import Column
from iawlb.command.text import shorten
from iawlb.command.topview import DESTINATIONS, POOLS, SORTS, WAITERS, Frame, View

LONGEST = 40
"""
The number of columns to which names are shortened.
"""

_TABLES = {"pools": POOLS, "destinations": DESTINATIONS, "waiters": WAITERS}


class TopScreen(App[None]):
    """
    The tables of L{Frame}, renewed at an interval.
    """

    CSS = """
    #head, #notes { height: auto; padding: 0 1; }
    DataTable { height: auto; margin: 1 0 0 0; }
    #destinations { max-height: 50%; }
    #notes { margin: 1 0 0 0; }
    """
    TITLE = "iawlb top"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit"),
        *(Binding(name[0], f"sort('{name}')", name) for name in SORTS),
    ]

    def __init__(self, view: View, first: Frame, interval: float) -> None:
        super().__init__()
        self._view = view
        self._first = first
        self._interval = interval
        self._asking = False

    def compose(self) -> ComposeResult:
        """
        Make the parts of the screen.
        """
        yield Static(id="head", markup=False)
        with VerticalScroll():
            for name in ("pools", "destinations", "waiters"):
                table: DataTable[Text] = DataTable(id=name, cursor_type="none")
                table.can_focus = name == "destinations"  # which scroll
                yield table
            yield Static(id="notes", markup=False)
        yield Footer()

    def on_mount(self) -> None:
        """
        Show the first frame, and begin to ask for others.
        """
        for name, shown in _TABLES.items():
            self._table(name).add_columns(*(each.head for each in shown))
        self._show(self._first)
        self.set_interval(self._interval, self._next)

    def action_sort(self, name: str) -> None:
        """
        Put the destinations in another order.
        """
        self._view.sort = name
        self._next()

    def _next(self) -> None:
        """
        Ask for the next frame, unless an answer is awaited.
        """
        if not self._asking:
            self._asking = True
            self.run_worker(self._ask, thread=True)

    def _ask(self) -> None:
        try:
            frame = self._view.next()
        except CommandError as error:
            frame = Frame([str(error)])
        self.call_from_thread(self._show, frame)

    def _show(self, frame: Frame) -> None:
        self._asking = False
        self.query_one("#head", Static).update("\n".join(frame.head))
        self.query_one("#notes", Static).update("\n".join(frame.notes))
        for name, shown in _TABLES.items():
            table = self._table(name)
            rows: list[list[str]] = getattr(frame, name)
            table.clear()
            table.add_rows(
                [_styled(column, cell) for column, cell in zip(shown, row, strict=True)]
                for row in rows
            )
            table.display = bool(rows)

    def _table(self, name: str) -> DataTable[Text]:
        table: DataTable[Text] = self.query_one(f"#{name}", DataTable)
        return table


def _styled(column: Column, cell: str) -> Text:
    colour = COLOURS.get(cell, "") if column.head == "STATE" else ""
    text = shorten(cell, LONGEST) if column.flexible else cell
    return Text(text, colour, justify="right" if column.right else "left")


def show(view: View, first: Frame, interval: float) -> None:
    """
    Show frames until the user has seen enough.
    """
    TopScreen(view, first, interval).run()
