"""What lies in the data folder is found again after both were moved."""

from pathlib import Path

from storage.places import place, stored_place


def test_a_path_inside_the_data_folder_moves_along(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = Path("data")
    for written in (Path("data/exports/a"), tmp_path / "data" / "exports" / "a"):
        stored = stored_place(written, data)
        assert place(stored, data) == Path("data/exports/a")
        assert place(stored, Path("/moved")) == Path("/moved/exports/a")


def test_a_path_outside_stays_as_it_was_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for written in ("exported", "../x", "/somewhere/else"):
        assert place(stored_place(Path(written), Path("data")), Path("data")) == Path(written)


def test_an_older_whole_path_into_a_data_folder_that_is_gone_is_found_in_the_new_one(tmp_path):
    data = tmp_path / "new" / "data"
    (data / "exports" / "a").mkdir(parents=True)
    old = str(tmp_path / "old" / "data" / "exports")
    assert place(f"{old}/a", data) == data / "exports" / "a"
    assert place(f"{old}/b", data) == Path(f"{old}/b")
    Path(old, "a").mkdir(parents=True)
    assert place(f"{old}/a", data) == Path(old, "a")
