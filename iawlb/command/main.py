"""
The command C{iawlb}, and what each of its commands is for.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from iawlb.command.failures import (
    BROKEN_PIPE,
    DONE,
    INTERRUPTED,
    USAGE,
    CommandError,
    OutputClosed,
    oneLine,
)
from iawlb.command.output import complain, say, tolerate

COMMANDS = {
    # name: (module, what it does)
    "run": ("local", "Start a balancer in the foreground"),
    "check": ("local", "Check configuration files, and open nothing"),
    "schema": ("local", "Print the JSON Schema of the configuration file"),
    "status": ("looking", "Show whether the balancer is well"),
    "list": ("looking", "List pools and destinations"),
    "sessions": ("looking", "List client connections, the oldest first"),
    "config": ("looking", "Show settings, and what differs from the file"),
    "top": ("top", "Watch queue, waits and destinations"),
    "events": ("events", "Follow what changes"),
    "pause": ("changing", "Let new clients wait, and the running ones finish"),
    "resume": ("changing", "Serve again after a pause, stop or drain"),
    "stop": ("changing", "Refuse new clients of a pool"),
    "drain": ("changing", "Let a destination finish, and give it no more clients"),
    "deploy": ("deploying", "Replace the destinations of a pool by new ones"),
    "wait": ("deploying", "Wait until a destination is drained, up or removable"),
    "add": ("changing", "Add a destination to a pool"),
    "remove": ("changing", "Drain a destination and remove it"),
    "set": ("changing", "Change slots, weight or a setting"),
    "kill": ("changing", "Close a client's connection"),
    "reload": ("deploying", "Read the configuration file again"),
    "log": ("changing", "Change the level of operational messages"),
    "healthcheck": ("looking", "Exit with 0 if the balancer lives, with 1 if not"),
    "completion": ("completion", "Print the completion script of a shell"),
}

ALIASES = {"ls": "list"}

_EPILOG = """\
The running balancer is found at --admin ADDRESS, else at IAWLB_ADMIN, else at
/run/iawlb/admin.sock or in your folder for sockets. A TARGET is a pool, POOL/DEST, or
a destination's name if only one pool has it.

\b
Exit status: 0 done, 1 error, 2 wrong usage, 3 timed out with connections left,
4 undone by another, 5 not running.
"""


class LazyGroup(click.Group):
    """
    A group of commands whose modules are imported when they are run.
    """

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """
        Import a command.
        """
        name = ALIASES.get(cmd_name, cmd_name)
        if name not in COMMANDS:
            return None
        module = import_module(f"iawlb.command.{COMMANDS[name][0]}")
        found: click.Command = getattr(module, f"{name}Command")
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """
        Find a command, or say which was meant.
        """
        if args and self.get_command(ctx, args[0]) is None and args[0][:1] != "-":
            from difflib import get_close_matches

            near = get_close_matches(args[0], [*COMMANDS, *ALIASES], 1)
            hint = f"write {near[0]}" if near else "iawlb --help lists those there are"
            ctx.fail(f"there is no command {args[0]!r}: {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        """
        Write the list of commands without importing them.
        """
        rows = [(name, text) for name, (_, text) in COMMANDS.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        """
        Complete the names of commands without importing them.
        """
        from click.shell_completion import CompletionItem

        if incomplete.startswith("-"):
            return click.Command.shell_complete(self, ctx, incomplete)
        return [
            CompletionItem(name, help=text)
            for name, (_, text) in COMMANDS.items()
            if name.startswith(incomplete)
        ]


def _version(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from importlib.metadata import version

        say(f"iawlb {version('iawlb')}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 88},
)
@click.option("--admin", metavar="ADDRESS", help="Where the running balancer listens.")
@click.option("--token-file", metavar="FILE", help="The file with the token.")
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_version,
    help="Print the version.",
)
@click.pass_context
def iawlb(ctx: click.Context, admin: str | None, token_file: str | None) -> None:
    """
    iawlb is a TCP load balancer that pulls: clients wait in one queue, and a
    destination takes the next one when it has a free slot. This command starts a
    balancer, and controls one that runs.
    """
    ctx.obj = {"admin": admin, "tokenFile": token_file}


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the command.

    @param arguments: The command line, if not that of the process.
    @return: The exit status. Every error is one line on standard error.
    """
    tolerate()
    try:
        result = iawlb.main(
            None if arguments is None else list(arguments),
            prog_name="iawlb",
            standalone_mode=False,
        )
        return result if isinstance(result, int) else DONE
    except click.exceptions.NoArgsIsHelpError as error:
        say(error.format_message())
        return USAGE
    except click.ClickException as error:
        complain(_explained(error))
        return error.exit_code
    except CommandError as error:
        complain(str(error))
        return error.status
    except click.Abort:
        return INTERRUPTED
    except OutputClosed:
        return BROKEN_PIPE


def _explained(error: click.ClickException) -> str:
    """
    Write an error in the use of the command as a line.
    """
    text = oneLine(error.format_message()).rstrip(".")
    context = getattr(error, "ctx", None)
    path = "iawlb" if context is None else context.command_path
    return text if "--help" in text else f"{text} ({path} --help)"
