"""Accounts of a team's server, changed on its machine; the server's own login knows them."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from click.testing import CliRunner

from search.cli import main
from storage.accounts import Accounts
from storage.server_users import users_environment
from storage.settings import Settings

pytestmark = pytest.mark.slow
pytest.importorskip("flask_wtf")
PASSWORD = "long enough, really"


def account(folder: Path, *arguments: str, status: int = 0) -> str:
    settings = folder / "mlflow.yml"
    settings.write_text(f"storage: {{folder: {folder / 'data'}}}\n")
    result = CliRunner().invoke(main, ["--config", str(settings), "account", *arguments])
    assert result.exit_code == status, result.output
    return " ".join(result.output.split())


def secret(folder: Path, text: str) -> str:
    file = folder / f"{text[:3]}-{len(text)}"
    file.write_text(text)
    file.chmod(0o600)
    return str(file)


def signs_in(folder: Path, name: str, password: str) -> bool:
    settings = Settings.model_validate({"storage": {"folder": folder / "data"}})
    return bool(Accounts(settings)._store.authenticate_user(name, password))


def test_accounts_are_listed_added_changed_and_removed(tmp_path: Path) -> None:
    file = secret(tmp_path, PASSWORD)
    assert "no accounts yet" in account(tmp_path, "list")
    assert account(tmp_path, "add", "ann", "--admin", "--password-file", file).startswith(
        "added ann"
    )
    account(tmp_path, "add", "ben", "--password-file", file)
    assert account(tmp_path, "list") == "ann admin ben reads"
    account(tmp_path, "password", "ben", "--password-file", secret(tmp_path, "another, long one"))
    assert signs_in(tmp_path, "ben", "another, long one")
    assert not signs_in(tmp_path, "ben", PASSWORD)
    assert signs_in(tmp_path, "ann", PASSWORD)
    account(tmp_path, "remove", "ben")
    assert account(tmp_path, "list") == "ann admin"
    mode = (tmp_path / "data" / "users.db").stat().st_mode
    assert not mode & (stat.S_IRWXG | stat.S_IRWXO)


def test_an_admin_of_any_name_is_enough_for_the_server(tmp_path: Path) -> None:
    account(tmp_path, "add", "ann", "--admin", "--password-file", secret(tmp_path, PASSWORD))
    settings = Settings.model_validate({"storage": {"folder": tmp_path / "data"}})
    users_environment(settings, given={})
    assert "admin_username = ann\n" in (tmp_path / "data" / "users.ini").read_text()


def test_what_cannot_be_is_one_line(tmp_path: Path) -> None:
    file = secret(tmp_path, PASSWORD)
    account(tmp_path, "add", "ann", "--admin", "--password-file", file)
    for wrong, said in (
        (("add", "ann", "--password-file", file), "there is an account ann already"),
        (("remove", "ann"), "ann is the only admin"),
        (("remove", "eve"), "there is no account eve; there are: ann"),
        (("password", "ann"), "give --password-file FILE"),
        (("add",), "say whose"),
        (("list", "ann", "--admin"), "--admin: goes with `account add`"),
        (("add", "eve", "--password-file", secret(tmp_path, "short")), "has 5 characters"),
        (("add", "eve", "--password-file", secret(tmp_path, "password1234")), "known to all"),
    ):
        assert said in account(tmp_path, *wrong, status=2)
