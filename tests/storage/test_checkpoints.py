"""Checkpoints: what comes back, what a crash or a damaged file costs."""

import json
import os
import stat

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from storage.checkpoints import Checkpoints
from storage.weights_file import save_weights

KEY = "digits/search-7"
STATES = st.dictionaries(
    st.text(),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=8,
    ),
    max_size=4,
)


@pytest.fixture
def checkpoints(tmp_path):
    return Checkpoints(tmp_path / "checkpoints")


def save(checkpoints: Checkpoints, epoch: int) -> None:
    checkpoints.save(KEY, {"weight": torch.full((100,), float(epoch))}, {"epoch": epoch})


def loaded_epoch(checkpoints: Checkpoints) -> int | None:
    """The epoch of the state, which must be that of the tensors."""
    found = checkpoints.load(KEY)
    if found is None:
        return None
    tensors, state = found
    assert tensors["weight"].tolist() == [state["epoch"]] * 100
    return state["epoch"]


def test_every_kind_of_tensor_comes_back_bit_by_bit(checkpoints):
    base = torch.randn(4, 6)
    tensors = {
        "float": base,
        "shared": base,
        "transposed": base.t(),
        "slice": base[1:, ::2],
        "channels_last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "bool": torch.tensor([True, False]),
        "int64": torch.tensor([2**62, -1]),
        "uint8": torch.arange(5, dtype=torch.uint8),
        "bf16": torch.randn(3).bfloat16(),
        "number": torch.tensor(3.5),
        "empty": torch.empty(0, 3),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "nan": torch.tensor([float("nan"), float("inf")]),
    }
    checkpoints.save(KEY, tensors, {})
    found, _ = checkpoints.load(KEY)
    assert set(found) == set(tensors)
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        torch.testing.assert_close(found[name], tensor.detach(), rtol=0, atol=0, equal_nan=True)


@given(STATES)
def test_the_state_comes_back_as_it_was(tmp_path_factory, state):
    checkpoints = Checkpoints(tmp_path_factory.mktemp("states"))
    checkpoints.save(KEY, {}, state)
    assert checkpoints.load(KEY) == ({}, state)


def test_the_state_may_hold_huge_numbers_and_the_state_of_a_random_generator(checkpoints):
    state = {"huge": 2**200, "rng": torch.get_rng_state().tolist(), "nested": [[1, [2.5, None]]]}
    checkpoints.save(KEY, {"a": torch.ones(1)}, state)
    assert checkpoints.load(KEY)[1] == state


def test_saving_again_replaces_and_changing_a_tensor_afterwards_changes_nothing(checkpoints):
    weight = torch.ones(100)
    checkpoints.save(KEY, {"weight": weight}, {"epoch": 1})
    weight.zero_()
    assert loaded_epoch(checkpoints) == 1
    save(checkpoints, 2)
    assert loaded_epoch(checkpoints) == 2


def test_without_a_checkpoint_there_is_none(checkpoints):
    assert checkpoints.load(KEY) is None
    assert checkpoints.keys() == []
    checkpoints.remove(KEY)


def test_keys_are_listed_once_and_removing_one_leaves_the_others_and_no_file(checkpoints):
    for key in ("b", "a/x-1", "a/x-10"):
        checkpoints.save(key, {}, {})
        checkpoints.save(key, {}, {})
    assert checkpoints.keys() == ["a/x-1", "a/x-10", "b"]
    checkpoints.remove("a/x-1")
    assert checkpoints.keys() == ["a/x-10", "b"]
    assert [f.name for f in checkpoints.folder.rglob("*x-1.*")] == []


@pytest.mark.parametrize(
    "key", ["", "../outside", "/absolute", "a//b", "a.b", "a b", "a/", "x.before"]
)
def test_a_key_that_could_leave_the_folder_or_hide_a_file_is_refused(checkpoints, key):
    with pytest.raises(ValueError, match="is not a checkpoint key; use letters"):
        checkpoints.save(key, {}, {})


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.99])
def test_a_file_cut_short_falls_back_to_the_save_before(checkpoints, share):
    save(checkpoints, 1)
    save(checkpoints, 2)
    file = checkpoints.folder / f"{KEY}.safetensors"
    os.truncate(file, int(file.stat().st_size * share))
    assert loaded_epoch(checkpoints) == 1
    save(checkpoints, 3)
    assert loaded_epoch(checkpoints) == 3


@pytest.mark.parametrize("place", [3, 40, 120, -200, -1])
def test_a_changed_byte_anywhere_falls_back_to_the_save_before(checkpoints, place):
    save(checkpoints, 1)
    save(checkpoints, 2)
    file = checkpoints.folder / f"{KEY}.safetensors"
    content = bytearray(file.read_bytes())
    content[place] ^= 0x15
    file.write_bytes(content)
    assert loaded_epoch(checkpoints) == 1


def test_two_damaged_files_are_as_good_as_none(checkpoints):
    save(checkpoints, 1)
    save(checkpoints, 2)
    for file in checkpoints.folder.rglob("*.safetensors"):
        file.write_bytes(b"\xff" * 50)
    assert checkpoints.load(KEY) is None


def test_a_file_of_another_program_is_as_good_as_none(checkpoints):
    save(checkpoints, 1)
    save_file({"a": torch.ones(1)}, checkpoints.folder / f"{KEY}.safetensors")
    assert checkpoints.load(KEY) is None


@pytest.mark.parametrize("call", [1, 2])
def test_a_crash_while_saving_leaves_the_old_pair_or_the_new_one(checkpoints, monkeypatch, call):
    save(checkpoints, 1)
    done = []

    def crash(source, target, replace=os.replace):
        done.append(source)
        if len(done) == call:
            raise KeyboardInterrupt("crashed")
        replace(source, target)

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(KeyboardInterrupt, match="crashed"):
        save(checkpoints, 2)
    monkeypatch.undo()
    assert loaded_epoch(checkpoints) == 1
    assert checkpoints.keys() == [KEY]
    save(checkpoints, 3)
    assert loaded_epoch(checkpoints) == 3


def test_content_and_names_are_on_the_disk_when_a_save_returns(checkpoints, monkeypatch):
    done, replace = [], os.replace
    monkeypatch.setattr(
        os, "fsync", lambda handle: done.append(stat.S_ISDIR(os.fstat(handle).st_mode))
    )

    def renamed(*names: str) -> None:
        done.append("rename")
        replace(*names)

    monkeypatch.setattr(os, "replace", renamed)
    save(checkpoints, 1)
    file, folder = False, True
    assert done == [file, "rename", folder]
    save(checkpoints, 2)
    assert done[3:] == [file, "rename", "rename", folder]


def test_a_state_that_is_not_json_is_refused_and_the_old_checkpoint_stays(checkpoints):
    save(checkpoints, 1)
    with pytest.raises(TypeError, match="not JSON serializable"):
        checkpoints.save(KEY, {}, {"a": object()})
    assert loaded_epoch(checkpoints) == 1


def test_a_file_holds_no_pickle(checkpoints):
    save(checkpoints, 1)
    content = (checkpoints.folder / f"{KEY}.safetensors").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert json.loads(header["__metadata__"]["state"]) == {"epoch": 1}


def test_a_checkpoint_from_before_checksums_still_loads(checkpoints):
    path = checkpoints.path("s/search-0000")
    path.parent.mkdir(parents=True)
    save_weights({"w": torch.arange(3.0)}, path, {"state": json.dumps({"epoch": 2})})
    tensors, state = checkpoints.load("s/search-0000")
    assert state == {"epoch": 2}
    assert tensors["w"].tolist() == [0.0, 1.0, 2.0]


def test_a_checkpoint_whose_checksum_has_another_name_is_none_from_before_checksums(checkpoints):
    path = checkpoints.path("s/search-0000")
    path.parent.mkdir(parents=True)
    found = {"state": json.dumps({"epoch": 2}), "chexksum": "1"}
    save_weights({"w": torch.arange(3.0)}, path, found)
    assert checkpoints.load("s/search-0000") is None


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_who_may_read_a_checkpoint_follows_the_umask(checkpoints, umask, mode):
    before = os.umask(umask)
    try:
        for epoch in range(2):
            checkpoints.save("s/search-0000", {"w": torch.zeros(2)}, {"epoch": epoch})
    finally:
        os.umask(before)
    files = list(checkpoints.folder.rglob("*.safetensors"))
    assert len(files) == 2
    assert {file.stat().st_mode & 0o777 for file in files} == {mode}
