"""Accounts of the server of a team, from the machine that it runs on."""

from __future__ import annotations

from dataclasses import dataclass, field

from storage.settings import Settings


@dataclass(frozen=True)
class AccountChange:
    """What is done: "list", "add", "password" or "remove"; `password` and `admin` where it needs them."""

    action: str
    name: str = ""
    password: str = field(default="", repr=False)
    admin: bool = False


def changed(settings: Settings, change: AccountChange) -> list[str]:
    """Do it; returns lines that say what is so now. Raises ValueError."""
    from storage.accounts import Accounts

    accounts, name = Accounts(settings), change.name
    if change.action == "add":
        accounts.add(name, change.password, admin=change.admin)
        return [f"added {name}, who {'changes things too' if change.admin else 'reads'}"]
    if change.action == "password":
        accounts.set_password(name, change.password)
        return [f"{name} has another password; a server that runs takes the old one for a minute"]
    if change.action == "remove":
        accounts.remove(name)
        return [f"removed {name}; a server that runs may answer for a minute"]
    names = accounts.names()
    width = max(map(len, names), default=0)
    lines = [f"{one:<{width}}  {'admin' if admin else 'reads'}" for one, admin in names.items()]
    return lines or ["no accounts yet: dynafront account add NAME --admin"]
