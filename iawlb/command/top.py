"""
The command that shows the balancer live.
"""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import click

from iawlb.command.calls import DURATION, POOL, Call, asking
from iawlb.command.failures import USAGE, CommandError
from iawlb.command.output import columns, isTerminal, painter, put, say, sayJson
from iawlb.command.topview import SORTS, Frame, View

KEYS = {name[0]: name for name in SORTS}

HELP = f"q quit; sort by {', '.join(f'{key} {name}' for key, name in KEYS.items())}"


@asking("top")
@click.option(
    "--snapshot", type=click.IntRange(1), metavar="N", help="Print N times, and end."
)
@click.option(
    "--interval", type=DURATION, default="1s", show_default=True, help="Time between."
)
@click.option(
    "--sort",
    type=click.Choice(list(SORTS)),
    default="name",
    show_default=True,
    help="The order of destinations.",
)
@click.option("--pool", type=POOL, help="Only this pool.")
@click.option("--plain", is_flag=True, help="The plain view, also if textual is there.")
def topCommand(
    call: Call,
    snapshot: int | None,
    interval: float,
    sort: str,
    pool: str | None,
    plain: bool,
) -> None:
    """
    Watch the queue, waits, destinations and the clients that wait longest. A key
    chooses the order of destinations; q ends it.
    """
    interval = max(0.1, interval)
    if call.json:
        for turn in range(snapshot or 1):
            time.sleep(interval if turn else 0)
            sayJson(call.send("GET", "/status").body)
        return
    view = View(call, pool, sort, time.monotonic)
    if snapshot is not None:
        for turn in range(snapshot):
            time.sleep(interval if turn else 0)
            say(*([""] if turn else []), *view.next().lines(columns(), painter()))
        return
    if not isTerminal(sys.stdout):
        raise CommandError("top needs a terminal: write top --snapshot 1", USAGE)
    first = view.next()  # what is wrong with the address is said before the screen goes
    if not plain and find_spec("textual") is not None:
        from iawlb.command.topscreen import show

        show(view, first, interval)
    else:
        watch(view, first, interval)


def watch(view: View, frame: Frame, interval: float) -> None:
    """
    Show frames on the terminal until the user has seen enough.
    """
    paint = painter()
    with _screen() as keys:
        while True:
            terminal = os.get_terminal_size(sys.stdout.fileno())
            # A terminal that does not know its size says 0.
            width, height = terminal.columns or 80, terminal.lines or 24
            shown = frame.linesWithin(width, height - 2, paint)
            put("\x1b[H" + "\x1b[K\n".join([*shown, "", HELP[: width - 1]]) + "\x1b[J")
            for key in keys(interval):
                if key == "q":
                    return
                view.sort = KEYS.get(key, view.sort)
            try:
                frame = view.next()
            except CommandError as error:
                frame = Frame([str(error)])


@contextmanager
def _screen() -> Iterator[Callable[[float], str]]:
    """
    Take the whole screen of the terminal, and give it back in the end.

    @return: A function that waits for keys for a time, and returns them.
    """
    import termios
    import tty

    try:
        typed = sys.stdin.fileno()
        before = termios.tcgetattr(typed)
    except (termios.error, ValueError, AttributeError):
        before = None  # nobody can type

    def keys(seconds: float) -> str:
        if before is None:
            time.sleep(seconds)
        elif select.select([typed], (), (), seconds)[0]:
            # The end of the input is a terminal that is gone.
            return os.read(typed, 100).decode(errors="replace") or "q"
        return ""

    put("\x1b[?1049h\x1b[?25l\x1b[2J")
    try:
        if before is not None:
            tty.setcbreak(typed)
        yield keys
    except KeyboardInterrupt:
        pass  # Ctrl-C is the usual way to end it
    finally:
        if before is not None:
            termios.tcsetattr(typed, termios.TCSADRAIN, before)
        put("\x1b[?25h\x1b[?1049l")
