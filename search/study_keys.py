"""The keys of a study file: type, bounds, default and description of each, for checks, docs and schema."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from search.objectives import COSTS, MACS, MOST_MACS, Cost, macs_number, milliseconds
from search.spec_errors import shown
from storage.yaml_text import clipped
from trainers.metrics import METRICS, Metric

AMOUNT_TEXT = r"^\s*(\d+\.?\d*([eE]\+?\d{1,3})?|\.\d+)\s*[kKmMgG]?\s*([mM][aA][cC][sS])?\s*$"
AMOUNT = {
    "anyOf": [
        {"type": "number", "minimum": 1, "maximum": MOST_MACS},
        {"type": "string", "pattern": AMOUNT_TEXT},
    ]
}
Macs = Annotated[float, BeforeValidator(lambda value: _macs(value)), WithJsonSchema(AMOUNT)]
LATENCY_TEXT = r"^\s*(\d+\.?\d*|\.\d+)\s*([mM][sS])?\s*$"
MILLISECONDS = {
    "anyOf": [
        {"type": "number", "exclusiveMinimum": 0},
        {"type": "string", "pattern": LATENCY_TEXT},
    ]
}
Milliseconds = Annotated[
    float, BeforeValidator(lambda value: _ms(value)), WithJsonSchema(MILLISECONDS)
]
Weights = Annotated[str | dict[str, str], BeforeValidator(lambda value: _weights(value))]
SIDE = {"type": "integer", "minimum": 4, "maximum": 4096}
SIDES = {"anyOf": [SIDE, {"type": "array", "items": SIDE, "minItems": 1, "uniqueItems": True}]}
Sides = Annotated[
    int | tuple[int, ...], BeforeValidator(lambda value: _sides(value)), WithJsonSchema(SIDES)
]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Trials = Annotated[int, Field(ge=1, le=1_000_000)]
Epochs = Annotated[int, Field(ge=1, le=100_000)]
# rows of search.schedule.samplers.SAMPLERS
SamplerName = Literal["growth", "tpe", "nsgaii", "gp", "random"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Plateau(_Strict):
    """When to stop early: the hypervolume has not grown by this fraction over so many finished trials."""

    trials: Trials = Field(default=20, description="Look back over this many finished trials.")
    growth: Fraction = Field(
        default=0.005, description="End if the hypervolume grew by less than this share."
    )


class Budget(_Strict):
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


class Region(_Strict):
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


class Limits(_Strict):
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


class Run(_Strict):
    """Where trials run: processes at once, threads each, device, number format."""

    workers: Annotated[int, Field(ge=0, le=256)] = Field(
        default=1,
        description=(
            "Trials at once, each in a process of its own. `0`: one, in the process of the "
            "command, which a crash of a trial then ends. Worker k uses GPU k, modulo the number "
            "of GPUs."
        ),
    )
    threads: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        default=None,
        description=(
            "Threads of a trial. Default: all cores divided by the workers. Write `1` on cores "
            "that others use too: threads that wait for each other are slow."
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
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="`auto` measures and takes the faster one."
    )
    compile: bool = Field(default=False, description="Use `torch.compile`.")


class StudySpec(_Strict):
    """A study as its file says it, defaults filled in."""

    study: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")] = Field(
        description="The name. It begins with a letter or a digit."
    )
    data: Annotated[str, Field(min_length=1)] = Field(
        description="The images: a known data set, `folder:PATH` or `parquet:PATH`."
    )
    families: Annotated[tuple[str, ...], Field(min_length=1, strict=False)] = Field(
        description="Families of networks to search."
    )
    space: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="Dimensions to fix or narrow, by family: a value, a list, or `{low, high}`.",
    )
    budget: Budget = Field(default=Budget(), description="How much to spend.")
    objectives: Annotated[tuple[str, ...], Field(strict=False)] = Field(
        default=("accuracy", "macs"),
        description=("What is optimised: the metric to maximise, then the costs to minimise."),
    )
    latency: Annotated[str, Field(min_length=1)] | None = Field(
        default=None,
        description=(
            "A table of how long units of networks take on a machine, which `dynafront profile` writes. With it, each "
            "point has the latency of an image."
        ),
    )
    sampler: SamplerName = Field(default="growth", description="What chooses the next candidate.")
    warm_start: bool = Field(
        default=True,
        description=(
            "Train the baseline of each size once and start trials from it. `false`: every trial "
            "is trained from random weights for `budget.epochs`."
        ),
    )
    early_stopping: bool = Field(
        default=True, description="Stop trials that will not extend the front."
    )
    starting_points: bool = Field(
        default=True, description="Begin with the settings that each family recommends."
    )
    region: Region = Field(
        default=Region(within=0.1),
        description="The part of the front that you can use. With any key of its own, only these hold.",
    )
    limits: Limits = Field(
        default=Limits(), description="What no network may exceed, checked before it is trained."
    )
    seed: Annotated[int, Field(ge=0, lt=2**31)] = Field(
        default=0, description="The seed of the split, of all trainings and of the sampler."
    )
    data_root: str | None = Field(
        default=None,
        description=(
            "Folder of torchvision's data sets. Default: the environment variable "
            "`DYNAFRONT_DATA`, else `~/.cache/dynafront`."
        ),
    )
    image_size: Sides | None = Field(
        default=None,
        description=(
            "Side of the square that every image becomes. A list is searched. Default: the stored "
            "size if all images share one; else the median of the shorter sides, at most 224."
        ),
    )
    init_from: Weights | None = Field(
        default=None,
        description="Weights to start from: a file or `torchvision:NAME`, or one of these by family.",
    )
    recipe: Literal["auto", "scratch", "fine_tuning"] = Field(
        default="auto",
        description=(
            "Ranges and defaults of how networks are trained: for random weights (`scratch`), or "
            "for trained ones (`fine_tuning`). `auto`: `fine_tuning` where weights are loaded."
        ),
    )
    validation: Fraction = Field(
        default=0.1,
        description="Share of the training images that is held out. Every class keeps its share.",
    )
    # None in studies from before there was the key
    test: Fraction | None = Field(
        default=0.2,
        description=(
            "Share of the images that is left for `export`, where the data has no test images. "
            "Every class gives its share, and the same images whatever `seed` is."
        ),
    )
    resize: Literal["crop", "pad", "squash"] = Field(
        default="crop",
        description=(
            "What is done to images of another aspect ratio. `crop`: the largest centred part is "
            "used. `pad`: black borders are added. `squash`: all of the image is used, its aspect "
            "ratio changes."
        ),
    )
    skip_broken: bool = Field(
        default=False,
        description=(
            "Leave out images that cannot be decoded, and list them. `false`: the first one ends "
            "the command before anything is trained."
        ),
    )
    class_weights: Literal["none", "balanced"] = Field(
        default="none",
        description=(
            "`balanced`: all classes count alike in the training's loss, however many images they "
            "have."
        ),
    )
    train_limit: Annotated[int, Field(ge=2)] | None = Field(
        default=None, description="Train on this many images."
    )
    validation_limit: Annotated[int, Field(ge=2)] | None = Field(
        default=None, description="Measure on this many held-out images."
    )
    run: Run = Field(default=Run(), description="Where and how trials run.")

    def initial(self, family: str) -> str | None:
        """Where the weights come from that this family's trainings start with; None for random ones."""
        return self.init_from.get(family) if isinstance(self.init_from, dict) else self.init_from

    @property
    def image_sizes(self) -> tuple[int, ...]:
        """The sides of the images that the file names, ascending; of several, each network has its own."""
        if self.image_size is None:
            return ()
        return (self.image_size,) if isinstance(self.image_size, int) else self.image_size

    @property
    def metric(self) -> Metric:
        """What is maximised."""
        return METRICS[self.objectives[0]]

    @property
    def costs(self) -> tuple[Cost, ...]:
        """What is minimised."""
        return tuple(COSTS[name] for name in self.objectives[1:])

    @property
    def cost(self) -> Cost:
        """What pictures show accuracy against."""
        return self.costs[0] if self.costs else MACS


def _macs(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"{clipped(repr(value))} is not a number; write it like 500k, 20M or 1.5G")
    return float(macs_number(value))


def _ms(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"{clipped(repr(value))} is not a number of milliseconds; write it like 5")
    return milliseconds(value)


def _sides(value: object) -> object:
    """A side, or several in ascending order; of a list with one entry, the entry."""
    sides: list[Any] = list(value) if isinstance(value, list | tuple) else [value]
    for side in sides:
        if isinstance(side, bool) or not isinstance(side, int):
            raise ValueError(f"{shown(side)}: input should be a valid integer, or a list of them")
        if not 4 <= side <= 4096:
            raise ValueError(f"{side} is not between 4 and 4096")
    if not sides:
        raise ValueError("an empty list; give a side in pixels, or several")
    if len(set(sides)) < len(sides):
        raise ValueError(f"{next(s for s in sides if sides.count(s) > 1)} stands there twice")
    return sides[0] if len(sides) == 1 else tuple(sorted(sides))


def _weights(value: object) -> object:
    sources = value.values() if isinstance(value, dict) else [value]
    if not all(isinstance(source, str) and source for source in sources):
        raise ValueError(
            f"{shown(value)} is neither a file, nor torchvision:NAME, nor one of these by family"
        )
    return value
