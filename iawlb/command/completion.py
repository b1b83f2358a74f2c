"""
The command that prints completion scripts.
"""

from __future__ import annotations

import click

from iawlb.command.output import put

VARIABLE = "_IAWLB_COMPLETE"
"""
The environment variable by which the shell asks for completions.
"""


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completionCommand(ctx: click.Context, shell: str) -> None:
    """
    Print the completion script of a shell. With bash, put this line in ~/.bashrc:
    eval "$(iawlb completion bash)"
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    group = ctx.find_root().command
    put(kind(group, {}, "iawlb", VARIABLE).source().rstrip("\n") + "\n")
