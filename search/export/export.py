"""From a point of the front to a folder that runs anywhere: compact weights, ONNX, measurements, a card.

The test split is opened here and nowhere else.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from search.export.card import card
from search.export.comparison import compare
from search.export.curve import Setting, carried, free_beside, points_listed
from search.export.description import CHECKSUMS, checksums
from search.export.folder import FORMAT, MODEL, ONNX, PICTURES, WEIGHTS
from search.export.latency import latency, session_of
from search.export.onnx_check import compare_onnx, onnx_of
from search.export.selection_bias import selection_bias
from search.export.static_net import Beside, standing, static_net
from search.run.job import Job
from search.run.worker import kept_epoch, trained_net
from spaces.contract.family import Candidate
from spaces.contract.knobs import Knobs
from spaces.contract.net import DynamicNet
from spaces.deploy.ship import DeployedNet, ship
from storage.weights_file import save_weights
from trainers.data.splits import ImageData, test_split
from trainers.evaluate import recalibrated
from trainers.metrics import METRICS

if TYPE_CHECKING:
    from onnx import ModelProto


@dataclass(frozen=True)
class Exported:
    """An exported model: its folder, what was measured, and the network itself."""

    folder: Path
    report: dict[str, Any]
    net: DeployedNet
    points: int  # that the files answer at


def export(
    job: Job,
    *,
    study: str,
    point: Setting,
    others: Sequence[Setting] = (),
    whole_curve: bool = False,
    folder: Path,
    beside: Beside | None = None,
    force: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Exported:
    """Make the folder from an ended trial, stopped early or not, and one of its operating points.

    The files answer at the point's thresholds, and at those of the `others` where these are given: of all with
    `whole_curve`, else of those that cost the point's own network nothing. `beside` is the static network that the
    report compares with. With `force`, an earlier export in the folder is overwritten.
    Raises ValueError (missing checkpoint or test split, random policy, a folder that holds something else),
    ParityError.
    """
    check_folder(folder, force)
    net, candidate, data = measured_net(job, point.knobs, say)
    if not whole_curve:
        others = free_beside(net, point, others)
    compact = ship(net, point.knobs, point.rates, [one.measured for one in others])
    curve = carried(compact, others)
    test = test_split(job.data)
    say(f"measuring on {len(test)} test images")
    metric = METRICS[job.metric]
    report, right = compare(net, compact, point.knobs, point.rates, test, data, metric, curve)
    report["metric"] = metric.name
    static = static_net(net, beside, test)
    report["static"] = static.as_dict() | {"standing": standing(right, static.right, metric)}
    say(f"measuring latency beside {static.name}")
    model, theirs = onnx_of(compact, test), onnx_of(static.net, static.images)
    sessions = session_of(model), session_of(theirs)
    report["latency_ms"] = latency((compact, static.net), sessions, (test, static.images))
    report["validation"] = dict(point.validation)
    report["selection_bias"] = selection_bias(
        point.validation, len(data.validation), report["test"], metric
    )
    description = {
        "format": FORMAT,
        "family": candidate.family.name,
        "config": asdict(candidate.config),
        "task": net.task.as_dict(),
        "classes": list(data.classes),
        "preprocessing": {"resize": data.resize, "bits": data.bits, "background": "white"},
        "network": compact.description(),
        "thresholds": compact.thresholds,
        "points": points_listed(compact.thresholds, point, report["test"], curve, metric),
        **_origin(job, study, point.knobs.as_dict()),
        "report": report,
    }
    say("comparing onnxruntime's logits")
    report["onnx"] = compare_onnx(compact, sessions[0], test)
    write_folder(folder, compact, description, model)
    return Exported(folder, report, compact, len(description["points"]))


def measured_net(
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
        "epochs": {
            "planned": job.epochs,
            "trained": job.trained or job.epochs,
            "kept": kept_epoch(job),
        },
    }


def write_folder(
    folder: Path, compact: DeployedNet, description: dict[str, Any], model: ModelProto
) -> None:
    """Write everything aside, then into the folder, so that what fails leaves nothing behind."""
    import onnx

    with TemporaryDirectory() as name:
        aside = Path(name)
        onnx.save(model, aside / ONNX)
        save_weights({k: v.contiguous() for k, v in compact.state_dict().items()}, aside / WEIGHTS)
        description[CHECKSUMS] = checksums(aside, (WEIGHTS, ONNX), description)
        (aside / MODEL).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
        (aside / "README.md").write_text(card(description), encoding="utf-8")
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(folder / PICTURES, ignore_errors=True)  # of an earlier export
        for file in aside.iterdir():
            shutil.copy(file, folder / file.name)


def check_folder(folder: Path, force: bool = False) -> None:
    """Raise ValueError for a folder that holds anything, other than an earlier export that is to be overwritten."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder}: is a file; give --out a folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MODEL).exists():
        raise ValueError(
            f"{folder}: is not empty and holds no exported model; give --out another folder"
        )
    if (folder / MODEL).exists() and not force:
        raise ValueError(
            f"{folder}: holds an exported model already; --force overwrites it, --out takes another folder"
        )
