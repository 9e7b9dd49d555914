"""From a point of the front to a folder that runs anywhere: compact weights, ONNX, measurements, a card.

The test split is opened here and nowhere else.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch

from search.export.card import card
from search.export.comparison import compare
from search.export.curve import Setting, carried, free_beside, points_listed
from search.export.description import CHECKSUMS, checksums
from search.export.extras import OPTIONAL, PLAIN, Extras
from search.export.folder import CARD, FORMAT, MODEL, ONNX, PICTURES, PT2, WEIGHTS, preprocessing_of
from search.export.latency import latency, session_of
from search.export.measures import Counts
from search.export.onnx_check import compare_onnx, onnx_of
from search.export.predicted import beside_prediction
from search.export.program_check import compare_program, program_of
from search.export.selection_bias import selection_bias
from search.export.static_net import Beside, StaticNet, standing, static_net
from search.export.variants import Float32, variant
from search.run.job import Job
from search.run.measured_net import measured_net
from search.run.worker import kept_epoch
from spaces.deploy.ship import DeployedNet, ship
from storage.weights_file import save_weights
from trainers.data.splits import Split, test_split
from trainers.metrics import METRICS

if TYPE_CHECKING:
    from onnx import ModelProto

Save = Callable[[Path], object]  # writes a file where it is told


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
    extras: Extras = PLAIN,
    folder: Path,
    beside: Beside | None = None,
    force: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Exported:
    """Make the folder from an ended trial, stopped early or not, and one of its operating points.

    The files answer at the point's thresholds, and at those of the `others` where these are given: of all with
    `extras.whole_curve`, else of those that cost the point's own network nothing. `beside` is the static network that
    the report compares with. With `force`, an earlier export in the folder is overwritten.
    Raises ValueError (missing checkpoint or test split, random policy, a folder that holds something else),
    ParityError.
    """
    check_folder(folder, force)
    net, candidate, data = measured_net(job, point.knobs, say)
    if not extras.whole_curve:
        others = free_beside(net, point, others)
    compact = ship(net, point.knobs, point.rates, [one.measured for one in others])
    curve = carried(compact, others)
    test = test_split(job.data)
    say(f"measuring on {len(test)} test images")
    metric = METRICS[job.metric]
    report, counts = compare(net, compact, point.knobs, point.rates, test, data, metric, curve)
    report["metric"] = metric.name
    report["validation"] = dict(point.validation)
    measured = Measured(compact, test, data.validation, counts, report)
    saves = measured_beside(measured, static_net(net, beside, test), job.latency, extras, say)
    description = {
        "format": FORMAT,
        "family": candidate.family.name,
        "config": asdict(candidate.config),
        "task": net.task.as_dict(),
        "classes": list(data.classes),
        "preprocessing": preprocessing_of(data),
        "network": compact.description(),
        "thresholds": compact.thresholds,
        "points": points_listed(compact.thresholds, point, report["test"], curve, metric),
        "study": study,
        "knobs": point.knobs.as_dict(),
        **origin(job),
        "report": report,
    }
    write_folder(folder, compact, description, saves)
    return Exported(folder, report, compact, len(description["points"]))


@dataclass(frozen=True)
class Measured:
    """The network to be exported, and what it did on the test images; `report` is filled further."""

    net: DeployedNet
    test: Split
    validation: Split  # of the size that the network takes
    counts: Counts
    report: dict[str, Any]  # has `metric`, `test`, and in `validation` what that said of the point


def measured_beside(
    measured: Measured,
    static: StaticNet,
    table: str | None,
    extras: Extras,
    say: Callable[[str], None],
) -> dict[str, Save]:
    """What writes each file of the network, by its name; what is measured of them goes into the report.

    That is latency beside the static network's and beside what the latency table in this file predicted, ONNX Runtime's
    logits, the program of torch.export, each other number format, and by how much validation flattered.
    """
    net, test, report = measured.net, measured.test, measured.report
    metric = METRICS[report["metric"]]
    beats = standing(measured.counts.packed(metric), static.right, metric)
    report["static"] = static.as_dict() | {"standing": beats}
    say(f"writing it as ONNX, and {static.name} beside it")
    forms, theirs = onnx_of(net, test), onnx_of(static.net, static.images)
    sessions = session_of(forms.model), session_of(theirs.model)
    report["latency_ms"] = latency((net, static.net), sessions, (test, static.images), say)
    say("comparing onnxruntime's logits")
    report["onnx"] = compare_onnx(net, sessions[0], test) | {"bytes": forms.model.ByteSize()}
    models: dict[str, Save] = {ONNX: saving(forms.model)}
    if "pt2" in extras.formats:
        say("writing it as a program of torch.export, and comparing that")
        program = program_of(net, test)
        report["pt2"] = compare_program(net, program, sessions[0], test)
        models[PT2] = partial(torch.export.save, program)
    float32 = Float32(forms, sessions[0], measured.counts)
    for name in extras.quantize:
        say(f"making the file in {name}, and measuring it")
        made = variant(name, float32, test, measured.validation, metric)
        report.setdefault("variants", {})[name] = made.report
        if made.model is not None:
            models[made.report["file"]] = saving(made.model)
    programs = forms.model, theirs.model
    report["predicted"] = beside_prediction(
        table, report["validation"], net, test, static, programs, say
    )
    report["selection_bias"] = selection_bias(
        report["validation"], len(measured.validation), report["test"], metric
    )
    return models


def saving(model: ModelProto) -> Save:
    """What writes an ONNX file."""
    import onnx

    return partial(onnx.save, model)


def origin(job: Job) -> dict[str, Any]:
    """Which training a network comes from, as model.json says it."""
    return {
        "kind": job.kind,
        "trial": job.number,
        "params": dict(job.params),
        "epochs": {
            "planned": job.epochs,
            "trained": job.trained or job.epochs,
            "kept": kept_epoch(job),
        },
    }


def write_folder(
    folder: Path,
    compact: DeployedNet,
    description: dict[str, Any],
    models: Mapping[str, Save],
) -> None:
    """Write everything aside, then into the folder, so that what fails leaves nothing behind."""

    def weights(file: Path) -> None:
        save_weights({k: v.contiguous() for k, v in compact.state_dict().items()}, file)

    write_files(folder, description, models, weights)


def write_files(
    folder: Path,
    description: dict[str, Any],
    models: Mapping[str, Save],
    weights: Save,
) -> None:
    """As `write_folder`; `weights` puts the file of the weights where it is told.

    What an earlier export left of optional files is taken away.
    """
    with TemporaryDirectory() as name:
        aside = Path(name)
        for file, save in models.items():
            save(aside / file)
        weights(aside / WEIGHTS)
        description[CHECKSUMS] = checksums(aside, (WEIGHTS, *models), description)
        (aside / MODEL).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
        (aside / CARD).write_text(card(description), encoding="utf-8")
        folder.mkdir(parents=True, exist_ok=True)
        for made in aside.iterdir():
            shutil.copy(made, folder / made.name)
        for optional in OPTIONAL:
            if not (aside / optional).exists():
                (folder / optional).unlink(missing_ok=True)
        shutil.rmtree(folder / PICTURES, ignore_errors=True)  # of an earlier export


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
