"""A trained network as its operating point was measured, from its checkpoint."""

from __future__ import annotations

from collections.abc import Callable

from search.run.job import Job
from search.run.worker import trained_net
from spaces.contract.family import Candidate
from spaces.contract.knobs import Knobs
from spaces.contract.net import DynamicNet
from trainers.data.splits import ImageData
from trainers.evaluate import recalibrated
from trainers.execution import Execution


def measured_net(
    job: Job,
    knobs: Knobs,
    say: Callable[[str], None] = lambda line: None,
    execution: Execution | None = None,
) -> tuple[DynamicNet, Candidate, ImageData]:
    """The network of an ended training, its statistics refreshed where the knobs say so, and on which data.

    With an `execution` it is on its device. Raises ValueError when its checkpoint is gone or of another epoch.
    """
    say("loading the trained network")
    net, candidate, data = trained_net(job)
    if execution is not None:
        net = execution.placed(net)
    if knobs.recalibrate != "none":
        say("refreshing batch-norm statistics on training images")
        net = recalibrated(net, data, knobs, candidate.recipe, execution=execution, seed=job.seed)
    return net, candidate, data
