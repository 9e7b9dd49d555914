"""A study goes on as it was begun."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from dynafront.launch import _study_of
from search.commands.begun import going_on
from search.spec import parse_study
from storage.settings import Settings, Storage
from storage.store import Store
from tests.search.conftest import dynafront

# without exits nothing is decided at them
TEXT = """
study: s
data: digits
families: [gated_resnet]
space:
  gated_resnet: {exits: none, exit_decision: gate}
"""


def test_keys_without_effect_are_refused_but_for_a_study_that_was_begun_with_them(
    tmp_path: Path,
) -> None:
    with pytest.raises(ValueError, match="has no effect: it needs exits to be"):
        parse_study(TEXT, "s.yml")
    unread: list[str] = []
    spec = parse_study(TEXT, "s.yml", unread.append)
    settings = Settings(storage=Storage(folder=tmp_path / "data"))
    with pytest.raises(ValueError, match=r"has no effect.*; leave it out"):
        going_on(spec, unread, settings)
    settings.folder.mkdir()
    store = Store.open(settings.database_url)
    store.add_study("s", spec.model_dump(mode="json"), TEXT, {})
    (line,) = going_on(spec, unread, settings)
    assert line.startswith("s.yml: space.gated_resnet.exit_decision: has no effect: it needs exits")
    assert line.endswith("; study s was begun with it and goes on")
    other = TEXT.replace("exits: none", "exits: none, width: 0.5")
    changed = parse_study(other, "s.yml", lambda message: None)
    with pytest.raises(ValueError, match="has no effect"):
        going_on(changed, unread, settings)


@pytest.mark.parametrize("command", ["check", "profile", "search"])
def test_commands_and_python_take_the_file_of_a_study_that_was_begun_with_such_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("s.yml").write_text(TEXT)
    spec = parse_study(TEXT, "s.yml", lambda message: None)
    read: list[str] = []

    def stop(spec: object, where: str) -> None:
        read.append(where)
        raise ValueError("far enough")

    monkeypatch.setattr("search.inputs.check_inputs", stop)
    assert "leave it out" in dynafront(command, "s.yml").output
    Path("dynafront-data").mkdir()
    settings = Settings(storage=Storage(folder=Path("dynafront-data")))
    store = Store.open(settings.database_url)
    store.add_study("s", spec.model_dump(mode="json"), TEXT, {})
    result = dynafront(command, "s.yml")
    assert "study s was begun with it and goes on" in result.output
    assert read == ["s.yml"]
    found, text = _study_of("s.yml", {}, settings, Console(quiet=True))
    assert (found.study, text) == ("s", TEXT)
