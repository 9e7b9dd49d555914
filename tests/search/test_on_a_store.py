"""An export in a bucket, and checkpoints that are put there later: commands take the address in place of a folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from storage.records import Kind
from storage.settings import Settings
from storage.store import Store
from tests.s3 import S3, running_s3
from tests.search.conftest import dynafront

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with running_s3() as found:
        yield found


@pytest.fixture
def here(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished study, as the current folder."""
    shutil.copytree(finished, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def test_what_takes_an_exported_folder_takes_its_address_in_a_bucket(here: Path, s3: S3) -> None:
    where = f"{s3.url}/models/tiny"
    exported = dynafront("export", "tiny", "--whole-curve", "--point", gated(), "--out", where)
    assert exported.exit_code == 0, exported.output
    Image.fromarray(np.full((8, 8), 90, np.uint8)).save(here / "image.png")
    predicted = dynafront("predict", where, "image.png", "--json")
    assert predicted.exit_code == 0, predicted.output
    inspected = dynafront("inspect", where, "--out", "looked")
    assert inspected.exit_code == 0, inspected.output
    assert (here / "looked" / "inspect.json").exists()
    draw_images(here / "images")
    retuned = dynafront("retune", where, "images", "--out", f"{where}-again")
    assert retuned.exit_code == 0, retuned.output
    again = dynafront("predict", f"{where}-again", "image.png", "--json")
    assert again.exit_code == 0, again.output


def gated() -> str:
    """The id of a point whose gates decide by a threshold."""
    store = Store.open(Settings().database_url)
    points = store.points("tiny", kind=Kind.SEARCH)
    store.close()
    return next(str(point.id) for point in points if point.knobs["policy"] == "threshold")


def draw_images(folder: Path, count: int = 50) -> None:
    draw = np.random.default_rng(0)
    for number in range(count):
        of_class = folder / str(number % 10)
        of_class.mkdir(parents=True, exist_ok=True)
        pixels = draw.integers(0, draw.integers(10, 256), (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(of_class / f"{number}.png")


def test_sync_puts_into_the_store_what_this_machine_alone_has(here: Path, s3: S3) -> None:
    store = f"{s3.url}/later"
    (here / "mlflow.yml").write_text(f"storage: {{checkpoints: '{store}'}}")
    assert "0 bytes in" in " ".join(dynafront("status", "tiny").output.split())
    synced = dynafront("sync", "tiny")
    assert synced.exit_code == 0, synced.output
    files = sorted((here / "dynafront-data" / "checkpoints" / "tiny").glob("*.safetensors"))
    assert files
    shutil.rmtree(here / "dynafront-data" / "checkpoints")
    exported = dynafront("export", "tiny")
    assert exported.exit_code == 0, exported.output
