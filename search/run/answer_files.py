"""What trainings answer to the validation images, in files beside their checkpoints."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

from safetensors import SafetensorError, safe_open

from search.measure.member_answers import MemberAnswers
from storage.weights_file import save_weights

logger = logging.getLogger(f"dynafront.{__name__}")


def save_answers(path: Path, answers: MemberAnswers | None) -> None:
    """Write the file anew; with None, one of an earlier training goes away."""
    if answers is None:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    tensors = {"logits": answers.logits, "macs": answers.macs, "labels": answers.labels}
    save_weights(tensors, unfinished, {"knobs": json.dumps(answers.knobs)})
    os.replace(unfinished, path)


def read_answers(path: Path) -> MemberAnswers | None:
    """What a training answers; None where that was not kept, or cannot be read."""
    try:
        with safe_open(path, framework="pt") as file:
            knobs = json.loads(file.metadata()["knobs"])
            logits, macs, labels = map(file.get_tensor, ("logits", "macs", "labels"))
    except FileNotFoundError:
        return None
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        logger.warning("%s cannot be read: %s", path, error)
        return None
    return MemberAnswers(tuple(knobs), logits, macs, labels)
