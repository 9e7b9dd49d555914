"""Which images and weights a page may name by path: a job reads nothing that its page may not show."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

from search.spec import StudySpec
from storage.settings import Settings
from trainers.data.paths import LIBRARIES, expanded
from trainers.data.sources import data_root


def check_places(spec: StudySpec, settings: Settings, where: str) -> None:
    """Raise ValueError, before anything is looked for, where a study names a path that no page may name."""
    kind, _, path = spec.data.partition(":")
    named = {"data": path} if kind in ("folder", "parquet") else {}
    if spec.data_root:
        named["data_root"] = spec.data_root
    for family in spec.families:
        source = spec.initial(family)
        if source and not source.startswith(LIBRARIES):
            named["init_from"] = source
    for key, text in named.items():
        try:
            check_place(text, settings)
        except ValueError as error:
            raise ValueError(f"{where}: {key}: {error}") from None


def check_place(text: str, settings: Settings) -> None:
    """Raise ValueError where a path, links followed, lies in none of the folders that pages may name."""
    folders = allowed_folders(settings)
    if folders is None:
        return
    whole = expanded(text).resolve()
    if not any(whole.is_relative_to(one.resolve()) for one in folders):
        known = ", ".join(str(one) for one in folders)
        raise ValueError(
            f"{text} lies outside the folders whose images pages may name ({known}); "
            "server.data_folders in mlflow.yml adds some"
        )


def allowed_folders(settings: Settings) -> tuple[Path, ...] | None:
    """Below which pages may name paths; None: anywhere."""
    own = settings.server.data_folders
    if own is None and alone(settings):
        return None
    return (*map(expanded, own or ()), data_root(None), settings.folder)


def alone(settings: Settings) -> bool:
    """Whether the server answers this machine alone."""
    server = settings.server
    return all(map(_loopback, (server.host, *server.allowed_hosts)))


def _loopback(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
