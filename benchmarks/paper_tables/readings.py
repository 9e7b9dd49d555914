"""What is read of a trained network for a row of a table, on the test images, each network read once from its file.

Shapes: K early exits (row K is the deepest head), N images, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import NamedTuple

from torch import Tensor

from search.inspection.forward_pass import Effort, ForwardPass, forward_pass
from search.run.data import data_spec
from search.run.jobs import job_of
from search.run.measured_net import measured_net
from search.study_keys import StudySpec
from spaces.contract.knobs import Knobs
from spaces.contract.net import DynamicNet
from spaces.contract.noise import permutation
from storage.records import PointRecord, TrialRecord
from storage.settings import Settings
from trainers.answers import TOP
from trainers.data.splits import ImageData, test_split
from trainers.evaluate import Table, evaluate, top_answers
from trainers.execution import Execution, best_device
from trainers.exit_logits import ExitLogits, exit_logits

DRAWS = 5  # of layers to keep


class Reading(NamedTuple):
    """Test accuracy and mean MACs; where there are any, the rest that a table may have of a row."""

    accuracy: float
    macs: float
    rate: float | None = None
    share: float | None = None
    top5: float | None = None


@dataclass
class TrainedNet:
    """A network of the study, to be read on the test images."""

    spec: StudySpec
    trial: TrialRecord
    point: PointRecord  # that it was trained for
    settings: Settings

    @cached_property
    def data(self) -> ImageData:
        """The study's images with those of test in place of validation."""
        _, data = self._loaded(Knobs())
        return replace(data, validation=test_split(data_spec(self.spec)))

    def _loaded(self, knobs: Knobs) -> tuple[DynamicNet, ImageData]:
        job = job_of(self.spec, self.trial, str(self.settings.checkpoints))
        net, _, data = measured_net(job, knobs, execution=self.execution)
        return net, data

    @property
    def execution(self) -> Execution:
        return Execution(device=best_device())

    @property
    def network(self) -> DynamicNet:
        """The network itself, made anew."""
        return self._loaded(Knobs())[0]

    def under(self, knobs: Knobs, draw: int = 0) -> Table:
        """What the network answers and costs under the knobs, what is random drawn for this time."""
        net, _ = self._loaded(knobs)
        data = self.data
        return evaluate(
            net,
            data.validation,
            data,
            knobs,
            execution=self.execution,
            seed=self.trial.seed + draw,
        )

    @cached_property
    def exits(self) -> ExitLogits:
        """What every exit answers."""
        net, _ = self._loaded(Knobs())
        return exit_logits(
            net,
            self.data.validation,
            self.data,
            Knobs(policy="always_on"),
            execution=self.execution,
        )

    @cached_property
    def passed(self) -> ForwardPass:
        """One pass in which gates decide who leaves where, with the answers of all exits."""
        net, _ = self._loaded(Knobs())
        whole = Effort(images=len(self.data.validation), shown=1, moved=1, side=4)
        return forward_pass(
            net,
            self.data,
            Knobs(),
            rates=None,
            execution=self.execution,
            seed=0,
            effort=whole,
        )


def _summary(table: Table) -> Reading:
    layers = [units[0] for units in table.rates.values() if len(units) == 1]
    rate = sum(layers) / len(layers) if layers else None
    return Reading(table.accuracy, table.macs_mean, rate, None, table.answers.top5)


def trained(net: TrainedNet, exit: int) -> Reading:
    """As it was trained: gates open above a probability of one half."""
    return _summary(net.under(Knobs(**net.point.knobs)))


def stochastic(net: TrainedNet, exit: int) -> Reading:
    """Gates drawn at random, the mean of several passes."""
    return _summary(net.under(Knobs(policy="stochastic", passes=net.spec.measure.passes)))


def refreshed(net: TrainedNet, exit: int) -> Reading:
    """As trained, with batch-norm statistics refreshed on training images while gates are drawn."""
    return _summary(net.under(_refreshed(net)))


def _refreshed(net: TrainedNet) -> Knobs:
    own = net.spec.measure
    return Knobs(
        recalibrate="sample",
        recalibration_batches=own.recalibration_batches,
        recalibration_images=own.recalibration_images,
    )


def drawn_together(net: TrainedNet, exit: int) -> Reading:
    """Gates drawn at random for several passes, whose answers are averaged; statistics refreshed likewise."""
    drawn = replace(_refreshed(net), policy="ensemble", passes=net.spec.measure.passes)
    return _summary(net.under(drawn))


def leave_at(net: TrainedNet, exit: int) -> Reading:
    """All images leave at this exit; behind the last one they are answered by the deepest head."""
    macs = float(net.exits.macs[exit].mean())
    return _answered(net.exits.logits[exit], net.exits.labels, macs)


def all_exits(net: TrainedNet, exit: int) -> Reading:
    """The mean logits of all exits and the deepest head."""
    macs = float(net.exits.macs[-1].mean())
    return _answered(net.exits.logits.mean(0), net.exits.labels, macs)


def _answered(logits_NC: Tensor, labels_N: Tensor, macs: float) -> Reading:
    answer_N, top5_N = top_answers(logits_NC, labels_N)
    right = float((answer_N == labels_N).double().mean())
    top5 = float(top5_N.double().mean()) if logits_NC.shape[1] > TOP else None
    return Reading(right, macs, top5=top5)


def exit_alone(net: TrainedNet, exit: int) -> Reading:
    """What the exit answers to all images, whoever leaves there; its share is of those who do."""
    seen = net.passed
    right = float((seen.exit_answers[exit] == seen.label_N).double().mean())
    return Reading(right, float(seen.exit_macs[exit].double().mean()), share=_share(seen, exit))


def exit_chosen(net: TrainedNet, exit: int) -> Reading:
    """What the exit answers to those images that leave there."""
    seen = net.passed
    assert seen.exit_N is not None
    here_N = seen.exit_N == exit
    right = float(seen.correct_N[here_N].double().mean()) if bool(here_N.any()) else float("nan")
    macs = float(seen.macs_N[here_N].double().mean()) if bool(here_N.any()) else float("nan")
    return Reading(right, macs, share=_share(seen, exit))


def any_order(net: TrainedNet, exit: int) -> Reading:
    """All layers, in a new order each batch."""
    return _summary(net.under(Knobs(policy="always_on", order="arbitrary")))


def fewer_layers(net: TrainedNet, exit: int, *, share: float, order: str) -> Reading:
    """A share of the layers, drawn at random; the mean of several draws."""
    layers = int(net.trial.params["layers"])
    kept = [permutation(0, draw, layers)[: round(share * layers)] for draw in range(DRAWS)]
    tables = [
        net.under(Knobs(policy="always_on", order=order, keep=tuple(sorted(one))), draw)
        for draw, one in enumerate(kept)
    ]
    return Reading(
        sum(one.accuracy for one in tables) / DRAWS, sum(one.macs_mean for one in tables) / DRAWS
    )


def _share(seen: ForwardPass, exit: int) -> float:
    assert seen.exit_N is not None
    return float((seen.exit_N == exit).double().mean())


READINGS: dict[str, Callable[[TrainedNet, int], Reading]] = {
    "trained": trained,
    "stochastic": stochastic,
    "refreshed": refreshed,
    "drawn together": drawn_together,
    "exit": leave_at,
    "ensemble": all_exits,
    "exit alone": exit_alone,
    "exit chosen": exit_chosen,
    "any order": any_order,
    **{
        f"{name}{words}": partial(fewer_layers, share=share, order=order)
        for name, share in (("a quarter", 0.25), ("half", 0.5), ("three quarters", 0.75))
        for words, order in (("", "sequential"), (", any order", "arbitrary"))
    },
}
