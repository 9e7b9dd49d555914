"""An exported model that classifies images."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from dynafront.opening import settings_of

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

    from search.export.classifier import Classifier
    from storage.settings import Settings


class Prediction(NamedTuple):
    """What a model says of an image: the class, its probability, and the MACs that this image took."""

    label: str
    probability: float
    macs: float


@dataclass(frozen=True)
class Model:
    """An exported model: call it with an image. `description` is what its model.json says."""

    folder: str
    description: dict[str, Any] = field(repr=False)
    classifier: Classifier = field(repr=False)

    @property
    def classes(self) -> list[str]:
        return list(self.description["classes"])

    @property
    def points(self) -> list[dict[str, Any]]:
        """The operating points that the file carries, the cheapest first, as its model.json lists them."""
        return list(self.description.get("points", []))

    def __call__(
        self,
        image: Image | np.ndarray | Path | str,
        *,
        budget: float | str | None = None,
        point: int | None = None,
    ) -> Prediction:
        """The class of an image: a PIL image, pixels (H, W) or (H, W, 3) as uint8, or a file.

        `budget` (8e6 or "8M") is how many MACs an image may take on average: the most accurate point within it
        answers. `point` is the number of one. Without either it is the point that was chosen.
        Raises ValueError for what is no image, and where no point keeps the budget.
        """
        from dynafront.encoding import encoded
        from search.export.points import thresholds_for
        from search.objectives import macs_number

        limit = None if budget is None else macs_number(budget)
        thresholds = thresholds_for(self.description, point=point, max_macs=limit)
        stored = Path(image).expanduser() if isinstance(image, Path | str) else encoded(image)
        return Prediction(*self.classifier.predict(stored, thresholds))


def load(
    folder: Path | str,
    *,
    variant: str | None = None,
    settings: Settings | Path | str | None = None,
) -> Model:
    """The model in a folder that was exported, or the registered one that "models:/NAME@ALIAS" names.

    `variant` is the number format of its file, "int8", "float16" or "bfloat16", where it was exported with it; None:
    float32. It runs in onnxruntime; families without an ONNX file are run in torch. Raises ValueError and StorageError.
    """
    from search.commands.predict import REGISTERED, classifier

    given = str(folder)
    place = Path(given) if given.startswith(REGISTERED) else Path(given).expanduser()
    with classifier(place, settings_of(settings), variant) as own:
        return Model(given, own.description, own)
