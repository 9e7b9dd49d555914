"""How fast stored JPEG photos become pixels, and how the pixels of faster decoders differ.

Two photos of scikit-learn are cut and enlarged to JPEG files of mixed sizes, which are decoded to squares of `--side`:
one image after the other on one core (seconds of CPU), then whole epochs as training reads them (seconds of a clock:
they mean something on an idle machine alone). Shown are images a second, medians of the rounds, and the mean difference
of pixels from an exact reference (decoded at full size, then resized by Pillow with antialiasing). Scaled decoding lets
the JPEG library make an image of a half, a fourth or an eighth.

    python benchmarks/decoding.py                    # about three minutes
    python benchmarks/decoding.py --images 64 --rounds 1

simplejpeg is measured where it is installed (pip install simplejpeg). dynafront uses Pillow all the same. On two busy
cores (n = 120 photos, 5 rounds) Pillow made 176 images a second of CPU, simplejpeg 1.15 times as many, torchvision
1.34, both together 1.42. But torchvision has no scaled decoding, and photos of a camera are larger than these; and its
pixels, 0.8 of 255 away, could not be made for an exported ONNX model without PyTorch. Held images come at 12 times the
speed.
"""

from __future__ import annotations

import argparse
import io
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_image
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.io import ImageReadMode, decode_jpeg
from torchvision.transforms import v2

from trainers.data.decode import Geometry, decoded
from trainers.data.splits import DataSpec, load

SIZES = ((320, 240), (500, 375), (375, 500), (640, 480), (1024, 768), (1600, 1200))  # width, height
Decoder = Callable[[bytes], np.ndarray]


def photos(count: int) -> Iterator[bytes]:
    """JPEG files of mixed sizes, quality 90."""
    draw = np.random.default_rng(0)
    sources = [Image.fromarray(load_sample_image(name)) for name in ("china.jpg", "flower.jpg")]
    for number in range(count):
        source, (width, height) = sources[number % 2], SIZES[number % len(SIZES)]
        left, top = int(draw.integers(0, 200)), int(draw.integers(0, 120))
        part = source.crop((left, top, left + 420, top + 300))
        file = io.BytesIO()
        part.resize((width, height), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
        yield file.getvalue()


def reference(side: int, encoded: bytes) -> np.ndarray:
    """Decoded at full size; the largest centred square, resized by Pillow."""
    return _cut(Image.open(io.BytesIO(encoded)).convert("RGB"), side)


def ours(side: int, encoded: bytes) -> np.ndarray:
    return decoded(Geometry(3, side, side), "a photo", encoded).transpose(1, 2, 0)


def by_torchvision(side: int, encoded: bytes) -> np.ndarray:
    """torchvision's decoder has no scaled decoding on a CPU; it resizes with antialiasing too."""
    image = decode_jpeg(torch.frombuffer(bytearray(encoded), dtype=torch.uint8), ImageReadMode.RGB)
    square = v2.functional.center_crop(image, [min(image.shape[1:])])
    return v2.functional.resize(square, [side, side], antialias=True).permute(1, 2, 0).numpy()


def by_simplejpeg(side: int, encoded: bytes) -> np.ndarray:
    import simplejpeg

    pixels = simplejpeg.decode_jpeg(encoded, min_height=2 * side, min_width=2 * side)
    return _cut(Image.fromarray(pixels), side)


def by_both(side: int, encoded: bytes) -> np.ndarray:
    import simplejpeg

    pixels = torch.from_numpy(
        simplejpeg.decode_jpeg(encoded, min_height=2 * side, min_width=2 * side)
    )
    square = v2.functional.center_crop(pixels.permute(2, 0, 1), [min(pixels.shape[:2])])
    return v2.functional.resize(square, [side, side], antialias=True).permute(1, 2, 0).numpy()


def _cut(image: Image.Image, side: int) -> np.ndarray:
    least = min(image.size)
    left, top = (image.width - least) / 2, (image.height - least) / 2
    box = (left, top, left + least, top + least)
    return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR, box=box))


def decoders() -> dict[str, Callable[[int, bytes], np.ndarray]]:
    found: dict[str, Callable[[int, bytes], np.ndarray]] = {
        "Pillow, scaled decoding (dynafront)": ours,
        "Pillow, full size": reference,
        "torchvision.io.decode_jpeg": by_torchvision,
    }
    try:
        import simplejpeg  # noqa: F401
    except ImportError:
        return found
    return {
        **found,
        "simplejpeg, scaled decoding": by_simplejpeg,
        "simplejpeg, torchvision's resizing": by_both,
    }


def one_by_one(files: list[bytes], side: int, rounds: int) -> None:
    """Print what each decoder does on one core, all in turn so that they share the machine's moods."""
    exact = [reference(side, one).astype(int) for one in files]
    seconds: dict[str, list[float]] = {name: [] for name in decoders()}
    off: dict[str, float] = {}
    for _ in range(rounds):
        for name, decode in decoders().items():
            started = time.process_time()
            pixels = [decode(side, one) for one in files]
            seconds[name].append(time.process_time() - started)
            pairs = zip(pixels, exact, strict=True)
            off[name] = float(np.mean([abs(one - other).mean() for one, other in pairs]))
    first = statistics.median(seconds["Pillow, scaled decoding (dynafront)"])
    for name, taken in seconds.items():
        median = statistics.median(taken)
        print(
            f"{name:<38} {len(files) / median:7.0f} images a second  {first / median:5.2f} x  "
            f"mean difference {off[name]:.2f} of 255"
        )


def epochs(files: list[bytes], side: int, rounds: int) -> None:
    """Print whole epochs: as training reads a large set, held pixels, and a plain DataLoader over ImageFolder."""
    with tempfile.TemporaryDirectory() as name:
        for number, one in enumerate(files):
            file = Path(name, "train", "ab"[number % 2], f"{number:06}.jpg")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(one)
        known = DataSpec(source=f"folder:{name}", root=name, test=0.01, image_size=side)
        streamed = load(_changed(known, memory_limit=0)).train
        held = load(known).train
        _print_epochs("dynafront, streamed", lambda: streamed.batches(32, shuffle=0), rounds)
        _print_epochs("dynafront, held", lambda: held.batches(32, shuffle=0), rounds)
        steps = [v2.Resize(side), v2.CenterCrop(side), v2.PILToTensor()]
        folder = ImageFolder(str(Path(name, "train")), v2.Compose(steps))
        plain: Any = DataLoader(folder, batch_size=32, shuffle=True, num_workers=2)
        _print_epochs("DataLoader over ImageFolder, 2 workers", lambda: iter(plain), rounds)


def _changed(spec: DataSpec, **values: Any) -> DataSpec:
    return DataSpec(**{**vars(spec), **values})


def _print_epochs(name: str, batches: Callable[[], Iterator[Any]], rounds: int) -> None:
    """The first epoch starts processes; the median of the later ones is shown."""
    taken, images = [], 0
    for _ in range(rounds + 1):
        started = time.perf_counter()
        images = sum(len(batch[0]) for batch in batches())
        taken.append(time.perf_counter() - started)
    later = statistics.median(taken[1:])
    print(
        f"{name:<38} {images / later:7.0f} images a second  (first epoch {images / taken[0]:.0f})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=240)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    files = list(photos(asked.images))
    torch.set_num_threads(1)
    print(f"{len(files)} JPEG photos of {len(SIZES)} sizes, to {asked.side} x {asked.side}")
    one_by_one(files, asked.side, asked.rounds)
    epochs(files, asked.side, asked.rounds)


if __name__ == "__main__":
    main()
