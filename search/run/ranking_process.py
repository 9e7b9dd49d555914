"""Ranking in a process of its own: the driver of many slots has no time left for it."""

from __future__ import annotations

from contextlib import suppress
from multiprocessing.connection import Connection

from search.exact import is_exact
from search.objectives import Reference
from search.run.engine import Say
from search.run.mirror_process import MANY
from search.run.worker_process import process_beside
from search.schedule.history import Params
from search.schedule.ranking import Look, Ranking, Ranks
from search.schedule.scheduler_for import setting_of
from search.spec import StudySpec
from spaces.contract.task import Task

PATIENCE = 300.0  # seconds that an answer may take, of which a look takes a tenth of one


class RankingProcess:
    """Ranks looks elsewhere, the same candidates as here. Where its process is gone, or hangs, it ranks here."""

    def __init__(
        self, spec: StudySpec, task: Task, reference: Reference, slots: int, say: Say
    ) -> None:
        self._made_of = spec, task, reference, slots
        self._say = say
        self._here: Ranking | None = None
        self.process, self._pipe = process_beside(_rank, *self._made_of)

    def of(self, look: Look) -> list[Params]:
        """Raises what ranking raises there."""
        if self._here is None:
            with suppress(EOFError, OSError):
                self._pipe.send(look)
                if self._pipe.poll(PATIENCE):
                    answer = self._pipe.recv()
                    if isinstance(answer, Exception):
                        raise answer
                    return list(answer)
            self._say("the process that ranks candidates is gone; the search goes on without it")
            self._here = Ranking(setting_of(*self._made_of))
        return self._here.of(look)

    def close(self) -> None:
        self._pipe.close()
        self.process.kill()  # it holds nothing, and may hang
        self.process.join()


def ranking_beside(
    spec: StudySpec, task: Task, reference: Reference, slots: int, say: Say
) -> Ranks | None:
    """A process for a study of so many trainings at once; None where the driver has time to rank."""
    if slots < MANY or spec.sampler != "growth" or is_exact(spec):
        return None
    return RankingProcess(spec, task, reference, slots, say)


def _rank(pipe: Connection, spec: StudySpec, task: Task, reference: Reference, slots: int) -> None:
    ranking = Ranking(setting_of(spec, task, reference, slots))
    with suppress(EOFError, OSError):  # the driver is gone, or has closed it
        while True:
            pipe.send(_answer(ranking, pipe.recv()))


def _answer(ranking: Ranking, look: Look) -> list[Params] | Exception:
    try:
        return ranking.of(look)
    except Exception as error:
        return error
