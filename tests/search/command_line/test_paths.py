"""Paths that people give to commands: where the shell put nothing in, and where nothing can be written."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.search.conftest import dynafront

OUT = (("export", "--out", "x"), ("inspect", "--out", "x"), ("front", "--plot", "x.png"))


@pytest.mark.parametrize(("command", "flag", "name"), OUT)
@pytest.mark.parametrize("where", ["a-file", "/proc", "/proc/deep/down"])
def test_a_place_that_cannot_be_written_is_one_line_before_anything_else(
    command: str,
    flag: str,
    name: str,
    where: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a-file").touch()
    result = dynafront(command, "nothing", flag, f"{where}/{name}")
    assert result.exit_code == 2
    line = result.output.splitlines()[-1]
    assert f"Invalid value for '{flag}'" in line
    assert f"{where}/{name}: cannot be written" in line or f"{where}: is a file" in line
    assert "give a" in line
    assert [p.name for p in tmp_path.iterdir()] == ["a-file"], "nothing is left behind"


@pytest.mark.parametrize(("command", "flag", "name"), OUT)
@pytest.mark.parametrize("home", ["~", "$HOME", "${HOME}"])
def test_home_is_meant_where_the_shell_did_not_put_it_in(
    command: str,
    flag: str,
    name: str,
    home: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    taken = tmp_path / "home" / ("x" if flag == "--out" else "x.png")
    if flag == "--out":
        taken.parent.mkdir()
        taken.touch()
    else:
        taken.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    result = dynafront(command, "nothing", flag, f"{home}/{name}")
    assert result.exit_code == 2
    assert str(taken) in result.output.replace("\n", "")
    assert [p.name for p in tmp_path.iterdir()] == ["home"]


def test_files_to_read_may_lie_at_home_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    Path("s.yml").write_text("storage: {folder: here}\nnonsense: 1\n")
    assert "nonsense" in dynafront("--config", "~/s.yml", "status").output
    assert "data" in dynafront("search", "$HOME/s.yml").output
    assert "holds no model.json" in dynafront("predict", "~", "x.png").output
    Path("$HOME").mkdir()
    assert "$HOME: holds no model.json" in dynafront("predict", "$HOME", "x.png").output
