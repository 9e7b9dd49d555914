"""The keys of a study file: type, bounds, default and description of each, for checks, docs and schema."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from search.key_types import Fraction, Sides, Weights
from search.objectives import COSTS, MACS, Cost
from search.study_parts import Budget, Keys, Limits, Measure, Region, Run
from trainers.metrics import METRICS, Metric

# rows of search.schedule.samplers.SAMPLERS
SamplerName = Literal["growth", "tpe", "nsgaii", "gp", "random", "grid"]


class StudySpec(Keys):
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
    sampler: SamplerName = Field(
        default="growth",
        description=(
            "What chooses the next candidate. `grid`: all combinations of the values listed in `space`; what "
            "it does not name has its default."
        ),
    )
    trials: Annotated[tuple[dict[str, Any], ...], Field(strict=False)] = Field(
        default=(),
        description=(
            "Exact settings in place of a search: each trial's values of dimensions, and its `family` where there are "
            "several. Others are as in `space`, else their defaults."
        ),
    )
    repeats: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=1,
        description=(
            "How often each setting of `trials` or of `sampler: grid` is trained, each time with another seed."
        ),
    )
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
    cascades: bool = Field(
        default=True,
        description=(
            "At the end of a search, join trained networks: one that is unsure of an image hands "
            "it on to a larger one. Needs no training."
        ),
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
    measure: Measure = Field(
        default=Measure(), description="How trained networks are measured on the held-out images."
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
        description="Weights to start from: a file, `torchvision:NAME` or `timm:NAME`, or one of these by family.",
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
    crop_pct: Annotated[float, Field(gt=0, le=1)] = Field(
        default=1.0,
        description=(
            "Share of both sides of the image that is used, its centre, before it is resized: in "
            "validation, test and the exported model. Training takes its parts of all of the image, "
            "at the same scale. Published networks are trained and tested so: timm calls it "
            "`crop_pct`, often 0.875."
        ),
    )
    interpolation: Literal["bilinear", "bicubic"] = Field(
        default="bilinear",
        description="How images are resized. timm names what its networks were trained with.",
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

    def warm(self, family: str) -> bool:
        """Whether trials of this family start from baselines that the study trains, as long as that pays.

        With weights of its own (`init_from`) they do where `budget.warm_epochs` is given: the file's network is then
        trained first.
        """
        given = self.initial(family) is not None
        return self.warm_start and (not given or self.budget.warm_epochs is not None)

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
