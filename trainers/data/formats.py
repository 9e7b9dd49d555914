"""Which files are images that can be read here, which are images that cannot, and what systems leave behind."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from PIL import Image

# of images as people have them, whether or not Pillow can read them here
PHOTOS = "png apng jpg jpeg jpe jfif mpo bmp dib gif webp tif tiff ppm pgm pbm pnm"
NEWER = "avif avifs heic heif hif jxl jp2 j2k jpf jpx tga psd svg exr hdr dcm dng cr2 cr3 nef arw orf rw2 raf"
PICTURES = frozenset(f".{name}" for name in f"{PHOTOS} {NEWER}".split())
PLUGINS = {  # packages that teach Pillow a format, and how they are told to; most do so when they are imported
    "pillow_heif": "register_heif_opener",
    "pillow_avif": None,
    "pillow_jxl": None,
}
ADVICE = {
    **dict.fromkeys((".heic", ".heif", ".hif"), "pip install pillow-heif"),
    **dict.fromkeys((".avif", ".avifs"), "a newer Pillow, or pip install pillow-avif-plugin"),
    ".jxl": "pip install pillow-jxl-plugin",
}
LEFT_BEHIND = frozenset(
    {
        "__macosx",
        "@eadir",
        "@recycle",
        "#recycle",
        "#snapshot",
        "$recycle.bin",
        "system volume information",
        "lost+found",
        "__pycache__",
        "thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
        "icon\r",
    }
)


def left_behind(name: str) -> bool:
    """Whether a system or a program left it: hidden files and folders, `__MACOSX`, `@eaDir`, `Thumbs.db`."""
    return name.startswith(".") or name.lower() in LEFT_BEHIND


@cache
def readable() -> frozenset[str]:
    """The suffixes that Pillow reads here, with the plugins that are installed."""
    for package, register in PLUGINS.items():
        if find_spec(package) is None:
            continue
        plugin = import_module(package)
        if register:
            getattr(plugin, register)()
    kinds = Image.registered_extensions()
    return frozenset(suffix for suffix in PICTURES if kinds.get(suffix) in Image.OPEN)


def image_files(folder: Path) -> tuple[list[str], Counter[str]]:
    """The images at any depth below a folder, sorted, and how many files have each other suffix."""
    files, others = [], Counter[str]()
    for where, names in _walked(folder):
        for name in names:
            if is_image(name):
                files.append(os.path.join(where, name))
            else:
                others[os.path.splitext(name)[1].lower()] += 1
    return sorted(files), others


def is_image(name: str) -> bool:
    """Whether a file of this name is an image that can be read here."""
    return os.path.splitext(name)[1].lower() in readable() and not left_behind(name)


def holds_images(folder: Path) -> bool:
    """Whether there is an image at any depth."""
    return any(is_image(name) for _, names in _walked(folder) for name in names)


def _walked(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Each folder at any depth and its files, without what systems leave behind.

    Links are followed, but to no folder twice and none above: a link back into its own tree would bring images again.
    """
    seen = {_place(one) for path in (folder.absolute(), folder.resolve()) for one in path.parents}
    for where, below, names in os.walk(folder, followlinks=True):
        place = _place(where)
        if place in seen:
            below.clear()
            continue
        seen.add(place)
        below[:] = [name for name in below if not left_behind(name)]
        yield where, [name for name in names if not left_behind(name)]


def _place(folder: str | Path) -> tuple[int, int]:
    """What tells a folder from others, by whatever path it is reached."""
    found = os.stat(folder)
    return found.st_dev, found.st_ino


def unreadable_text(others: Counter[str]) -> str:
    """The images among them in words: "120 files .avif: Pillow here cannot read them"; empty where there are none."""
    found = {suffix: count for suffix, count in others.items() if suffix in PICTURES}
    if not found:
        return ""
    advice = sorted({ADVICE[suffix] for suffix in found if suffix in ADVICE})
    what = ", ".join(f"{_files(count)} {suffix}" for suffix, count in sorted(found.items()))
    how = f" ({'; '.join(advice)})" if advice else ""
    return f"{what}: Pillow here cannot read them{how}"


def other_text(others: Counter[str]) -> str:
    """What lies there instead of images, in words; empty where nothing does."""
    if not others:
        return ""
    if unreadable := unreadable_text(others):
        return unreadable
    return ", ".join(f"{_files(n)} {suffix or 'without suffix'}" for suffix, n in _most(others))


def _most(others: Counter[str]) -> Iterable[tuple[str, int]]:
    return others.most_common(4)


def _files(count: int) -> str:
    return f"{count:,} file{'s' * (count != 1)}"
