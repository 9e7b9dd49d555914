"""Trains and measures what claims ask for, once: every finished run is a JSON line that a later call finds.

Two processes may share a folder: a line is written in one go, and what was cut off is ignored.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from benchmarks.claims.claim import Claim, Result, Results, Variant
from benchmarks.claims.measures import MEASURES, Bench
from benchmarks.claims.power import plain_already, seeds_needed
from benchmarks.claims.scales import Scale
from benchmarks.claims.verdicts import Pair, spread_of
from search.run.data import task_of
from spaces.contract.net import DynamicNet
from storage.checkpoints import Checkpoints
from trainers.data.splits import DataSpec, ImageData, load
from trainers.epoch_sums import DivergedError
from trainers.execution import Execution, best_device
from trainers.fit import fit

SEED_OF_COPIES = 1000  # seeds of trainings are seed * this + number of the copy


class Lab:
    """The runs of one scale, kept in a folder. `say` gets a line whenever a run starts or ends."""

    def __init__(self, scale: Scale, folder: Path, say: Callable[[str], None]) -> None:
        self.scale, self.folder, self.say = scale, folder, say
        folder.mkdir(parents=True, exist_ok=True)
        self.weights = Checkpoints(folder / "weights")
        self.execution = Execution(device=best_device())
        self.known = _read(folder / "runs.jsonl")
        self.done, self.total = 0, 0
        self.seeds: dict[str, int] = {}  # of each claim, by its name

    @cached_property
    def data(self) -> ImageData:
        return load(self.scale.data)

    def run(self, claims: list[Claim]) -> None:
        """Train and measure all that these claims need and that is not there yet, seed by seed.

        With a power, a claim gets more seeds until it has that power, is plain, or has the most that there may be.
        """
        wanted = {claim.name: self.scale.seeds for claim in claims}
        while wanted != {name: self.seeds.get(name) for name in wanted}:
            self.seeds |= wanted
            self._run_missing(claims)
            if self.scale.power:
                wanted = {claim.name: self._wanted(claim, self.scale.power) for claim in claims}

    def _run_missing(self, claims: list[Claim]) -> None:
        todo: dict[str, tuple[Variant, int]] = {}
        for seed in range(max(self.seeds[claim.name] for claim in claims)):
            for claim in (one for one in claims if seed < self.seeds[one.name]):
                for variant in claim.variants(self.scale).values():
                    if self.key(variant, seed) not in self.known:
                        todo[self.key(variant, seed)] = variant, seed
        self.done, self.total = 0, len(todo)
        for variant, seed in todo.values():
            self._measured(variant, seed)

    def _wanted(self, claim: Claim, power: float) -> int:
        """Seeds of this claim; never fewer than it has."""
        had, pairs = self.seeds[claim.name], self.pairs(claim)
        images = self.images(claim)
        if claim.rule == "zero" or len(pairs) < 2:
            return had
        if plain_already(pairs, claim.rule, margin=claim.margin, images=images):
            return had
        needed = seeds_needed(
            spread_of(pairs, images), claim.least, power, self.scale.most_seeds, sides=claim.sides
        )
        lost = had - len(pairs)  # that could not tell
        return min(self.scale.most_seeds, max(had, needed + lost))

    def images(self, claim: Claim) -> int | None:
        """Validation images, where the claim is about shares of them."""
        return len(self.data.validation) if claim.share else None

    def pairs(self, claim: Claim) -> list[Pair]:
        """Of the seeds that can tell."""
        return [pair for one in self.results(claim) if (pair := claim.pair(one)) is not None]

    def results(self, claim: Claim) -> list[Results]:
        """By role, for each seed of which every run is there and was not a failure."""
        found: list[Results] = []
        for seed in range(self.seeds.get(claim.name, self.scale.seeds)):
            one = {
                role: self.known.get(self.key(v, seed))
                for role, v in claim.variants(self.scale).items()
            }
            complete = {role: result for role, result in one.items() if result is not None}
            if len(complete) == len(one) and not any(
                "failed" in result for result in complete.values()
            ):
                found.append(complete)
        return found

    def key(self, variant: Variant, seed: int) -> str:
        """Of a run: what is trained and measured, on what, under which seed."""
        return json.dumps([variant.key, seed, _data_key(self.scale.data)], sort_keys=True)

    def _measured(self, variant: Variant, seed: int) -> None:
        number, started = self.done + 1, time.perf_counter()
        name = f"[{number}/{self.total}] seed {seed}: {variant.label}"
        self.say(f"{name} ...")
        result: dict[str, Any]
        try:
            nets = [self._trained(variant, seed, copy) for copy in range(variant.copies)]
            bench = Bench(nets, self.data, variant.candidate, self.execution, variant.options)
            result = MEASURES[variant.measure](bench)
        except DivergedError as error:
            result = {"failed": str(error)}
        seconds = time.perf_counter() - started
        self._record(variant, seed, result, seconds)
        self.done = number
        self.say(f"{name}: {seconds:.1f} s{', ' + result['failed'] if 'failed' in result else ''}")

    def _record(self, variant: Variant, seed: int, result: Result, seconds: float) -> None:
        key = self.key(variant, seed)
        line = {"key": key, "run": variant.label, "measure": variant.measure, "seed": seed}
        line |= {
            "seconds": round(seconds, 2),
            "device": self.execution.device,
            "result": dict(result),
        }
        with open(self.folder / "runs.jsonl", "a", encoding="utf-8") as file:
            file.write("\n" * self._cut_off(file.tell()) + json.dumps(line) + "\n")
        self.known[key] = result

    def _cut_off(self, size: int) -> bool:
        """Whether an earlier process was ended within its last line, which must not swallow the next one."""
        return bool(size) and not (self.folder / "runs.jsonl").read_bytes().endswith(b"\n")

    def _trained(self, variant: Variant, seed: int, copy: int) -> DynamicNet:
        candidate = variant.candidate
        net = candidate.build(task_of(self.data), seed)
        if variant.start is not None:
            started = self._weights(variant.start, seed)
            net.load_state_dict({**net.state_dict(), **started})  # what is new stays as it begins
        training = seed * SEED_OF_COPIES + copy
        for _ in fit(net, self.data, candidate.recipe, seed=training, execution=self.execution):
            pass
        return self.execution.placed(net).eval()

    def _weights(self, variant: Variant, seed: int) -> Mapping[str, torch.Tensor]:
        """Of a variant that others start from: trained when first asked for, then kept in the folder."""
        identity = json.dumps([variant.weights_key, seed, _data_key(self.scale.data)])
        name = hashlib.sha256(identity.encode()).hexdigest()[:32]
        saved = self.weights.load(name)
        if saved is None:
            self.weights.save(
                name, self._trained(variant, seed, 0).state_dict(), {"identity": identity}
            )
            saved = self.weights.load(name)
        assert saved is not None
        return saved[0]


def _data_key(spec: DataSpec) -> dict[str, Any]:
    """What is trained on, wherever it lies."""
    values = {k: v for k, v in asdict(spec).items() if k not in ("root", "memory_limit")}
    return values | {"source": data_name(spec)}


def data_name(spec: DataSpec) -> str:
    """The source, of a path its last part only."""
    kind, _, path = spec.source.partition(":")
    return f"{kind}:{Path(path).name}" if path else kind


def _read(path: Path) -> dict[str, Result]:
    """Results by key; lines that were cut off are left out."""
    found: dict[str, Result] = {}
    if not path.exists():
        return found
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            one = json.loads(line)
        except json.JSONDecodeError:
            continue
        found[one["key"]] = one["result"]
    return found
