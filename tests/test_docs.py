"""The docs keep up with the code: every command, flag, key and variable stands in them, and their examples hold."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, get_args
from urllib.parse import unquote

import click
import numpy as np
import pytest
import yaml
from PIL import Image
from pydantic import BaseModel

from search.cli import main
from search.spec import StudySpec, parse_study
from storage.mlflow_client import ENVIRONMENT
from storage.settings import OVERRIDES, Settings

ROOT = Path(__file__).parents[1]
PAGES = {
    path.relative_to(ROOT).as_posix(): path
    for path in (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")))
}
PACKAGES = ("dynafront", "search", "spaces", "trainers", "storage")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
READ_VARIABLE = re.compile(r"environ(?:\.get\(|\[)\s*[\"'](\w+)[\"']")


@cache
def text(page: str) -> str:
    return PAGES[page].read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a page that are marked with this language."""
    return [content for marked, content in FENCE.findall(text(page)) if marked == language]


def sections(page: str) -> dict[str, str]:
    """Text by heading, of any level, down to the next heading of any level."""
    parts = re.split(r"^#+ +(.*)$", FENCE.sub("", text(page)), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def anchors(page: str) -> set[str]:
    """What a link can name in a page, by GitHub's rule."""
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in sections(page)}


def options(command: click.Command) -> list[str]:
    """The flags that its help shows."""
    shown = [p for p in command.params if isinstance(p, click.Option) and not p.hidden]
    return [flag for option in shown for flag in option.opts]


def keys(model: type[BaseModel], before: str = "") -> Iterator[str]:
    """The keys of a model and of the models in it, with dots."""
    for name, field in model.model_fields.items():
        yield f"{before}{name}"
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from keys(kind, f"{before}{name}.")


def defaults(model: type[BaseModel], before: str = "") -> Iterator[tuple[str, Any]]:
    """Key and default, as YAML has it, of what is neither required nor a model."""
    for name, field in model.model_fields.items():
        default = field.default_factory() if field.default_factory else field.default  # type: ignore[call-arg]
        if not isinstance(default, BaseModel) and default is not None and not field.is_required():
            yield f"{before}{name}", list(default) if isinstance(default, tuple) else default
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from defaults(kind, f"{before}{name}.")


def variables() -> set[str]:
    """Environment variables that the product reads, and those that it sets for MLflow where a person has not."""
    sources = [
        path.read_text(encoding="utf-8")
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
    ]
    found = {name for source in sources for name in READ_VARIABLE.findall(source)}
    return found | set(OVERRIDES) | set(ENVIRONMENT)


def links() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for target in LINK.findall(FENCE.sub("", text(page))):
            if "://" not in target and not target.startswith("mailto:"):
                yield page, target


def study_files() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for block in blocks(page, "yaml"):
            if "study" in yaml.safe_load(block):
                yield page, block


def test_what_is_looked_for_is_found() -> None:
    assert {"README.md", "docs/study-file.md", "docs/operations.md", "docs/export.md"} <= set(PAGES)
    assert {"study", "budget.plateau.growth", "region.max_macs", "run.workers"} <= set(
        keys(StudySpec)
    )
    assert {"tracking_uri", "server.allowed_hosts", "storage.database"} <= set(keys(Settings))
    assert {
        "DYNAFRONT_DATA",
        "DYNAFRONT_DATABASE",
        "MLFLOW_TRACKING_URI",
        "CUDA_VISIBLE_DEVICES",
    } <= variables()
    assert len(list(study_files())) > 10
    assert len(list(links())) > 30


@pytest.mark.parametrize("name", sorted(main.commands))
def test_every_command_has_a_section_with_all_of_its_flags(name: str) -> None:
    section = sections("docs/operations.md").get(f"dynafront {name}", "")
    assert f"`dynafront {name}" in section
    own = [flag for flag in options(main.commands[name]) if flag not in options(main)]
    missing = [flag for flag in own if not re.search(rf"`{flag}[` ]", section)]
    assert not missing, f"docs/operations.md, dynafront {name}: {missing}"


def test_every_flag_of_the_program_itself_is_in_the_docs() -> None:
    section = sections("docs/operations.md")["Commands"]
    assert [flag for flag in options(main) if flag not in section] == []


@pytest.mark.parametrize("key", sorted(keys(StudySpec)))
def test_every_key_of_study_files_has_a_row(key: str) -> None:
    assert f"\n| `{key}` |" in text("docs/study-file.md")


@pytest.mark.parametrize(("key", "default"), list(defaults(StudySpec)))
def test_defaults_of_study_files_are_those_in_the_docs(key: str, default: Any) -> None:
    row = re.search(
        rf"^\| `{key}` \|[^|]*\| `([^`]*)` \|", text("docs/study-file.md"), re.MULTILINE
    )
    assert row, key
    assert yaml.safe_load(row[1]) == default


def descriptions(model: type[BaseModel], before: str = "") -> Iterator[tuple[str, str | None]]:
    """Key and description of every key of a model and of the models in it."""
    for name, field in model.model_fields.items():
        yield f"{before}{name}", field.description
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from descriptions(kind, f"{before}{name}.")


@pytest.mark.parametrize(("key", "description"), list(descriptions(StudySpec)))
def test_editors_and_docs_say_the_same_of_a_key(key: str, description: str | None) -> None:
    row = re.search(rf"^\| `{re.escape(key)}` \|.*$", text("docs/study-file.md"), re.MULTILINE)
    assert row, key
    meaning = re.split(r"(?<!\\)\|", row[0])[4].strip()
    assert re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", meaning) == description


@pytest.mark.parametrize("key", [key for key in keys(Settings) if key not in ("server", "storage")])
def test_every_key_of_the_settings_has_a_row(key: str) -> None:
    assert f"\n| `{key}` |" in text("docs/operations.md")


def test_defaults_of_the_settings_are_those_in_the_docs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in OVERRIDES:
        monkeypatch.delenv(name, raising=False)
    settings = Settings()
    own = settings.model_dump(mode="json")
    own["storage"]["database"] = settings.database_url  # left out, it follows from the folder
    rows = re.findall(
        r"^\| `([\w.]+)` \| `([^`]*)`", sections("docs/operations.md")["Settings"], re.M
    )
    shown = {key: default.replace("FOLDER", "dynafront-data") for key, default in rows}
    assert len(shown) >= 11
    for key, default in shown.items():
        value: Any = own
        for part in key.split("."):
            value = value[part]
        assert value == yaml.safe_load(shown.get(default, default)), key


def test_what_mlflow_is_told_is_what_the_docs_say() -> None:
    said = sections("docs/operations.md")["Environment variables"]
    assert dict(re.findall(r"`(MLFLOW_\w+)=(\w+)`", said)) == ENVIRONMENT


@pytest.mark.parametrize("name", sorted(variables()))
def test_every_environment_variable_is_in_the_docs(name: str) -> None:
    assert re.search(rf"`{name}\b", sections("docs/operations.md")["Environment variables"])


@pytest.mark.parametrize(("page", "target"), sorted(set(links())))
def test_every_link_leads_somewhere(page: str, target: str) -> None:
    path, _, anchor = unquote(target).partition("#")
    file = (PAGES[page].parent / path).resolve() if path else PAGES[page]
    assert file.exists(), f"{page} links to {target}"
    if anchor:
        assert anchor in anchors(file.relative_to(ROOT).as_posix()), f"{page} links to {target}"


@pytest.mark.slow
@pytest.mark.parametrize(("page", "block"), list(study_files()))
def test_every_study_file_in_the_docs_is_one(page: str, block: str) -> None:
    assert parse_study(block, page).study == yaml.safe_load(block)["study"]


def test_every_other_yaml_in_the_docs_is_settings() -> None:
    others = [yaml.safe_load(block) for page in PAGES for block in blocks(page, "yaml")]
    others = [one for one in others if "study" not in one]
    assert others
    for one in others:
        Settings.model_validate(one)


@pytest.mark.slow
def test_every_family_has_a_section_and_every_dimension_named_in_it_exists() -> None:
    from spaces.contract.registry import families

    page = sections("docs/families.md")
    for name, family in families().items():
        known = {dimension.name for dimension in family.space}
        rows = re.findall(r"^\| ([^|]+) \|", page[name], re.MULTILINE)
        named = {one for row in rows for one in re.findall(r"`(\w+)`", row)}
        assert named, name
        assert named <= known, name


@pytest.mark.slow
def test_dimensions_are_bold_in_the_docs_if_a_study_searches_them_unasked() -> None:
    from spaces.contract.registry import families

    page = sections("docs/families.md")
    for name, family in families().items():
        searched = {dimension.name for dimension in family.space if dimension.searched}
        for row in re.findall(r"^\| ([^|]+) \|", page[name], re.MULTILINE):
            for bold, one in re.findall(r"(\*\*)?`(\w+)`", row):
                assert bool(bold) == (one in searched), f"{name}: {one}"


def python_blocks() -> list[tuple[str, str]]:
    return [
        (page, block)
        for page in ("README.md", "docs/export.md", "docs/python.md")
        for block in blocks(page, "python")
    ]


def test_the_program_without_dynafront_is_the_one_on_model_cards() -> None:
    program = next(block for _, block in python_blocks() if "class Classifier" in block)
    assert program == (ROOT / "search/export/standalone.py").read_text(encoding="utf-8")


@pytest.mark.parametrize(("page", "block"), python_blocks())
def test_the_programs_in_the_docs_compile(page: str, block: str) -> None:
    compile(block, page, "exec")


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "I;16", "LA"])
@pytest.mark.parametrize(("resize", "bits"), [("crop", 16), ("pad", 12), ("squash", 8)])
@pytest.mark.parametrize("frame", [(1.0, "bilinear"), (0.8, "bicubic")])
def test_the_program_without_dynafront_prepares_images_as_training_does(
    channels: int, mode: str, resize: Any, bits: int, frame: Any, tmp_path: Path
) -> None:
    from trainers.data.decode import Geometry, decoded

    found: dict[str, Any] = {"__name__": "docs"}
    program = next(block for _, block in python_blocks() if "class Classifier" in block)
    exec(compile(program, "docs/export.md", "exec"), found)
    classifier = found["Classifier"].__new__(found["Classifier"])
    classifier.task = {"channels": channels, "height": 20, "width": 24}
    classifier.preprocessing = {"resize": resize, "bits": bits, "background": "white"}
    classifier.preprocessing |= dict(zip(("crop_pct", "interpolation"), frame, strict=True))
    pixels = np.random.default_rng(0).integers(0, 256, (150, 90, 3), dtype=np.uint8)
    turned = Image.Exif()
    turned[0x0112] = 6
    names = [f"image.{kind}" for kind in (("png", "jpg") if mode in ("L", "RGB") else ("png",))]
    for name in names:
        picture = Image.fromarray(pixels)
        if mode == "I;16":
            picture = Image.fromarray(pixels[..., 0].astype(np.uint16) * 20)
        if mode in ("RGBA", "LA"):
            picture.putalpha(Image.fromarray(pixels[..., 1]))
        picture.convert(mode).save(tmp_path / name, exif=turned)
        geometry = Geometry(channels, 20, 24, resize, bits, *frame)
        ours = decoded(geometry, name, str(tmp_path / name)).astype(np.float32) / 255
        np.testing.assert_array_equal(classifier.pixels(tmp_path / name)[0], ours)


def test_the_program_without_dynafront_refuses_what_training_refuses(tmp_path: Path) -> None:
    Image.fromarray(np.ones((20, 24), np.float32)).save(tmp_path / "image.tiff")
    found: dict[str, Any] = {"__name__": "docs"}
    program = next(block for _, block in python_blocks() if "class Classifier" in block)
    exec(compile(program, "docs/export.md", "exec"), found)
    classifier = found["Classifier"].__new__(found["Classifier"])
    classifier.task = {"channels": 1, "height": 20, "width": 24}
    classifier.preprocessing = {"resize": "crop", "bits": 16, "background": "white"}
    with pytest.raises(ValueError, match="floating-point pixels"):
        classifier.pixels(tmp_path / "image.tiff")


def test_every_public_name_of_the_package_has_a_section() -> None:
    import dynafront

    page = text("docs/python.md")
    for name in dynafront.__all__:
        assert f"`dynafront.{name}" in page, name
    for owner in (dynafront.Study, dynafront.Point, dynafront.Model, dynafront.Prediction):
        own = [name for name in vars(owner) if not name.startswith("_")]
        fields = getattr(owner, "__dataclass_fields__", {})
        for name in {*own, *fields} - {"record", "choice", "classifier"}:
            assert re.search(rf"`{name}\b|\.{name}\b", page), f"{owner.__name__}.{name}"
