"""Features of frozen trunks that one machine computes and the others fetch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from search.commands.clean import clean_features, feature_line
from search.run.features import SharedFeatures, feature_store, features_of, with_places
from storage.remote_store import RemoteStore
from storage.settings import Settings
from storage.store import Store
from tests.search.run.jobs import job
from trainers.feature_files import FeatureFiles, Rows, Wanted

HEAD = 128  # bytes of a file before its numbers


def machine(folder: Path, name: str, files: int = 10) -> FeatureFiles:
    """The files of a machine; the store has room for so many."""
    limit = files * (HEAD + 32)
    return FeatureFiles(folder / name, limit, shared(folder, limit))


def shared(folder: Path, limit: int = 10_000) -> SharedFeatures:
    place = folder / "shared" / "features"
    if not (folder / "shared").is_file():
        place.mkdir(parents=True, exist_ok=True)
    return SharedFeatures(RemoteStore(str(place)), limit)


def wanted(key: str) -> dict[str, Wanted]:
    return {"a": Wanted(key, 4, 2, "float32")}


class Computed:
    """Computes arrays, and counts how often."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, names: list[str]) -> Iterator[Rows]:
        self.times += 1
        yield {name: np.arange(8, dtype="float32").reshape(4, 2) for name in names}


def test_what_one_machine_computed_is_fetched_by_the_next(tmp_path: Path) -> None:
    compute = Computed()
    first = machine(tmp_path, "one").arrays(wanted("k"), compute)
    second = machine(tmp_path, "two").arrays(wanted("k"), compute)
    assert compute.times == 1
    assert np.array_equal(first["a"], second["a"])


def test_a_file_that_is_damaged_there_is_computed(tmp_path: Path) -> None:
    compute = Computed()
    machine(tmp_path, "one").arrays(wanted("k"), compute)
    (file,) = (one for one in (tmp_path / "shared").rglob("*") if one.is_file())
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    machine(tmp_path, "two").arrays(wanted("k"), compute)
    assert compute.times == 2


def test_together_they_keep_the_limit(tmp_path: Path) -> None:
    for key in ("k1", "k2", "k3"):
        machine(tmp_path, "one", files=2).arrays(wanted(key), Computed())
    assert len(shared(tmp_path).store.files("")) == 2
    small = shared(tmp_path, limit=20)
    small.put(next((tmp_path / "one").glob("*.npy")))
    assert len(shared(tmp_path).store.files("")) == 2


def test_without_the_store_they_are_computed(tmp_path: Path) -> None:
    (tmp_path / "shared").write_text("no folder")
    compute = Computed()
    found = machine(tmp_path, "one").arrays(wanted("k"), compute)
    assert found["a"].shape == (4, 2)
    assert compute.times == 1


def test_settings_and_jobs_name_the_same_files_and_clean_deletes_them(tmp_path: Path) -> None:
    settings = Settings.model_validate(
        {"storage": {"folder": tmp_path / "own", "checkpoints": str(tmp_path / "shared")}}
    )
    shared(tmp_path)
    files, of_job = feature_store(settings), features_of(with_places(job(tmp_path), settings))
    assert files is not None
    assert of_job is not None
    assert (files.folder, files.limit) == (of_job.folder, of_job.limit)
    assert isinstance(files.elsewhere, SharedFeatures)
    assert isinstance(of_job.elsewhere, SharedFeatures)
    assert files.elsewhere.store.url == of_job.elsewhere.store.url
    files.arrays(wanted("k"), Computed())
    store = Store.open(settings.database_url)
    assert feature_line(store, settings, dry=True).endswith("320 bytes can go")
    clean_features(store, settings)
    assert feature_line(store, settings, dry=True) == ""
    assert not shared(tmp_path).store.files("")
    store.close()
