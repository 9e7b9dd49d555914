"""dynafront serve: what it takes, and what it does not start."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from search.cli import main
from search.commands.serve import with_server
from storage.settings import Settings


def refused(tmp_path: Path, settings: str, *flags: str) -> str:
    file = tmp_path / "mlflow.yml"
    file.write_text(f"storage: {{folder: {tmp_path / 'data'}}}\n{settings}")
    result = CliRunner().invoke(main, ["--config", str(file), "serve", *flags])
    assert result.exit_code == 2, result.output
    return result.output


def test_the_names_that_are_given_come_before_this_machines_own() -> None:
    made = with_server(Settings(), host="0.0.0.0", port=80, names=["nets.lan"]).server
    assert (made.host, made.port) == ("0.0.0.0", 80)
    assert made.allowed_hosts == ("nets.lan", "localhost", "127.0.0.1")
    assert with_server(Settings(), host=None, port=None, names=()) == Settings()


def test_no_server_starts_without_a_password_and_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_AUTH_ADMIN_PASSWORD", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert "there is no admin yet" in refused(tmp_path, "")
    monkeypatch.setenv("MLFLOW_AUTH_ADMIN_PASSWORD", "long enough, really")
    assert "answers to none of its names" in refused(tmp_path, "", "--host", "0.0.0.0")
    assert "runs already" in refused(tmp_path, "tracking_uri: http://mlflow.lan:5000\n")
