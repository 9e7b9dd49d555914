"""The list of pictures: it is complete, and all that a further picture needs besides its own module."""

from __future__ import annotations

import importlib.util
import io
import json
import pkgutil
import re
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

import search.inspection
from search.inspection import pictures
from search.inspection.measures import Inspection, inspect_network, inspection_of
from search.inspection.page import inspection_html
from search.inspection.picture import Picture
from search.inspection.pngs import inspection_pngs
from tests.search.inspection.nets import DIFFERING, EFFORT, found_of, halves, joint
from trainers.data.splits import ImageData

ONE_FILE = """
from __future__ import annotations

from dataclasses import dataclass

from search.inspection.figure import panel
from search.inspection.picture import Headline, Picture


@dataclass(frozen=True)
class Spread:
    lowest: float
    highest: float


def measure(subject):
    macs_N = subject.seen.macs_N
    return Spread(float(macs_N.min()), float(macs_N.max()))


def headline(spread, images):
    return Headline(f"From {spread.lowest} to {spread.highest} MACs", f"over {images} images")


def plot(spread, blank):
    figure = blank(2.0)
    panel(figure, 0.1, 0.9, 0.5).plot([spread.lowest, spread.highest])
    return figure


def content(spread):
    return f"<i>{spread.highest}</i>"


PICTURE = Picture(
    name="spread", link="spread of MACs", key="spread", part=Spread,
    measure=measure, headline=headline, plot=plot, content=content,
)
"""


def test_every_module_with_a_picture_is_listed_once() -> None:
    modules = [
        import_module(f"search.inspection.{one.name}")
        for one in pkgutil.iter_modules(search.inspection.__path__)
    ]
    defined = [
        own for module in modules for own in vars(module).values() if isinstance(own, Picture)
    ]
    assert len(defined) >= 8
    assert sorted(own.name for own in pictures.PICTURES) == sorted(own.name for own in defined)
    assert set(map(id, pictures.PICTURES)) == set(map(id, defined))


def test_no_two_pictures_share_a_name_or_a_place_in_the_stored_inspection() -> None:
    keys = [own.key for own in pictures.PICTURES]
    assert len(set(keys)) == len(keys)
    assert len({own.name for own in pictures.PICTURES}) == len(keys)
    for number, key in enumerate(keys):
        outer, _, inner = key.rpartition(".")
        assert not inner or not outer or outer in keys[:number], (
            "what lies inside a part is listed after it"
        )
        assert key.partition(".")[0] not in Inspection.__dataclass_fields__


@pytest.mark.parametrize(
    "module", ["images", "exits", "attention", "class_rates", "skip_patterns", "layer_mixing"]
)
def test_a_picture_of_one_name_stands_in_a_module_of_that_name(module: str) -> None:
    assert import_module(f"search.inspection.{module}").PICTURE.name == module


def made_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module of a picture that there is not, from its one file."""
    (folder / "spread.py").write_text(ONE_FILE)
    spec = importlib.util.spec_from_file_location("made_up_spread", folder / "spread.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "made_up_spread", module)
    spec.loader.exec_module(module)
    return module


def test_a_further_picture_is_one_file_and_one_row(
    data: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = json.loads(json.dumps(found_of("joint", data).as_dict()))
    module = made_up(tmp_path, monkeypatch)
    monkeypatch.setattr(pictures, "PICTURES", (*pictures.PICTURES, module.PICTURE))  # the row
    inspection = inspect_network(joint(), data, halves(), effort=EFFORT)
    spread = inspection.part(module.PICTURE)
    stored = json.loads(json.dumps(inspection.as_dict()))
    assert stored["spread"] == {"lowest": spread.lowest, "highest": spread.highest}
    assert inspection_of(stored) == inspection
    assert Image.open(io.BytesIO(inspection_pngs(inspection, "n")["spread"])).format == "PNG"
    page = inspection_html(inspection, "t")
    assert '<a href="#spread">spread of MACs</a>' in page
    section = re.search(r'<section id="spread">.*</section>', page)
    assert section is not None
    assert f"<i>{spread.highest}</i>" in section[0]
    assert f"From {spread.lowest} to {spread.highest} MACs" in section[0]
    opened = inspection_of(older)
    assert opened is not None
    assert opened.part(module.PICTURE) is None, "measured before there was the picture"
    names = DIFFERING | {"class_rates", "skip_patterns"}
    assert set(inspection_pngs(opened, "n")) == names


STORED = {  # as trials of older studies hold it
    "images": 20,
    "accuracy": 0.5,
    "macs_mean": 60.0,
    "plain_macs": 100,
    "class_rates": {
        "classes": ["a", "b"],
        "gates": ["block1"],
        "rates": [[0.2], [0.8]],
        "left_out": 0,
    },
    "patterns": {
        "gates": ["block1"],
        "rows": [{"open": "1", "share": 1.0, "accuracy": 0.5, "macs": 60.0}],
        "distinct": 1,
    },
    "mixtures": {"right": [[0.25, 0.75]], "wrong": None},
    "exits": {
        "exits": [
            {"name": "deepest", "share": 1.0, "accuracy": None, "accuracy_all": 0.5, "macs": 60.0}
        ],
        "classes": ["a"],
        "by_class": [[1.0]],
    },
    "attention": {
        "samples": [{"png": "", "label": "a", "answer": "b", "macs": 60.0}],
        "exits": [{"exit": "exit0", "maps": [""], "low": 0.0, "high": 1.0}],
    },
    "moves": {
        "images": 16,
        "edges": [0.0, 1.0],
        "counts": [[[16]]],
        "means": [[1.0]],
        "norms": [2.0],
        "embedding": {"layer": 0, "method": "PCA", "points": [[[0.0, 1.0]]], "explained": 0.5},
    },
    "extremes": {"cheapest": [], "dearest": []},
}


def test_an_inspection_is_stored_as_it_always_was() -> None:
    inspection = inspection_of(STORED)
    assert inspection is not None
    since = {"cost_shares", "mistakes"}  # pictures that there were not
    assert {picture.name for picture in pictures.PICTURES} - since == set(inspection.parts)
    now = json.loads(json.dumps(inspection.as_dict()))
    moves = STORED["moves"] | {
        "trained": True
    }  # once, only networks that were trained to move were shown
    moves["embedding"] = moves["embedding"] | {"trained": True}
    assert now == STORED | dict.fromkeys(since) | {"moves": moves}
    nothing = dict.fromkeys(STORED) | {
        name: STORED[name] for name in ("images", "accuracy", "macs_mean", "plain_macs")
    }
    bare = inspection_of(nothing)
    assert bare is not None
    assert bare.parts == {}
    assert bare.as_dict() == nothing | dict.fromkeys(since)
    without = inspection_of(STORED | {"moves": STORED["moves"] | {"embedding": None}})
    assert without is not None
    assert without.as_dict()["moves"]["embedding"] is None


def test_a_part_that_cannot_be_read_makes_the_whole_one_of_another_version() -> None:
    assert inspection_of(STORED | {"exits": {"exits": []}}) is None
    assert inspection_of(STORED | {"moves": 3}) is None
    assert inspection_of(STORED | {"newer": {"than": "this"}}) == inspection_of(STORED)
