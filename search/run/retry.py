"""Failed trials that are trained again: what made them fail may have been put right since."""

from __future__ import annotations

from search.schedule.sampler import Limit
from search.spec import StudySpec
from spaces.contract.registry import candidate_of
from storage.records import Kind, State, TrialRecord
from storage.store import Store


def retry(store: Store, spec: StudySpec, limit: Limit) -> int:
    """Let the study's failed trials run again when it is taken up, with their numbers and seeds; returns how many.

    What is infeasible is left out. In Optuna's tables they stay failed, for nothing that has ended goes on there. A
    failed baseline is asked for again, under another number, by the trials that start from it.
    """
    failed = store.trials(spec.study, kind=Kind.SEARCH, state=State.FAILED)
    again = [record for record in failed if _is_feasible(record, limit)]
    for record in again:
        store.retry_trial(spec.study, Kind.SEARCH, record.number)
        store.attempts.clear(spec.study, Kind.SEARCH, record.number)
    return len(again)


def _is_feasible(record: TrialRecord, limit: Limit) -> bool:
    try:
        return limit(candidate_of(record)) is None
    except ValueError:
        return False
