"""What is said of an exported model's program of torch.export: on the card, and by the command."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from search.export.folder import PT2
from search.export.latency_text import average_ms


def program_lines(report: dict[str, Any]) -> Iterator[str]:
    """What the command says of it; nothing where there is none."""
    found = report.get("pt2")
    if found is not None:
        yield f"  {PT2:<9} {_parity(found)}"
        for size, (own, ratio) in _latency(found).items():
            yield f"            {own:.3g} ms at batch {size} in PyTorch, {ratio:.2g} times ONNX Runtime's"


def program_text(description: dict[str, Any]) -> str:
    """A section of the card in Markdown; empty where there is no program."""
    found = description["report"].get("pt2")
    if found is None:
        return ""
    times = " ".join(
        f"At batch {size} it took {own:.3g} ms, {ratio:.2g} times ONNX Runtime's."
        for size, (own, ratio) in _latency(found).items()
    )
    return f"""
## Run it with PyTorch alone

`{PT2}` is a program of `torch.export`. What an image does not need is not computed, by `torch.cond`. This needs torch
{found["torch"]} or newer, and nothing of dynafront:

```python
{_snippet(description).strip()}
```

On all {_parity(found)}.
{times}
"""


def _snippet(description: dict[str, Any]) -> str:
    task = description["task"]
    shape = f"1, {task['channels']}, {task['height']}, {task['width']}"
    given = ", thresholds" if description["thresholds"] else ""
    thresholds = """thresholds = torch.tensor(list(description["thresholds"].values()), dtype=torch.float64)
"""
    return f"""import json
from pathlib import Path

import torch

description = json.loads(Path("model.json").read_text(encoding="utf-8"))
program = torch.export.load("{PT2}").module()
{thresholds if given else ""}pixels = torch.zeros({shape})  # yours: float32 in [0, 1]
with torch.inference_mode():
    logits, macs = program(pixels{given})
print(description["classes"][int(logits[0].argmax())], float(macs[0]))"""


def _parity(found: dict[str, Any]) -> str:
    text = (
        f"{found['images']} test images logits are within {found['largest_logit_difference']:.1e} "
        "of the model's"
    )
    if not found["decided_by_rounding"]:
        return text
    return (
        f"{text}; {found['decided_by_rounding']} lie so near a threshold that they go another way"
    )


def _latency(found: dict[str, Any]) -> dict[int, tuple[float, float]]:
    """(milliseconds, share of ONNX Runtime's) by batch size."""
    return {
        int(key.removeprefix("batch_")): (average_ms(both["variant"]), both["ratio"])
        for key, both in found["latency_ms"].items()
    }
