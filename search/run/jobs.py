"""What a worker needs to train a stored trial, or to find what it trained."""

from __future__ import annotations

from pathlib import Path

from search.front.eligible import ON_OFFER
from search.run.data import data_spec
from search.run.job import Job
from search.schedule.finalist_plan import LONGER
from search.schedule.warm_start import baseline_key, baseline_of, starts_from_baseline, warm
from search.spec import StudySpec, narrowed_spaces
from search.study_parts import Run
from spaces.contract.family import Candidate
from spaces.contract.registry import candidate_of
from spaces.contract.resolution import IMAGE_SIZE
from storage.checkpoint_files import training_key
from storage.checkpoints import Checkpoints
from storage.records import Kind, TrialRecord
from trainers.cores import cores, cores_alone


def threads_for(run: Run, slots: int) -> int | None:
    """Threads of a trial, `slots` of which train at once, where the study file does not say and none are measured.

    None: torch's number.
    """
    if run.uses_ray:
        return max(1, run.cpus_per_trial // run.gpus)
    # processes that each take all cores slow each other down
    processes = slots * run.gpus
    return max(1, cores() // processes) if processes > 1 else None


def most_threads_for(run: Run, slots: int) -> int:
    """Up to how many threads of such a trial are measured; 0 where the study file says them."""
    return 0 if run.threads else threads_for(run, slots) or cores_alone()


def _searched_epochs(record: TrialRecord) -> int:
    """The epochs of the trial of the search: of a finalist, of the one that it trains again."""
    return record.epochs // LONGER if record.kind == Kind.FINALIST else record.epochs


def _baseline_file(spec: StudySpec, trial: Candidate, checkpoints: str) -> str:
    """The checkpoint of the baseline of a trial's size."""
    baseline = baseline_of(spec, narrowed_spaces(spec)[trial.family.name], trial)
    return str(Checkpoints(Path(checkpoints)).path(baseline_key(spec, baseline)))


def job_of(
    spec: StudySpec,
    record: TrialRecord,
    checkpoints: str,
    slots: int | None = None,
    *,
    store: str | None = None,
) -> Job:
    """The job that trains a stored trial beside others in so many `slots`, or, without those, that trained it.

    `checkpoints` is the folder of this machine, `store` the place where all find them, if there is one.
    """
    key, start = training_key(spec.study, record.kind, record.number), spec.initial(record.family)
    teacher, gpu_gb, run = None, spec.run.gpu_memory_gigabytes, spec.run
    if warm(spec, record.family):
        trial = candidate_of(record)
        if record.kind == Kind.BASELINE:
            key = baseline_key(spec, trial)
        else:
            starts = starts_from_baseline(spec, record.family, _searched_epochs(record))
            taught = trial.recipe.distill > 0
            if starts or taught:
                file = _baseline_file(spec, trial, checkpoints)
                start, teacher = file if starts else start, file if taught else None
    return Job(
        kind=record.kind,
        number=record.number,
        family=record.family,
        params=record.params,
        epochs=record.epochs,
        seed=record.seed,
        data=data_spec(spec, record.params.get(IMAGE_SIZE)),
        checkpoints=checkpoints,
        store=store,
        key=key,
        device=spec.run.device,
        precision=spec.run.precision,
        compile=spec.run.compile,
        gpus=spec.run.gpus,
        threads=run.threads or (None if slots is None else threads_for(run, slots)),
        most_threads=0 if slots is None else most_threads_for(run, slots),
        gpu_memory=None if gpu_gb is None else int(1e9 * gpu_gb),
        init_from=start,
        teacher=teacher,
        metric=spec.metric.name,
        latency=spec.latency,
        effort=spec.measure.model_dump(),
        trained=record.result.get("stopped_at"),
        answers=spec.cascades and record.kind in ON_OFFER,
    )
