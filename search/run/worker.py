"""One trial, from a description to its operating points; runs in any process and knows no database."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Generator, Hashable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from search.latency.table import LatencyTable, read_table
from search.measure.effort import Effort
from search.run.checkpoint import Slot, fetch_sources
from search.run.data import load_data, task_of
from search.run.features import features_of
from search.run.job import Doing, Event, Failure, Job, Notice, Outcome, Rung, Waits
from search.run.partners import LostError, together
from search.run.trial_execution import execution_of, rightly_computed, threads_of
from spaces.contract.error_lines import first_line, kind_and_line
from spaces.contract.family import Candidate
from spaces.contract.knobs import Knobs
from spaces.contract.net import DynamicNet
from spaces.contract.registry import family
from spaces.contract.task import Task
from storage.checkpoint_files import answers_file
from storage.errors import UnwrittenError
from storage.kept_files import KeptFiles
from storage.records import OperatingPoint, training_text
from trainers.data.splits import ImageData, Split
from trainers.epoch_sums import DivergedError
from trainers.execution import Execution
from trainers.fit import EpochResult, net_tensors, rounds, trained_alone
from trainers.fused import Fused, FusedError
from trainers.initial_weights import initial_state, start_from
from trainers.latency import torch_threads
from trainers.memory import cap_gpu_memory, is_out_of_memory
from trainers.metrics import METRICS, Metric
from trainers.training import Training

logger = logging.getLogger(f"dynafront.{__name__}")


def events(job: Job, fused: Fused | None = None) -> Generator[Event, None, None]:
    """Train the job, yielding each epoch, rungs, and at last an Outcome or a Failure. Resumes from its checkpoint.

    A training that resumes first tells again the epochs that `job.reached` does not have, the last one in any case.
    After a Rung, asking for the next event lets the training go on; closing the generator stops it.
    `fused` are trainings in this process that it trains its epochs with, unless it resumes; before each it Waits.
    """
    started, epoch = time.perf_counter(), 0
    try:
        for event in _trained(job, started, fused):
            epoch = event.epoch if isinstance(event, EpochResult) else epoch
            yield event
    except UnwrittenError as error:
        yield Failure(str(error), epoch + 1, "", unwritten=True)
    except DivergedError as error:
        yield Failure(str(error), error.epoch, "")
    except LostError as error:
        yield Failure(str(error), epoch + 1, traceback.format_exc(), crashed=True)
    except FusedError as error:
        logger.info("%s was trained with others", training_text(*job.name), exc_info=error)
        # it may be no fault of its own, and alone it needs less memory
        yield Failure(str(error), epoch + 1, traceback.format_exc(), crashed=True)
    except Exception as error:
        reason = kind_and_line(error)
        logger.info("%s failed in epoch %d", training_text(*job.name), epoch + 1, exc_info=error)
        memory = is_out_of_memory(error)
        yield Failure(reason, epoch + 1, traceback.format_exc(), memory=memory)


def _trained(job: Job, started: float, fused: Fused | None) -> Iterator[Event]:
    with torch_threads(job.threads or torch.get_num_threads()):
        data = load_data(job.data)
        try:
            yield from _trained_on(data, job, started, fused)
        finally:
            data.release()


def _trained_on(data: ImageData, job: Job, started: float, fused: Fused | None) -> Iterator[Event]:
    candidate = Candidate.of(family(job.family), job.params, job.epochs)
    fetch_sources(job)
    net = initial_net(job, candidate, task_of(data))
    slot = Slot.of(job, candidate)
    execution, metric = execution_of(job, net, slot), METRICS[job.metric]
    in_group = fused is not None
    if in_group and slot.load() is not None:
        fused = None  # the others are not where it goes on
    if fused is not None:  # the layout is that of one network alone
        execution = replace(execution, channels_last=False)
    execution = yield from rightly_computed(job, net, candidate, execution)
    threads = threads_of(job, execution)
    torch.set_num_threads(threads)
    if job.gpu_memory is not None and execution.device.startswith("cuda"):
        cap_gpu_memory(job.gpu_memory, execution.device)
    table = None if job.latency is None else read_table(Path(job.latency))
    logger.info("%s trains %d epochs: %s", training_text(*job.name), job.epochs, execution)
    files = slot.checkpoints.files
    yield from _long_before_training(net)
    images, data = data, learnt_from(job, net, data, candidate, execution)
    teacher = teacher_net(job, candidate, task_of(data))
    effort = Effort(**job.effort)
    with together(job, execution) as group:
        training = Training(
            execution.placed(net), data, candidate.recipe, job.seed, execution, teacher, group
        )
        for result in _epochs(training, slot, metric, fused, candidate.likeness, waits=in_group):
            if isinstance(result, Waits):
                yield result
                torch.set_num_threads(threads)  # another one may have ended meanwhile
                continue
            yield from (one for one in result.before if one.epoch > job.reached)
            yield replace(result, before=())
            yield from _news(files)
            if result.epoch in job.rungs:
                files.flush()  # it may end here
                yield Rung(
                    result.epoch,
                    rung_points(net, data, candidate, execution, job.seed, metric, table, effort),
                    result.metrics.get("objective/outlook"),
                    *_spent(net, execution, started),
                )
    yield Doing("measuring its operating points")
    points = _points(
        net, data, candidate, execution, job.seed, metric, table, quick=False, effort=effort
    )
    if job.answers:
        _keep_answers(job, net, data, candidate, execution, points, files)
    features = None if data is images else data.validation
    inspection = _inspection(net, images, points[0], execution, job.seed, features)
    files.flush()  # what has ended is found by every machine
    yield from _news(files)
    yield Outcome(points, *_spent(net, execution, started), inspection)


def _epochs(
    training: Training,
    slot: Slot,
    metric: Metric,
    fused: Fused | None,
    likeness: Hashable,
    *,
    waits: bool,
) -> Iterator[EpochResult | Waits]:
    """What its epochs give, and before each that it waits, where others train in this process too."""
    alone = nullcontext(trained_alone)
    with alone if fused is None else fused.joined(training, likeness) as trained:
        for one in rounds(training, slot=slot, metric=metric, trained=trained):
            if one is not None:
                yield one
            elif waits:
                yield Waits()


def _long_before_training(net: DynamicNet) -> Iterator[Doing]:
    """What the first epoch waits for, where that may take minutes."""
    from trainers.frozen import has_features

    if has_features(net):
        yield Doing("its trunk reads the images, once for all trials of this size")


def _spent(
    net: DynamicNet, execution: Execution, started: float
) -> tuple[int, int, dict[str, Any], float]:
    """Parameters and MACs of the whole network, how it is run, and seconds so far."""
    parameters = sum(p.numel() for p in net.parameters())
    return parameters, net.plain_macs, execution.as_dict(), time.perf_counter() - started


def _news(files: KeptFiles) -> Iterator[Notice]:
    """What there is to say of the place where all machines find files."""
    if text := files.news():
        yield Notice(text)


def _keep_answers(
    job: Job,
    net: DynamicNet,
    data: ImageData,
    candidate: Candidate,
    execution: Execution,
    points: list[OperatingPoint],
    files: KeptFiles,
) -> None:
    """Keep the answers to the validation images beside the checkpoint, as far as there is room for them.

    Where that fails, the training counts all the same: it can only be no member of a cascade.
    """
    from search.measure.member_answers import member_answers
    from search.run.answer_files import save_answers

    file, recipe, seed = answers_file(Path(job.checkpoints), job.key), candidate.recipe, job.seed
    try:
        found = member_answers(net, data, points, recipe, execution=execution, seed=seed)
        save_answers(file, found)
    except Exception as error:
        logger.warning("the answers of %s are not kept", training_text(*job.name), exc_info=error)
        found = None
    if found is None:
        files.remove(file)
    else:
        files.put_soon(file)


def learnt_from(
    job: Job, net: DynamicNet, data: ImageData, candidate: Candidate, execution: Execution
) -> ImageData:
    """What the network trains on: the images, or what its heads read of them where its trunk keeps its weights."""
    from trainers.frozen import frozen_data, views_of

    views, files = views_of(candidate), features_of(job)
    found = frozen_data(net, data, views=views, files=files, execution=execution)
    return data if found is None else found


def rung_points(
    net: DynamicNet,
    data: ImageData,
    candidate: Candidate,
    execution: Execution,
    seed: int,
    metric: Metric,
    latency: LatencyTable | None = None,
    effort: Effort | None = None,
) -> list[OperatingPoint]:
    """The few operating points that trials are compared by before their trainings are over."""
    return _points(
        net, data, candidate, execution, seed, metric, latency, quick=True, effort=effort
    )


def _points(
    net: DynamicNet,
    data: ImageData,
    candidate: Candidate,
    execution: Execution,
    seed: int,
    metric: Metric,
    latency: LatencyTable | None,
    *,
    quick: bool,
    effort: Effort | None = None,
) -> list[OperatingPoint]:
    from search.measure.operating_points import operating_points

    return operating_points(
        net,
        data,
        candidate.recipe,
        execution=execution,
        seed=seed,
        quick=quick,
        metric=metric,
        latency=latency,
        effort=effort,
    )


def _inspection(
    net: DynamicNet,
    data: ImageData,
    point: OperatingPoint,
    execution: Execution,
    seed: int,
    features: Split | None = None,
) -> dict[str, Any]:
    """What there is to show of the network at one of its points; `error` where that fails, for its points count."""
    from search.inspection.forward_pass import QUICK
    from search.inspection.measures import inspect_network

    try:
        knobs, rates = Knobs(**point.knobs), point.extra["rates"]
        return inspect_network(
            net,
            data,
            knobs,
            rates=rates,
            execution=execution,
            seed=seed,
            effort=QUICK,
            features=features,
        ).as_dict()
    except Exception as error:
        logger.warning("what the network does with images was not measured", exc_info=error)
        return {"error": f"{type(error).__name__}: {error}"}


def initial_net(job: Job, candidate: Candidate, task: Task) -> DynamicNet:
    """The network before its first step: random weights, or those that the job starts from. Raises ValueError."""
    net = candidate.build(task, job.seed)
    if source := job.init_from or candidate.published:
        start_from(net, source, candidate.baseline().outline(task).state_dict())
    return net


def teacher_net(job: Job, candidate: Candidate, task: Task) -> DynamicNet | None:
    """The trained baseline that the job learns from, if it does. Raises ValueError where its weights do not fit."""
    if not job.teacher:
        return None
    baseline = candidate.baseline()
    config = replace(baseline.config, **candidate.family.rebuilt_with)
    net = replace(baseline, config=config).build(task, job.seed)
    try:
        net.load_state_dict(net.plain_state(initial_state(job.teacher)))
    except RuntimeError as error:
        reason = first_line(error)
        raise ValueError(f"distill: {job.teacher} is no baseline of this size: {reason}") from None
    return net


def kept_epoch(job: Job) -> int:
    """The epoch that an ended training's weights are of: the last one, or the best where the recipe keeps that."""
    candidate, last = (
        Candidate.of(family(job.family), job.params, job.epochs),
        job.trained or job.epochs,
    )
    if candidate.recipe.kept_epoch == "last":
        return last
    saved = Slot.of(job, candidate).load()
    return int(saved[1]["kept"]["epoch"]) if saved else last


def trained_net(job: Job) -> tuple[DynamicNet, Candidate, ImageData]:
    """The network of an ended training with the weights that it was measured with.

    Raises ValueError when its checkpoint is gone or of another epoch.
    """
    data = load_data(job.data)
    candidate = Candidate.of(family(job.family), job.params, job.epochs)
    net = candidate.build(task_of(data), job.seed)
    saved = Slot.of(job, candidate).load()
    if saved is None:
        raise ValueError(
            f"the checkpoint of trial {job.number} is missing in {job.checkpoints}; was it deleted or made elsewhere?"
        )
    wanted, found = job.trained or job.epochs, saved[1]["epochs_done"]
    if found != wanted:
        raise ValueError(
            f"the checkpoint of trial {job.number} holds epoch {found}, its points were measured after epoch {wanted}; "
            "search the study to its end, or choose another trial's point"
        )
    try:
        net.load_state_dict(net_tensors(saved[0]))
    except RuntimeError:  # the study is from before its data was kept with it
        raise ValueError(
            f"the checkpoint of trial {job.number} does not fit the data as it is now ({len(data.classes)} classes, "
            f"{data.channels} x {data.height} x {data.width}): were classes or images added? Restore the data"
        ) from None
    return net.eval(), candidate, data
