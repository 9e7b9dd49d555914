"""From a point of the front to a folder that runs anywhere: compact weights, ONNX, measurements, a card.

The test split is opened here and nowhere else.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from search.export.card import card
from search.export.comparison import LOGIT_TOLERANCE, ParityError, compare, latency
from search.export.description import CHECKSUMS, checksums
from search.export.folder import FORMAT, MODEL, ONNX, WEIGHTS
from search.export.selection_bias import selection_bias
from search.run.job import Job
from search.run.worker import trained_net
from spaces.contract.family import Candidate
from spaces.contract.knobs import Knobs
from spaces.contract.net import DynamicNet
from spaces.deploy.ship import DeployedNet, onnx_model, ship
from storage.weights_file import save_weights
from trainers.data.splits import ImageData, Split, test_split
from trainers.evaluate import recalibrated


@dataclass(frozen=True)
class Exported:
    """An exported model: its folder, what was measured, and the network itself."""

    folder: Path
    report: dict[str, Any]
    net: DeployedNet


def export(
    job: Job,
    *,
    study: str,
    knobs: dict[str, Any],
    rates: Mapping[str, tuple[float, ...]],
    validation: Mapping[str, Any],
    folder: Path,
    say: Callable[[str], None] = lambda line: None,
) -> Exported:
    """Make the folder from an ended trial, stopped early or not, and one of its operating points.

    `rates` are the gates' open rates that the point was measured with; `validation` is the point's own record,
    with the `selection_bias` of its exits' thresholds where that was estimated.
    Raises ValueError (missing checkpoint or test split, random policy, a folder that holds something else),
    ParityError.
    """
    check_folder(folder)
    setting = Knobs(**knobs)
    net, candidate, data = _measured_net(job, setting, say)
    compact = ship(net, setting, rates)
    test = test_split(job.data)
    say(f"measuring on {len(test)} test images")
    report = compare(net, compact, setting, rates, test, data)
    report["latency_ms"] = latency(compact, net, test)
    report["validation"] = dict(validation)
    report["selection_bias"] = selection_bias(validation, len(data.validation), report["test"])
    description = {
        "format": FORMAT,
        "family": candidate.family.name,
        "config": asdict(candidate.config),
        "task": net.task.as_dict(),
        "classes": list(data.classes),
        "preprocessing": {"resize": data.resize, "bits": data.bits, "background": "white"},
        "network": compact.description(),
        **_origin(job, study, knobs),
        "report": report,
    }
    say("writing ONNX and comparing onnxruntime's logits")
    _write(folder, compact, description, test)
    return Exported(folder, report, compact)


def _measured_net(
    job: Job, knobs: Knobs, say: Callable[[str], None]
) -> tuple[DynamicNet, Candidate, ImageData]:
    """The trained network as its operating point was measured: its statistics refreshed where the knobs say so."""
    say("loading the trained network")
    net, candidate, data = trained_net(job)
    if knobs.recalibrate != "none":
        say("refreshing batch-norm statistics on training images")
        recipe = candidate.recipe
        net = recalibrated(
            net, data, knobs, batch=recipe.batch, seed=job.seed, augment=recipe.augment
        )
    return net, candidate, data


def _origin(job: Job, study: str, knobs: dict[str, Any]) -> dict[str, Any]:
    """Where the model comes from, as model.json says it."""
    return {
        "study": study,
        "kind": job.kind,
        "trial": job.number,
        "knobs": knobs,
        "params": dict(job.params),
        "epochs": {"planned": job.epochs, "trained": job.trained or job.epochs},
    }


def _write(folder: Path, compact: DeployedNet, description: dict[str, Any], test: Split) -> None:
    """Write everything aside, then into the folder, so that what fails leaves nothing behind."""
    with TemporaryDirectory() as aside:
        _write_files(Path(aside), compact, description, test)
        folder.mkdir(parents=True, exist_ok=True)
        for file in Path(aside).iterdir():
            shutil.copy(file, folder / file.name)


def _write_files(
    folder: Path, compact: DeployedNet, description: dict[str, Any], test: Split
) -> None:
    description["report"]["onnx"] = _write_onnx(compact, folder / ONNX, test)
    save_weights({k: v.contiguous() for k, v in compact.state_dict().items()}, folder / WEIGHTS)
    description[CHECKSUMS] = checksums(folder, (WEIGHTS, ONNX), description)
    (folder / MODEL).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(card(description), encoding="utf-8")


def check_folder(folder: Path) -> None:
    """Raise ValueError for a folder that holds something other than an earlier export."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder}: is a file; give --out a folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MODEL).exists():
        raise ValueError(
            f"{folder}: is not empty and holds no exported model; give --out another folder"
        )


def _write_onnx(compact: DeployedNet, path: Path, test: Split) -> dict[str, Any]:
    """Write the ONNX file and compare it with torch, one by one and in a batch. Raises ParityError."""
    import onnx
    import onnxruntime

    pixels = next(iter(test.batches(64))).images.float() / 255
    onnx.save(onnx_model(compact, pixels[:2]), path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    whole = session.run(None, {"pixels": pixels.numpy()})[0]
    single = np.concatenate(
        [session.run(None, {"pixels": one[None].numpy()})[0] for one in pixels[:16]]
    )
    with torch.inference_mode():
        logits: Tensor = compact(pixels)
    difference = max(abs(whole - logits.numpy()).max(), abs(single - logits[:16].numpy()).max())
    if difference > LOGIT_TOLERANCE:
        raise ParityError(f"onnxruntime's logits differ by up to {difference:.2g}")
    return {"images": len(pixels), "largest_logit_difference": float(difference)}
