"""What a trained network does with the images of validation: the measures of all pictures, put together.

They are numbers and short texts, so that they can be kept beside a trial's result and drawn anywhere.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError

from search.inspection import pictures
from search.inspection.forward_pass import Effort, forward_pass
from search.inspection.picture import Headline, Part, Picture
from search.inspection.subject import Subject
from search.report.amounts import macs, percent
from spaces.contract.knobs import Knobs, Rates
from spaces.contract.net import DynamicNet
from trainers.data.splits import ImageData, Split
from trainers.execution import Execution

logger = logging.getLogger(f"dynafront.{__name__}")


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """All measures of one network under one setting."""

    images: int
    accuracy: float
    macs_mean: float
    plain_macs: int
    # by name of the picture; only of those that apply
    parts: dict[str, Any] = field(default_factory=dict)

    def part(self, picture: Picture[Part]) -> Part | None:
        """What was measured for the picture; None where it does not apply."""
        return self.parts.get(picture.name)

    def pictures(self) -> Iterator[tuple[Picture[Any], Any, Headline]]:
        """The pictures that apply to the network, each with its part and its headline, in their order."""
        for picture in pictures.PICTURES:
            part = self.part(picture)
            if part is not None:
                yield picture, part, picture.headline(part, self.images)

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON; None for a part that does not apply."""
        values = asdict(replace(self, parts={}))
        del values["parts"]
        for picture in pictures.PICTURES:
            part = self.part(picture)
            *above, key = picture.key.split(".")
            around = _inside(values, above)
            if around is not None:
                around[key] = None if part is None else asdict(part)
        return values


def inspection_of(values: Any) -> Inspection | None:
    """The measures kept as JSON with a trial; None where there are none, or an older version's."""
    try:
        whole = TypeAdapter(Inspection).validate_python(values)
        parts = {}
        for picture in pictures.PICTURES:
            part = _inside(values, picture.key.split("."))
            if part is not None:
                parts[picture.name] = TypeAdapter(picture.part).validate_python(part)
    except ValidationError as error:
        logger.debug("no measures that this version reads: %s", error)
        return None
    return replace(whole, parts=parts)


@torch.inference_mode()
def inspect_network(
    net: DynamicNet,
    data: ImageData,
    knobs: Knobs,
    *,
    rates: Rates | None = None,
    execution: Execution | None = None,
    seed: int = 0,
    effort: Effort | None = None,
    features: Split | None = None,
) -> Inspection:
    """Measure a trained network (put in eval mode) under the knobs on images of validation, in random order.

    `features` are rows of features that stand for these images, where they were kept.
    """
    execution, effort = execution or Execution(), effort or Effort()
    net.eval()
    seen = forward_pass(
        net,
        data,
        knobs,
        rates=rates,
        execution=execution,
        seed=seed,
        effort=effort,
        features=features,
    )
    subject = Subject(net=net, data=data, seen=seen, execution=execution, effort=effort, seed=seed)
    parts = {picture.name: picture.measure(subject) for picture in pictures.PICTURES}
    return Inspection(
        images=len(seen.label_N),
        accuracy=float(seen.correct_N.double().mean()),
        macs_mean=float(seen.macs_N.mean()),
        plain_macs=net.plain_macs,
        parts={name: part for name, part in parts.items() if part is not None},
    )


def subtitle(inspection: Inspection) -> str:
    """What all pictures are of."""
    share = inspection.macs_mean / inspection.plain_macs
    return (
        f"{inspection.images:,} validation images, {percent(inspection.accuracy)} right at "
        f"{macs(inspection.macs_mean)} on average, {percent(share, 0)} of the baseline's "
        f"{macs(inspection.plain_macs)}"
    )


def _inside(values: Any, keys: list[str]) -> Any:
    """What lies under the keys, one within the other; None where there is nothing."""
    for key in keys:
        values = values.get(key) if isinstance(values, dict) else None
    return values
