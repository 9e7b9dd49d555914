"""From a point of the front to a folder that runs anywhere: compact weights, ONNX, measurements, a card.

The test split is opened here and nowhere else.
"""

from __future__ import annotations

import copy
import json
import platform
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from search.export.card import card
from search.export.model import FORMAT, MODEL, ONNX, WEIGHTS
from search.export.selection_bias import selection_bias
from search.run.job import Job
from search.run.worker import trained_net
from spaces.contract.knobs import Knobs
from spaces.contract.net import DynamicNet
from spaces.contract.policies import Policy
from spaces.deploy.ship import DeployedNet, onnx_model, ship, ship_baseline
from storage.weights_file import save_weights
from trainers.data.augment import normalized
from trainers.data.splits import ImageData, Split, test_split
from trainers.evaluate import Table, recalibrated, wilson
from trainers.latency import latencies_ms

LATENCY_BATCHES = (1, 64)
# of the largest logit difference between two executions of the same decisions
LOGIT_TOLERANCE = 1e-3
BATCH = 256


@dataclass(frozen=True)
class Exported:
    """An exported model: its folder, what was measured, and the network itself."""

    folder: Path
    report: dict[str, Any]
    net: DeployedNet


class ParityError(RuntimeError):
    """The compact model does not answer as the trained one; nothing was written."""


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
    say("loading the trained network")
    net, candidate, data = trained_net(job)
    if setting.recalibrate != "none":
        say("refreshing batch-norm statistics on training images")
        net = recalibrated(
            net,
            data,
            setting,
            batch=candidate.recipe.batch,
            seed=job.seed,
            augment=candidate.recipe.augment,
        )
    compact = ship(net, setting, rates)
    test = test_split(job.data)
    say(f"measuring on {len(test)} test images")
    report = _report(net, compact, setting, rates, test, data)
    report["latency_ms"] = _latency(compact, net, test)
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
        "study": study,
        "kind": job.kind,
        "trial": job.number,
        "knobs": knobs,
        "params": dict(job.params),
        "epochs": {"planned": job.epochs, "trained": job.trained or job.epochs},
        "report": report,
    }
    say("writing ONNX and comparing onnxruntime's logits")
    with TemporaryDirectory() as made:
        _write(Path(made), compact, description, test)
        folder.mkdir(parents=True, exist_ok=True)
        for file in Path(made).iterdir():
            shutil.copy(file, folder / file.name)
    return Exported(folder, report, compact)


def _write(folder: Path, compact: DeployedNet, description: dict[str, Any], test: Split) -> None:
    description["report"]["onnx"] = _write_onnx(compact, folder / ONNX, test)
    save_weights({k: v.contiguous() for k, v in compact.state_dict().items()}, folder / WEIGHTS)
    (folder / MODEL).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(card(description), encoding="utf-8")


def check_folder(folder: Path) -> None:
    """Refuse a folder that holds something other than an earlier export. Raises ValueError."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder}: is a file; give --out a folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MODEL).exists():
        raise ValueError(
            f"{folder}: is not empty and holds no exported model; give --out another folder"
        )


def _report(
    net: DynamicNet,
    compact: DeployedNet,
    knobs: Knobs,
    rates: Mapping[str, tuple[float, ...]],
    test: Split,
    data: ImageData,
) -> dict[str, Any]:
    """Accuracy and cost on test, and how the compact model's answers compare with the trained network's."""
    same = net.knobs_policy(knobs, ids=torch.arange(1), rates=rates)
    if knobs.policy == "threshold":
        same = replace(same, fixed=compact.fixed)
    correct, macs, difference, agree, unpruned = [], [], 0.0, 0, 0
    with torch.inference_mode():
        for batch in test.batches(BATCH):
            pixels = batch.images.float() / 255
            logits, cost_B = compact.run(pixels)
            trained = net(normalized(batch.images, data.mean, data.std), same)
            free = net.run(
                normalized(batch.images, data.mean, data.std),
                replace(knobs, prune=None),
                rates=rates,
            )
            answers = logits.argmax(1)
            off_B = (logits - trained.logits_BC).abs().amax(1)
            differs_B = (off_B > LOGIT_TOLERANCE) | (answers != trained.logits_BC.argmax(1))
            if bool(differs_B.any()):
                _check_exactly(compact, net, same, batch.images[differs_B], data)
            difference = max(difference, float(torch.where(differs_B, 0.0, off_B).max()))
            agree += int((~differs_B).sum())
            unpruned += int((answers == free.logits_BC.argmax(1)).sum())
            correct.append(answers == batch.labels)
            macs.append(cost_B)
    table = Table(torch.cat(correct)[None], torch.cat(macs)[None], {})
    low, high = wilson(table.accuracy, len(test))
    return {
        "test": {
            "images": len(test),
            "accuracy": table.accuracy,
            "accuracy_low": low,
            "accuracy_high": high,
            "macs_mean": table.macs_mean,
            "macs_p95": table.macs_p95,
            "macs_max": table.macs_max,
        },
        "parameters": sum(p.numel() for p in compact.parameters()),
        "parameters_trained": sum(p.numel() for p in net.parameters()),
        "plain_macs": net.plain_macs,
        "parity": {
            "images": len(test),
            "same_answers": agree,
            "decided_by_rounding": len(test) - agree,
            "largest_logit_difference": difference,
            "same_answers_before_removing_gates": unpruned,
        },
        "gates": compact.gate_counts(),
    }


def _check_exactly(
    compact: DeployedNet, net: DynamicNet, policy: Policy, images: Tensor, data: ImageData
) -> None:
    """Compare in float64 what differs in float32: a gate may lie within a rounding error of its threshold.

    Raises ParityError when the two still differ.
    """
    exact, trained = copy.deepcopy(compact).double(), copy.deepcopy(net).double()
    ours = exact(images.double() / 255)
    theirs = trained(normalized(images, data.mean, data.std, torch.float64), policy).logits_BC
    off = float((ours - theirs).abs().max())
    if off > LOGIT_TOLERANCE:
        raise ParityError(
            f"the compact model differs from the trained one on {len(images)} images, logits by up to {off:.2g}; "
            "nothing was written"
        )


def _latency(compact: DeployedNet, net: DynamicNet, test: Split) -> dict[str, Any]:
    """Median milliseconds on this machine, beside the baseline of the same backbone, its batch norm folded too."""
    baseline = ship_baseline(net)
    found: dict[str, Any] = {
        "device": f"CPU, {torch.get_num_threads()} threads, {platform.machine()}"
    }
    for size in LATENCY_BATCHES:
        inputs = [batch.images.float() / 255 for batch in _first(test, size, 64)]
        ours, plain = latencies_ms([compact, baseline], inputs, repeats=200 if size == 1 else 30)
        found[f"batch_{size}"] = {"exported": ours, "static": plain, "ratio": ours / plain}
    return found


def _first(split: Split, size: int, count: int) -> list[Any]:
    batches = []
    for batch in split.batches(min(size, len(split))):
        batches.append(batch)
        if len(batches) == count:
            break
    return batches


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
