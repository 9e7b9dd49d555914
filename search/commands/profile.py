"""dynafront profile: a table of how long units take, made here, or on another machine from a bundle."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from search.commands.data_check import checked_data
from search.latency.bundle import SCRIPT, write_bundle
from search.latency.profile import check_device, profiled
from search.latency.table import (
    LatencyTable,
    MissingUnitsError,
    Runtime,
    read_table,
    write_table,
)
from search.latency.time_units import BRANCH, CALL
from search.run.data import data_spec, load_data, task_of
from search.schedule.space_units import units_of_space
from search.spec import StudySpec, narrowed_spaces
from spaces.contract.units import Unit
from storage.settings import Settings

SHOWN = 12  # units, the slowest ones


@dataclass(frozen=True)
class Profile:
    """What is to be timed: the units of a study's networks in one runtime, on one device."""

    spec: StudySpec
    settings: Settings
    runtime: Runtime
    device: str
    threads: int
    batch: int
    seconds: float
    say: Callable[[str], None]

    def here(self, out: Path) -> Iterator[str]:
        """Time them on this machine and write the table; lines that say what was found. Raises ValueError."""
        check_device(self.runtime, self.device)
        self.say("building the networks")
        table = profiled(
            self._units(self.batch),
            runtime=self.runtime,
            device=self.device,
            threads=self.threads,
            batch=self.batch,
            seconds=self.seconds,
            say=self.say,
        )
        write_table(table, out)
        return _table_lines(table, out)

    def bundle(self, folder: Path, study_file: Path) -> Iterator[str]:
        """Write the units and a script that times them elsewhere; lines that say what to do with them."""
        self.say("building the networks")
        count = write_bundle(self._units(self.batch), folder, self.batch)
        table = shlex.quote(str(study_file))
        return iter(
            (
                f"wrote {count} units and {SCRIPT} to {folder}",
                "copy the folder to the machine, which needs Python 3.9, numpy and onnxruntime, and run there:",
                f"  python {SCRIPT} --threads {self.threads} --out latency.json",
                f"bring latency.json back: dynafront profile {table} --table latency.json",
            )
        )

    def adopted(self, given: Path, out: Path) -> Iterator[str]:
        """Check a table from elsewhere and keep it as `out`. Raises ValueError where it lacks what the study needs."""
        table = read_table(given)
        self.say("building the networks")
        units = [one for one in self._units(table.batch) if not one.parts]  # wholes may be missing
        missing = {one.key: one.words for one in units if one.key not in table.units}
        if missing:
            raise ValueError(f"{given}: {MissingUnitsError(missing)}, with --bundle")
        if given.resolve() != out.resolve():
            out.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(given, out)
        return _table_lines(table, out)

    def _units(self, batch: int) -> Iterator[Unit]:
        spec = self.spec
        checked_data(spec, {}, self.say, self.settings.folder)
        task = task_of(load_data(data_spec(spec)))
        return units_of_space(narrowed_spaces(spec), task, batch=batch, say=self.say)


def _table_lines(table: LatencyTable, out: Path) -> Iterator[str]:
    """The table in words: where it was measured, and the slowest units."""
    units = {key: one for key, one in table.units.items() if key not in (CALL, BRANCH)}
    slowest = sorted(units.values(), key=lambda one: -one.median)[:SHOWN]
    width = max(len(one.unit) for one in slowest)
    yield f"{len(units)} units, {table.words}"
    yield f"  {'ms, and its middle half':>{width + 31}}"
    for one in slowest:
        yield f"  {one.unit:<{width}}  {one.median:8.3f}   ({one.low:.3f} to {one.high:.3f})"
    if len(units) > SHOWN:
        yield f"  and {len(units) - SHOWN} faster ones"
    yield f"  {'a call that does nothing':<{width}}  {table.call_ms:8.4f}"
    yield f"wrote {out}; name it in the study file: latency: {out}"
