"""The MLflow UI on the front of a study: started, and opened in the browser."""

from __future__ import annotations

import os
import sys
import webbrowser
from collections.abc import Sequence
from contextlib import ExitStack
from urllib.parse import quote

from rich.console import Console

from search.run.heartbeat import Steps
from storage.mlflow_server import log_file, serve
from storage.records import StudyRecord
from storage.saved_views import view_path
from storage.settings import Settings

PAGES = "/dynafront/"  # ours, in the server that this command starts
DISPLAYS = (
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "BROWSER",
)  # one of them is set where a browser can be shown


def open_ui(
    settings: Settings, studies: Sequence[StudyRecord], console: Console, *, browser: bool
) -> None:
    """Print the addresses, start the server, open the front where `browser`. Returns when the server is elsewhere."""
    waiting = ExitStack()

    pages = not settings.remote  # a server that is not ours has MLflow's own views alone

    def starting(address: str) -> None:
        print_addresses(console, address, studies, pages=pages)
        step = waiting.enter_context(Steps(console))
        step(f"waiting for the MLflow server to start (its log: {log_file(settings)})")

    def ready(address: str) -> None:
        waiting.close()
        if settings.remote:
            print_addresses(console, address, studies, pages=pages)
        else:
            console.print(
                "  ready; Ctrl-C stops it (MLflow's own pages take some seconds more)",
                soft_wrap=True,
            )
        if browser and not webbrowser.open(front_address(address, studies, pages=pages)):
            console.print("  no browser could be opened; open the address above")

    with waiting:
        serve(settings, ready, starting)


def print_addresses(
    console: Console, address: str, studies: Sequence[StudyRecord], *, pages: bool
) -> None:
    """The address of the UI, and of each study's front."""
    console.print(f"MLflow UI: {address}", soft_wrap=True)
    if pages and len(studies) > 1:
        console.print(f"  all studies: {address.rstrip('/')}{PAGES}", soft_wrap=True)
    for study in studies:
        if pages or study.experiment_id:
            front = front_address(address, [study], pages=pages)
            console.print(f"  {study.name}: {front}", soft_wrap=True)
    if not studies:
        console.print("  no study yet; launch one: dynafront search studies/digits.yml")


def front_address(address: str, studies: Sequence[StudyRecord], *, pages: bool = True) -> str:
    """Of the front where there is one study; else of the list of studies, or of MLflow where there are no `pages`."""
    root = address.rstrip("/")
    if pages:
        one = f"study?name={quote(studies[0].name)}" if len(studies) == 1 else ""
        return f"{root}{PAGES}{one}"
    known = [study.experiment_id for study in studies if study.experiment_id]
    return f"{root}{view_path(known[0])}" if len(known) == 1 else address


def has_display() -> bool:
    """Whether a person sits at this machine: the output is a terminal, and there is a screen to open a browser on."""
    if not sys.stdout.isatty():
        return False
    return sys.platform in ("darwin", "win32") or any(os.environ.get(name) for name in DISPLAYS)
