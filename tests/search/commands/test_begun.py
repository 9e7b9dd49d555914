"""A study goes on as it was begun."""

from __future__ import annotations

from pathlib import Path

import pytest

from search.commands.begun import going_on
from search.spec import parse_study
from storage.settings import Settings, Storage
from storage.store import Store

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
