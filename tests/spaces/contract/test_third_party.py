"""Families of other packages: what an installed package looks like, made by hand on the module path."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import spaces.contract.declarations as module
from spaces.contract.declarations import cache_file, declaration, declarations
from spaces.contract.registry import entries, families, family, left_out

ROOT = Path(__file__).parents[3]
FAMILY = """\
from dataclasses import replace
from spaces.families.gated_resnet import FAMILY as GATED_RESNET
FAMILY = replace(GATED_RESNET, name="{name}", doc="A family of another package")
"""
STUDY = """\
study: other
data: digits
families: [narrow_resnet]
space:
  narrow_resnet: {backbone: resnet8, width: 0.25, batch: 32}
budget: {trials: 1, epochs: 1}
train_limit: 256
run: {precision: float32, threads: 1}
"""


def install(
    folder: Path, name: str, *, text: str = FAMILY, attribute: str = "FAMILY", entry: str = ""
) -> Path:
    """A package in the folder that names a family in an entry point, as pip leaves one; returns its module."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    line = f"{entry or name} = {name}_package:{attribute}"
    (info / "entry_points.txt").write_text(f"[dynafront.families]\n{line}\n")
    package = folder / f"{name}_package.py"
    package.write_text(text.format(name=name))
    return package


@pytest.fixture
def site(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Iterator[Path]:
    """A folder of packages on the module path; nothing of it is left known afterwards."""
    caplog.set_level(logging.WARNING, "dynafront")  # commands of other tests turn it down
    monkeypatch.setattr(module, "CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    found = (entries, families, left_out, declarations)
    for one in found:
        one.cache_clear()
    yield folder
    for one in found:
        one.cache_clear()
    for name in [name for name in sys.modules if name.endswith("_package")]:
        del sys.modules[name]


def test_a_family_of_another_package_is_one_of_all(site: Path) -> None:
    install(site, "narrow_resnet")
    own = family("narrow_resnet")
    assert own.doc == "A family of another package"
    assert list(families())[-1] == "narrow_resnet"
    assert declaration("narrow_resnet").doc == own.doc


def test_its_declaration_is_kept_until_its_source_changes(site: Path) -> None:
    without = cache_file()
    entries.cache_clear()
    package = install(site, "narrow_resnet")
    assert cache_file() != without
    declarations()
    before = cache_file()
    assert before.exists()
    package.write_text(package.read_text() + "# changed\n")
    assert cache_file() != before


@pytest.mark.parametrize(
    ("text", "more", "reason"),
    [
        ("import nowhere_at_all", {}, "cannot be imported .*No module named 'nowhere_at_all'"),
        ("1 / 0", {}, "cannot be imported .*ZeroDivisionError"),
        (FAMILY, {"attribute": "OTHER"}, "cannot be imported .*OTHER"),
        ("FAMILY = 3", {}, "is a int, not a Family"),
        (FAMILY, {"entry": "wide"}, "is the family broken; give the entry point its name"),
    ],
)
def test_one_that_cannot_be_used_is_left_out_and_the_reason_is_said(
    site: Path, text: str, more: dict[str, str], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    install(site, "broken", text=text, **more)
    name = more.get("entry", "broken")
    assert name not in families()
    assert f"family {name} is left out: broken_package:" in caplog.text
    for known in (family, declaration):
        with pytest.raises(ValueError, match=f"{name} is not a family: .* of broken 1.0: {reason}"):
            known(name)
    assert family("gated_resnet").name == "gated_resnet"
    assert not cache_file().exists()  # it may be put right soon


def test_no_package_takes_the_place_of_a_family(
    site: Path, caplog: pytest.LogCaptureFixture
) -> None:
    install(site, "gated_resnet")
    assert family("gated_resnet").doc != "A family of another package"
    assert "gated_resnet 1.0: there is a family of this name already" in caplog.text


@pytest.mark.slow
def test_a_study_searches_it_in_worker_processes_too(site: Path, tmp_path: Path) -> None:
    install(site, "narrow_resnet")
    (tmp_path / "study.yml").write_text(STUDY)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{site}"}
    for words in ("spaces narrow_resnet", "search study.yml", "front other"):
        done = subprocess.run(
            [sys.executable, "-m", "dynafront", *words.split()],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env=environment,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "narrow_resnet" in done.stdout
