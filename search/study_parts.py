"""The parts of a study file that have keys of their own: budget, region, limits, where it runs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from search.key_types import Epochs, Fraction, Gpus, Macs, Milliseconds, Positive, Trials

EngineName = Literal["local", "ray"]


class Keys(BaseModel):
    """Keys of a study file: none but these, of these types, never changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Plateau(Keys):
    """When to stop early: the hypervolume has not grown by this fraction over so many finished trials."""

    trials: Trials = Field(default=20, description="Look back over this many finished trials.")
    growth: Fraction = Field(
        default=0.005, description="End if the hypervolume grew by less than this share."
    )


class Budget(Keys):
    """How much a study may spend: trials in total, epochs a trial, hours of wall-clock over all its runs."""

    trials: Trials = Field(
        default=24,
        description="Trials in total, over all runs of the search. Baselines are not counted.",
    )
    epochs: Epochs = Field(default=12, description="Epochs of a trial, and of a baseline.")
    warm_epochs: Epochs | None = Field(
        default=None,
        description=(
            "Epochs of a trial that starts from a baseline. Fewer than `budget.epochs`: such "
            "short trials are tried first, then full ones from random weights. About a third is a "
            "good value."
        ),
    )
    hours: Positive | None = Field(
        default=None,
        description=(
            "Hours of wall-clock time, over all runs of the search. Trials under way are "
            "interrupted and continue with the next run."
        ),
    )
    plateau: Plateau | None = Field(
        default=None,
        description=(
            "End the search when the front no longer grows. `plateau: {}` turns it on with the "
            "defaults."
        ),
    )

    @property
    def short(self) -> int:
        """Epochs of a trial that starts from a baseline."""
        return self.epochs if self.warm_epochs is None else self.warm_epochs


class Measure(Keys):
    """How a trained network is measured: what is drawn at random, and batch-norm statistics that are refreshed."""

    passes: Annotated[int, Field(ge=2, le=100)] = Field(
        default=3,
        description=(
            "Passes over the held-out images with gates drawn at random: their mean and deviation are "
            "a point, and so is their ensemble."
        ),
    )
    recalibration_batches: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=20,
        description=(
            "Batches of training images, changed as the recipe says, but neither mixed nor erased, that "
            "refresh batch-norm statistics."
        ),
    )
    recalibration_images: Annotated[int, Field(ge=2, le=65_536)] | None = Field(
        default=None, description="Images of such a batch. Default: as many as in training."
    )
    thresholds: Literal["grid", "genetic"] = Field(
        default="grid",
        description=(
            "How thresholds of exits are searched: on a grid over all rules, or, to compare with, by SCAN's genetic "
            "search."
        ),
    )


class Region(Keys):
    """The part of the front that counts: a highest cost, a least accuracy, or a distance from the best accuracy.

    Without one, what is so far below the best accuracy that nobody ships it does not count.
    """

    max_macs: Macs | None = Field(default=None, description="Points that cost more do not count.")
    max_latency_ms: Milliseconds | None = Field(
        default=None,
        description="Points that take more milliseconds do not count. It needs latency among the objectives.",
    )
    min_accuracy: Fraction | None = Field(
        default=None, description="Points that are less accurate do not count."
    )
    within: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None,
        description="Points that are more than this below the best accuracy do not count. `1`: all count.",
    )


class Limits(Keys):
    """What no candidate may exceed, checked before it is built: of the network with everything open."""

    macs: Macs | None = Field(default=None, description="MACs of the network with everything open.")
    parameters: Macs | None = Field(default=None, description="Parameters of the network.")
    megabytes: Positive | None = Field(
        default=None, description="Megabytes (10^6 bytes) of float32 weights."
    )
    latency_ms: Milliseconds | None = Field(
        default=None,
        description="Milliseconds of an image in the network with everything open; needs `latency`.",
    )


class Run(Keys):
    """Where trials run: engine, trials at once, threads each, device, number format."""

    engine: EngineName = Field(
        default="local",
        description="`local`: processes on this machine. `ray`: a Ray cluster, which is one machine or many.",
    )
    workers: Annotated[int, Field(ge=0, le=256)] = Field(
        default=1,
        description=(
            "Trials at once, each in a process of its own. `0`: one, in the process of the "
            "command, which a crash of a trial then ends. Worker k uses GPU k; with `gpus_per_trial` the "
            "k-th group of them. More workers than GPUs: as many at once as the GPUs have memory for."
        ),
    )
    fused: Annotated[int, Field(ge=1, le=64)] = Field(
        default=1,
        description=(
            "Trials that one worker trains as one batched network, at most: those of one architecture that differ in "
            "targets, weights of losses, rates, schedules and seeds alone. So many trials for each worker are under "
            "way at once. `1`: none."
        ),
    )
    gpus_per_trial: Gpus = Field(
        default=1,
        description=(
            "GPUs that train one network together, each its part of every batch. With `device: cpu` so "
            "many processes. With `engine: ray` also a share of one GPU, such as `0.5`."
        ),
    )
    address: Annotated[str, Field(min_length=1)] = Field(
        default="auto",
        description=(
            "With `engine: ray`, the cluster: `HOST:PORT`, `local` for one of this machine alone, which "
            "ends with the search, or `auto`: what `RAY_ADDRESS` names, else what `ray start` has "
            "started here, else `local`."
        ),
    )
    cpus_per_trial: Annotated[int, Field(ge=1, le=1024)] = Field(
        default=1,
        description="With `engine: ray`, the CPUs of a trial, and at most its threads unless `threads` says otherwise.",
    )
    max_trials: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=64,
        description=(
            "With `engine: ray`, trials at once, at most: as many as the cluster has room for, and an "
            "autoscaler is asked for."
        ),
    )
    threads: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        default=None,
        description=(
            "Threads of a trial. Default: at most all cores divided by the workers, of these as few as are as fast, "
            "measured for each size. Write `1` on cores that others use too: threads that wait for each other are slow."
        ),
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="`auto`: CUDA where there is a GPU."
    )
    image_gigabytes: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = Field(
        default=None,
        description=(
            "Gigabytes (10^9 bytes) of decoded images that are kept; images beyond it are decoded "
            "while trials train. Default: half of the memory that is free."
        ),
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto",
        description="`auto` measures and takes the faster one of float32 and bfloat16. A network that this machine "
        "computes wrongly in bfloat16 trains in float32. `float16` needs a GPU.",
    )
    compile: bool = Field(default=False, description="Use `torch.compile`.")
    trial_hours: Positive | None = Field(
        default=None,
        description=(
            "Hours that a training may take in one run of the search. One that takes longer is ended, and has failed."
        ),
    )
    stall_minutes: Positive = Field(
        default=30,
        description=(
            "Minutes in which a training may do nothing, not even read a batch of images. Then its process hangs: it "
            "is replaced, and the training goes on from its last epoch."
        ),
    )
    memory_gigabytes: Positive | None = Field(
        default=None,
        description=(
            "Gigabytes (10^9 bytes) of memory that the process of a training may take, and those that it started. A "
            "training that takes more is ended, and has failed. Images that processes share are not counted."
        ),
    )
    gpu_memory_gigabytes: Positive | None = Field(
        default=None,
        description=(
            "Gigabytes (10^9 bytes) of a GPU's memory that a training may take. One that needs more ran out of memory."
        ),
    )
    mps: Literal["auto", "off"] = Field(
        default="auto",
        description=(
            "`auto`: where more workers than GPUs train, NVIDIA's Multi-Process Service lets them compute side by side "
            "on each, if the machine has it. `off`: they take turns."
        ),
    )
    max_failures: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        default=5, description="Failures in a row that end the search."
    )

    @property
    def gpus(self) -> int:
        """Processes of a training, each with a GPU where there are any: one where it has a share of a GPU."""
        return max(1, int(self.gpus_per_trial))

    @property
    def uses_ray(self) -> bool:
        return self.engine == "ray"
