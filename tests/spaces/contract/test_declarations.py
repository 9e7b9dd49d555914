"""What families declare is the same whether it is read from the file or from the families."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import spaces.contract.declarations as module
from spaces.contract.declarations import cache_file, declaration, declarations
from spaces.contract.family import Declaration
from spaces.contract.registry import families


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(module, "CACHE", str(tmp_path / "cache"))
    declarations.cache_clear()
    yield
    declarations.cache_clear()


def without_code(one: Declaration) -> Declaration:
    return replace(one, space=tuple(replace(d, accepts=None) for d in one.space))


def read_again(monkeypatch: pytest.MonkeyPatch) -> dict[str, Declaration]:
    """The declarations as a new process reads them; families cannot be imported."""
    declarations.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(module, "families", lambda: pytest.fail("the families were imported"))
        return declarations()


def test_every_family_is_declared_in_the_file_as_in_its_code(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    declarations()
    stored = read_again(monkeypatch)
    assert list(stored) == list(families())
    for name, own in families().items():
        assert without_code(stored[name]) == without_code(own.declaration)


def test_an_open_choice_still_takes_what_is_not_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    declarations()
    (backbone,) = (d for d in read_again(monkeypatch)["gated_resnet"].space if d.name == "backbone")
    assert "resnet50" not in backbone.choices
    assert backbone.canonical("resnet50") == "resnet50"
    with pytest.raises(ValueError, match="resnet51 is not one of"):
        backbone.canonical("resnet51")


def test_a_changed_source_file_is_another_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "source").mkdir()
    source = tmp_path / "source" / "family.py"
    source.write_text("A = 1")
    monkeypatch.setattr(module, "SOURCES", tmp_path / "source")
    before = cache_file()
    source.write_text("A = 2")
    assert cache_file() != before


@pytest.mark.parametrize("text", ["", "{", "[]x", '[{"name": "timm"}]', "[3]"])
def test_a_damaged_file_is_written_anew(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    known = declarations()
    cache_file().write_text(text)
    declarations.cache_clear()
    assert list(declarations()) == list(known)
    assert list(read_again(monkeypatch)) == list(known)


def test_a_cache_that_cannot_be_written_costs_only_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(module, "CACHE", str(tmp_path / "file" / "cache"))
    assert list(declarations()) == list(families())


def test_few_files_are_kept(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    for number in range(20):
        old = folder / f"families-{number}.json"
        old.write_text("[]")
        os.utime(old, (number, number))
    declarations()
    left = {file.name for file in folder.iterdir()}
    assert left == {cache_file().name, *(f"families-{n}.json" for n in range(13, 20))}


def test_an_unknown_family_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="gated_resnt is not a family; did you mean gated_resnet"):
        declaration("gated_resnt")
