"""Times the units in this folder with ONNX Runtime and writes a table that dynafront reads.

    python time_units.py --threads 1 --out latency.json

It needs Python 3.9 or newer, numpy and onnxruntime, nothing else. Run nothing beside it, and set the machine to the
clock and the power that the model will have. Back on the first machine: `dynafront profile STUDY --table latency.json`.

dynafront times with this very file on its own machine too.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

FORMAT = 1
ROUNDS = 50
WARM, TIMED = 1, 3  # runs of a unit in a round
FEWEST = 3  # rounds, however long they take
FINE = 1e-6  # seconds that a clock must tell apart
CALL, BRANCH = "call", "branch"  # programs that do nothing, and nothing but take a branch


def interleaved(
    runs: Sequence[Callable[[], object]],
    seconds: float,
    rounds: int = ROUNDS,
    clock: Callable[[], float] = time.perf_counter,
) -> list[dict[str, float]]:
    """Milliseconds of each callable: the median, and the ends of the middle half of all runs (`low`, `high`).

    Round after round, each is called a few times: they share the machine's moods. After `seconds` a few rounds do.
    `clock` says how late it is, in seconds.
    """
    taken: list[list[float]] = [[] for _ in runs]
    begun = time.perf_counter()
    for done in range(rounds):
        if done >= FEWEST and time.perf_counter() - begun > seconds:
            break
        for run, times in zip(runs, taken):  # noqa: B905 - of Python 3.9
            for _ in range(WARM):
                run()
            for _ in range(TIMED):
                start = clock()
                run()
                times.append(1000 * (clock() - start))
    return [summary(times) for times in taken]


def clock_of(threads: int, device: str = "cpu") -> Callable[[], float]:
    """What tells seconds: where one thread of a CPU computes its own time, so that what else runs counts little."""
    fine = time.get_clock_info("thread_time").resolution <= FINE
    return time.thread_time if threads == 1 and device == "cpu" and fine else time.perf_counter


def summary(times: Sequence[float]) -> dict[str, float]:
    """The median, and the ends of the middle half."""
    low, median, high = statistics.quantiles(times, n=4, method="inclusive")
    return {"median": median, "low": low, "high": high}


def session_run(program: bytes | str, threads: int, provider: str) -> Callable[[], object]:
    """A call of an ONNX program on random inputs of its shapes."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(program, options, providers=[provider])
    random = np.random.default_rng(0)
    given = {
        one.name: random.random(one.shape, dtype=np.float32).astype(_dtype(one.type))
        for one in session.get_inputs()
    }
    names = [one.name for one in session.get_outputs()]
    return lambda: session.run(names, given)


def _dtype(kind: str) -> str:
    """numpy's name of what ONNX Runtime calls "tensor(float)"."""
    name = kind[len("tensor(") : -1]
    return {"float": "float32", "double": "float64"}.get(name, name)


def machine() -> dict[str, str]:
    """This machine, as a table names it."""
    return {
        "name": platform.node(),
        "system": platform.system(),
        "processor": platform.machine(),
    }


def setting(
    runtime: str, device: str, threads: int, batch: int, versions: Mapping[str, str]
) -> dict[str, Any]:
    """What a table says of how it was measured."""
    return {
        "format": FORMAT,
        "machine": machine(),
        "runtime": runtime,
        "device": device,
        "threads": threads,
        "batch": batch,
        "versions": dict(versions),
    }


def main() -> int:
    """Time the units of this folder, as its `units.json` lists them, and write the table."""
    import onnxruntime

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=1, help="Threads of each run (default 1).")
    parser.add_argument("--seconds", type=float, default=300, help="About how long (default 300).")
    parser.add_argument(
        "--provider", default="CPUExecutionProvider", help="Execution provider of ONNX Runtime."
    )
    parser.add_argument("--out", default="latency.json", help="The table (default latency.json).")
    asked = parser.parse_args()
    folder = Path(__file__).resolve().parent
    listed = json.loads((folder / "units.json").read_text(encoding="utf-8"))
    names = list(listed["units"])
    runs = [
        session_run(str(folder / f"{name}.onnx"), asked.threads, asked.provider) for name in names
    ]
    print(f"timing {len(names)} units for up to {asked.seconds:.0f} s", file=sys.stderr)
    device = asked.provider.replace("ExecutionProvider", "").lower()
    clock = clock_of(asked.threads, device)
    times = dict(zip(names, interleaved(runs, asked.seconds, clock=clock)))  # noqa: B905
    versions = {"onnxruntime": onnxruntime.__version__}
    table = setting("onnxruntime", device, asked.threads, listed["batch"], versions)
    table["units"] = {
        name: {"unit": words, **times[name]} for name, words in listed["units"].items()
    }
    table["wholes"] = listed["wholes"]
    Path(asked.out).write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    print(asked.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
