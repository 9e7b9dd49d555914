"""Merging trainings of a study: which ones, what was measured, and the file that says it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import mean, stdev

from search.measure.merged_models import Accuracies, MergedModels, merged_models
from search.report.text import network_text
from search.run.jobs import job_of
from search.run.worker import trained_net
from search.spec import stored_spec
from storage.records import Kind, State, StudyRecord, TrialRecord
from storage.settings import Settings
from storage.store import Store
from trainers.execution import Execution, best_device


def merge_trials(
    store: Store,
    record: StudyRecord,
    settings: Settings,
    numbers: Sequence[int],
    models: int,
    seed: int,
    out: Path,
    say: Callable[[str], None],
) -> list[str]:
    """Merge these trials, or those of the setting that was trained most often, and write what was measured.

    Returns lines that say what came out. Raises ValueError where there are not two that can be merged.
    """
    trials = chosen_trials(store, record, numbers)
    spec, execution = stored_spec(record.spec), Execution(device=best_device())
    nets, data = [], None
    for trial in trials:
        say(f"loading trial {trial.number}")
        job = job_of(spec, trial, str(settings.checkpoints), store=settings.store)
        net, _, data = trained_net(job)
        nets.append(execution.placed(net))
    assert data is not None
    found = merged_models(nets, data, models=models, seed=seed, execution=execution, say=say)
    written = {
        "study": record.name,
        "trials": [trial.number for trial in trials],
        "network": network_text(trials[0].family, trials[0].params),
        **found.as_dict(),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
    return [*_table(str(written["network"]), trials, found), f"  {out}"]


def chosen_trials(store: Store, record: StudyRecord, numbers: Sequence[int]) -> list[TrialRecord]:
    """The named trials, or all of the setting with the most complete trainings."""
    complete = {
        trial.number: trial
        for trial in store.trials(record.name, kind=Kind.SEARCH)
        if trial.state == State.COMPLETE and trial.of_trial is None
    }
    if missing := [number for number in numbers if number not in complete]:
        raise ValueError(
            f"--trial: trial {missing[0]} of study {record.name} is not complete, or has the result of an equal one; "
            f"see dynafront status {record.name}"
        )
    if numbers:
        found = [complete[number] for number in dict.fromkeys(numbers)]
    else:
        groups: dict[str, list[TrialRecord]] = {}
        for trial in complete.values():
            key = json.dumps([trial.family, trial.epochs, trial.params], sort_keys=True)
            groups.setdefault(key, []).append(trial)
        found = max(groups.values(), key=len, default=[])
    if len(found) < 2:
        raise ValueError(
            f"study {record.name} has no two trainings of one setting; list one in `trials` with `repeats: 12`, "
            "or name trials to merge with --trial"
        )
    return found


def _table(network: str, trials: Sequence[TrialRecord], found: MergedModels) -> Iterator[str]:
    numbers = ", ".join(str(trial.number) for trial in trials)
    yield f"{network}: trials {numbers}; accuracy on {found.images:,} validation images"
    yield f"  {'':<28}{'layers in order':>18}{'in any order':>18}"
    yield _row(f"{len(trials)} networks, alone", found.alone)
    yield _row(f"{len(found.donors)} merged models", found.merged)
    yield _row("all together: mean of logits", found.ensemble)


def _row(label: str, accuracies: Accuracies) -> str:
    cells = (_spread(accuracies.sequential), _spread(accuracies.arbitrary))
    return f"  {label:<28}{cells[0]:>18}{cells[1]:>18}"


def _spread(values: Sequence[float]) -> str:
    """Mean and standard deviation in percent."""
    spread = f" +- {100 * stdev(values):.2f}" if len(values) > 1 else ""
    return f"{100 * mean(values):.2f}{spread} %"
