"""Files that every machine of a study finds: put, fetched, kept back while the store is away; folders and S3."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.checkpoint_files import MARK
from storage.kept_files import KeptFiles
from storage.remote_store import AwayError, RemoteStore
from tests.s3 import S3, running_s3

pytestmark = pytest.mark.slow
NAME = "s/search-0001.safetensors"


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with running_s3() as found:
        yield found


@pytest.fixture(params=["folder", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "folder":
        return str(tmp_path / "shared")
    return f"{request.getfixturevalue('s3').url}/{tmp_path.name}"


def remote(machine: Machine) -> RemoteStore:
    assert machine.files.remote is not None
    return machine.files.remote


class Machine:
    """A machine with a folder of its own."""

    def __init__(self, folder: Path, url: str) -> None:
        self.files = KeptFiles(folder, url)
        remote(self).check()
        self.file = folder / NAME

    def write(self, content: bytes) -> None:
        """As checkpoints are written: aside, then renamed."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        aside = self.file.with_suffix(".tmp")
        aside.write_bytes(content)
        aside.replace(self.file)

    def put(self, content: bytes) -> None:
        self.write(content)
        self.files.put(self.file)

    def fetched(self) -> bytes:
        self.files.fetch(self.file)
        return self.file.read_bytes()


@pytest.fixture
def one(tmp_path: Path, url: str) -> Machine:
    return Machine(tmp_path / "one", url)


@pytest.fixture
def other(tmp_path: Path, url: str) -> Machine:
    return Machine(tmp_path / "other", url)


def test_another_machine_finds_what_was_put_last(one: Machine, other: Machine) -> None:
    for content in (b"epoch 1", b"epoch 2", b"epoch 3"):
        one.put(content)
    assert other.fetched() == b"epoch 3"
    other.put(b"epoch 4")
    assert one.fetched() == b"epoch 4"
    one.put(b"epoch 5")
    assert other.fetched() == b"epoch 5"
    versions = remote(one).versions(NAME)
    assert [version.number for version in versions] == [5, 4]


def test_what_is_newer_here_is_not_replaced(one: Machine, other: Machine) -> None:
    one.put(b"epoch 1")
    one.write(b"epoch 2")
    assert one.files.is_pending(one.file)
    assert one.fetched() == b"epoch 2"
    assert other.fetched() == b"epoch 1"


def test_where_both_went_on_the_one_in_the_store_counts(one: Machine, other: Machine) -> None:
    one.put(b"epoch 1")
    other.fetched()
    other.put(b"epoch 2 of the other")
    one.write(b"epoch 2")
    assert one.fetched() == b"epoch 2 of the other"


def test_one_that_lost_the_study_and_goes_on_puts_nothing_over_its_successors(
    one: Machine, other: Machine
) -> None:
    one.put(b"epoch 1")
    other.fetched()
    for epoch in (2, 3, 4):
        other.put(b"epoch %d of the other" % epoch)
    one.put(b"epoch 2, after a long sleep")
    assert other.fetched() == b"epoch 4 of the other"
    assert one.fetched() == b"epoch 4 of the other"


def test_a_damaged_version_is_passed_over(one: Machine, other: Machine) -> None:
    one.put(b"epoch 1")
    one.put(b"epoch 2")
    store = remote(one)
    newest = store.versions(NAME)[0]
    store._files.pipe_file(store._path(f"{NAME}/{newest.text}"), b"epoch 3")
    assert other.fetched() == b"epoch 1"
    assert {file.name for file in other.file.parent.iterdir()} == {
        other.file.name,
        other.file.name + MARK,
    }


def test_a_file_that_is_there_already_is_not_put_again_though_its_mark_is_gone(
    one: Machine,
) -> None:
    one.put(b"epoch 1")
    one.file.with_name(one.file.name + MARK).unlink()
    assert one.files.is_pending(one.file)
    assert one.files.put_all([one.file]) == 0
    assert [version.number for version in remote(one).versions(NAME)] == [1]


def test_what_is_removed_is_gone_for_all(one: Machine, other: Machine) -> None:
    one.put(b"epoch 1")
    assert one.files.names("s") == other.files.names("s") == {NAME}
    assert other.files.stored("s") == {NAME: 7}
    other.files.remove(other.file)
    assert one.files.stored("s") == {}
    other.files.fetch(other.file)
    assert not other.file.exists()


def test_a_thread_puts_what_was_written_last(one: Machine, other: Machine) -> None:
    for epoch in range(20):
        one.write(b"epoch %d" % epoch)
        one.files.put_soon(one.file)
    one.files.flush()
    assert other.fetched() == b"epoch 19"
    assert remote(one).versions(NAME)[0].number <= 20


def test_a_store_that_can_be_written_passes_the_check_and_keeps_nothing_of_it(one: Machine) -> None:
    remote(one).check()
    assert remote(one)._objects("") == {}


def test_while_the_store_is_away_files_wait_and_it_is_said_once(s3: S3, tmp_path: Path) -> None:
    url = f"{s3.url}/away"
    one, other = Machine(tmp_path / "one", url), Machine(tmp_path / "other", url)
    one.put(b"epoch 1")
    second = one.file.with_name("search-0002.safetensors")
    s3.stop()
    try:
        second.write_bytes(b"another training")
        for content in (b"epoch 2", b"epoch 3"):
            one.write(content)
            one.files.put_soon(second)
            one.files.put_soon(one.file)
            one.files.flush()
        assert one.fetched() == b"epoch 3"
        said = one.files.news()
        assert said.startswith(f"{url}: Could not connect to the endpoint URL")
        assert said.endswith("checkpoints stay on this machine, and are put there when it answers")
        assert "secret" not in said
        assert one.files.news() == ""
        with pytest.raises(AwayError, match="Could not connect"):
            remote(one).check()
        assert one.files.put_all([one.file, second]) == 2
    finally:
        s3.start()
    one.write(b"epoch 4")
    one.files.put_soon(one.file)
    one.files.flush()
    one.files.flush()
    assert other.fetched() == b"epoch 4"
    assert not one.files.is_pending(second), "what waited went there too"
    assert one.files.news() == f"{url} answers again"
    assert one.files.news() == ""


def test_a_shared_disk_that_is_not_mounted_is_away_and_not_empty(tmp_path: Path) -> None:
    one = Machine(tmp_path / "one", str(tmp_path / "shared"))
    one.put(b"epoch 1")
    (tmp_path / "shared").rename(tmp_path / "elsewhere")
    one.write(b"epoch 2")
    with pytest.raises(AwayError, match="there is no such folder; mount or make it"):
        one.files.put(one.file)
    assert not (tmp_path / "shared").exists()
    assert one.fetched() == b"epoch 2"


def test_a_bucket_that_is_not_there_is_said_in_one_line(s3: S3) -> None:
    with pytest.raises(AwayError, match="The specified bucket does not exist; make it"):
        RemoteStore("s3://no-such-bucket-of-ours/x").check()


def test_a_package_that_lacks_is_named() -> None:
    from fsspec import register_implementation

    register_implementation(
        "lacking", "no_such_package.Files", errtxt="Install no_such_package", clobber=True
    )
    with pytest.raises(ValueError, match="lacking://bucket/x: Install no_such_package"):
        RemoteStore("lacking://bucket/x").check()
