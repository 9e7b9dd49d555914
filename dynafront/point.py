"""A point of a front: a trained network at one setting of its thresholds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dynafront.model import Model, load
from dynafront.opening import console_for, opened

if TYPE_CHECKING:
    from dynafront.stored import Study
    from search.commands.choice import Choice
    from storage.records import PointRecord


@dataclass(frozen=True)
class Point:
    """A point of a study's front, and how it was picked. Accuracies are those of the validation images."""

    record: PointRecord = field(repr=False)
    choice: Choice = field(repr=False)
    study: Study = field(repr=False)

    @property
    def id(self) -> int:
        """What `dynafront export --point` calls it; the column `point` of `front()`."""
        assert self.record.id is not None, "it was stored"
        return self.record.id

    @property
    def trial(self) -> str:
        """The training that it came from, as tables name it."""
        return self.record.name

    @property
    def family(self) -> str:
        return self.record.family

    @property
    def accuracy(self) -> float:
        return self.record.accuracy

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the accuracy."""
        return self.record.accuracy_low, self.record.accuracy_high

    @property
    def macs(self) -> float:
        """Mean MACs of an image."""
        return self.record.macs_mean

    @property
    def macs_p95(self) -> float:
        return self.record.macs_p95

    @property
    def macs_max(self) -> float:
        return self.record.macs_max

    @property
    def latency_ms(self) -> float | None:
        """Mean milliseconds of an image on the machine of the study's table: measured, or predicted from its units.

        None in a study without a table.
        """
        from search.objectives import LATENCY
        from storage.records import TIMED

        ms: float | None = self.record.extra.get(TIMED, self.record.extra.get(LATENCY.column))
        return ms

    @property
    def parameters(self) -> int:
        return self.record.parameters

    @property
    def knobs(self) -> Mapping[str, Any]:
        """What is set after the training: thresholds, layers that are kept."""
        return self.record.knobs

    @property
    def params(self) -> Mapping[str, Any]:
        """The network and its training: a value of each dimension that matters."""
        return self.record.params

    def export(
        self,
        folder: Path | str = "exported",
        *,
        register: bool = False,
        force: bool = False,
        whole_curve: bool = False,
        formats: Sequence[str] = ("onnx",),
        quantize: Sequence[str] = (),
        show: bool = True,
    ) -> Model:
        """The trained model of this point, written into the folder: what `dynafront export` does.

        It is measured on the test images and compared with the trained network, answer by answer. `register` adds a
        version to the MLflow model registry, `force` overwrites an earlier export, `show` prints steps and results.
        `whole_curve`, `formats` ("onnx", "pt2") and `quantize` ("int8", "float16", "bfloat16") are the flags of
        `dynafront export`.
        Raises ValueError where the folder holds something, or the images are others than the study's.
        """
        from search.command_line.terminal import print_lines, steps

        path = Path(folder).expanduser()
        console = console_for(show)
        say = steps(console)
        say("loading PyTorch")
        from search.commands.choice import within_region
        from search.commands.export import export_point
        from search.export.extras import Extras

        with opened(self.study.settings, self.study.name) as tables:
            lines = export_point(
                tables.store,
                tables.record,
                self.study.settings,
                self.record,
                within_region(self.choice, tables.record),
                path,
                register=register,
                force=force,
                extras=Extras(formats=formats, quantize=quantize, whole_curve=whole_curve),
                say=say,
            )
        print_lines(console, lines)
        return load(path)

    def __repr__(self) -> str:
        from search.objectives import LATENCY, macs_text
        from search.report.text import knobs_text, network_text
        from storage.records import training_text

        training = training_text(*self.record.training)
        low, high = self.interval
        words = [
            f"{training} of {self.study.name}: {self.accuracy:.2%} ({low:.1%} to {high:.1%}) at "
            f"{macs_text(self.macs)} MACs",
            *([] if self.latency_ms is None else [LATENCY.text(self.latency_ms)]),
            network_text(self.family, self.params),
            knobs_text(self.knobs),
        ]
        return f"Point({', '.join(words)})"
