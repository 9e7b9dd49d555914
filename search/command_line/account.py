"""dynafront account: who may sign in to the server of a team."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from search.command_line.opening import read_settings
from search.command_line.paths import GivenPath
from search.command_line.terminal import print_lines, terminal


@click.command("account")
@click.argument("action", type=click.Choice(["list", "add", "password", "remove"]))
@click.argument("name", required=False)
@click.option("--admin", is_flag=True, help="With add: it may launch, stop, delete and export too.")
@click.option(
    "--password-file",
    type=GivenPath(dir_okay=False),
    help="A file with the password, which nobody else can read (mode 600); without it you are asked.",
)
@click.pass_obj
def accounts(
    config: Path | None, action: str, name: str | None, admin: bool, password_file: Path | None
) -> None:
    """List, add or remove accounts of `dynafront serve`, or change the password of account NAME.

    Whoever has an account reads everything, an admin changes things too. The server may run meanwhile.
    """
    from search.commands.account import AccountChange, changed

    if action != "list" and not name:
        raise ValueError(f"account {action}: say whose: dynafront account {action} NAME")
    wants = action in ("add", "password")
    if admin and action != "add":
        raise ValueError(f"--admin: goes with `account add`, not with `account {action}`")
    if password_file and not wants:
        raise ValueError(f"--password-file: account {action} takes no password")
    password = _password(name or "", password_file) if wants else ""
    change = AccountChange(action, name or "", password, admin)
    print_lines(terminal(), changed(read_settings(config), change))


def _password(name: str, file: Path | None) -> str:
    """From the file, or typed twice. Raises ValueError where neither can be."""
    from storage.server_users import password_of

    if file is not None:
        return password_of(file)
    if not sys.stdin.isatty():
        raise ValueError("there is no terminal to ask for a password: give --password-file FILE")
    typed: str = click.prompt(
        f"Password of {name} (12 characters or more)",
        hide_input=True,
        confirmation_prompt=True,
        err=True,
    )
    return typed
