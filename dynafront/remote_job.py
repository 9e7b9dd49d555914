"""A job of a server, followed until it ends."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from dynafront.connection import Connection
from dynafront.opening import console_for

TICK = 1.0  # seconds between two looks
ENDED = ("done", "failed", "cancelled")


def followed(
    connection: Connection,
    job: dict[str, Any],
    *,
    show: bool,
    enough: Callable[[], bool] | None = None,
) -> dict[str, Any]:
    """The job at its end, or once `enough` holds; with `show` its last lines are printed as they come.

    Raises ValueError with the reason where it failed before, and RuntimeError where it did not end well.
    """
    console = console_for(show)
    console.print(f"{connection.address}: {job['command']}", soft_wrap=True)
    said = ""
    while True:
        job = connection.get("job", id=job["id"])
        if job["last"] not in ("", said):
            said = job["last"]
            console.print(f"  {said}", soft_wrap=True, markup=False, highlight=False)
        if job["state"] == "failed":
            error = f"{job['kind']}: {job['error']}"
            raise ValueError(error) if enough else RuntimeError(error)
        if job["state"] == "cancelled":
            raise RuntimeError(f"{job['kind']}: was cancelled on the server")
        if job["state"] in ENDED or (enough and enough()):
            return job
        time.sleep(TICK)
