"""Which token this process shows to a Ray cluster, as Ray itself reads it."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import pytest

pytest.importorskip("ray")
from search.run import ray_token
from search.run.ray_token import MODE, TOKEN, TOKEN_PATH, kept_token, own_token


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home folder, without a token in it; Ray has read nothing else."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in (MODE, TOKEN, TOKEN_PATH):
        monkeypatch.delenv(name, raising=False)
    ray_token._read_again()
    return tmp_path


def shown() -> str | None:
    """What this process would show now."""
    raylet = importlib.import_module("ray._raylet")
    if raylet.get_authentication_mode() != raylet.AuthenticationMode.TOKEN:
        return None
    return str(raylet.AuthenticationTokenLoader.instance().get_raw_token())


def write_token(home: Path) -> str:
    (home / ".ray").mkdir()
    (home / ".ray" / "auth_token").write_text("a" * 64)
    ray_token._read_again()
    return "a" * 64


def test_a_cluster_of_its_own_has_a_token_that_no_file_keeps_and_that_is_forgotten(
    home: Path,
) -> None:
    with own_token():
        first = shown()
        assert first
        assert len(first) == 64
    assert shown() is None
    with own_token():
        assert shown() not in (None, first)
    assert {MODE, TOKEN}.isdisjoint(os.environ)
    assert not list(home.iterdir())


def test_a_token_that_somebody_chose_is_kept(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MODE, "disabled")
    with own_token():
        assert shown() is None
    monkeypatch.setenv(MODE, "token")
    monkeypatch.setenv(TOKEN, "b" * 64)
    ray_token._read_again()
    with own_token():
        assert shown() == "b" * 64
    assert os.environ[MODE] == "token"


def test_what_ray_start_has_started_is_shown_the_token_of_the_home_folder(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with kept_token():
        assert shown() is None, "there is none"
    token = write_token(home)
    assert shown() is None, "Ray shows none at an address"
    with kept_token():
        assert shown() == token
    assert shown() is None
    monkeypatch.setenv(MODE, "disabled")
    with kept_token():
        assert shown() is None
