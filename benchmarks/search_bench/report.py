"""A comparison as Markdown and as a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt

COLOURS = {"dynafront": "#c2410c", "optuna tpe (its default)": "#1d4ed8"}


def markdown(result: dict[str, Any]) -> str:
    """One row a method: share of the budget to Optuna's final hypervolume, and hypervolume along the way."""
    low, high = result["interval"]
    lines = [
        f"Share of the budget ({result['budget_epochs']} epochs) to reach the hypervolume {result['target_hypervolume']:.4f} "
        f"that Optuna's default ends with: {_number(result['epochs_ratio_to_optuna_default'])} "
        f"[{_number(low)}, {_number(high)}]",
        "",
        "| method | share of epochs (quartiles) | at 10 % | at 25 % | at 50 % | at 100 % | seeds |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in result["methods"].items():
        quartiles = " - ".join(_number(x) for x in row["epochs_ratio_quartiles"])
        volumes = " | ".join(f"{x:.4f}" for x in row["hypervolume"].values())
        lines.append(f"| {name} | {_number(row['epochs_ratio'])} ({quartiles}) | {volumes} | {row['seeds']} |")
    return "\n".join(lines)


def write(folder: Path, found: dict[str, np.ndarray], result: dict[str, Any]) -> None:
    """curves.json, table.md, curves.png."""
    folder.mkdir(parents=True, exist_ok=True)
    curves = {name: curve.round(5).tolist() for name, curve in found.items()}
    (folder / "curves.json").write_text(json.dumps({"result": result, "curves": curves}))
    (folder / "table.md").write_text(markdown(result) + "\n")
    picture(folder / "curves.png", found, result)


def picture(path: Path, found: dict[str, np.ndarray], result: dict[str, Any]) -> None:
    """Median hypervolume over the share of the budget, with the middle half of the seeds."""
    figure, axes = plt.subplots(figsize=(9, 5.2), dpi=150, layout="constrained")
    grays = plt.get_cmap("Set2")
    for i, (name, curves) in enumerate(found.items()):
        colour = COLOURS.get(name, grays(i % 8))
        share = np.arange(1, curves.shape[1] + 1) / curves.shape[1]
        low, middle, high = np.quantile(1 - curves, [0.25, 0.5, 0.75], axis=0)
        strong = name in COLOURS
        axes.plot(share, middle, color=colour, lw=2.4 if strong else 1.2, label=name, zorder=3 if strong else 2)
        if strong:
            axes.fill_between(share, low, high, color=colour, alpha=0.15, lw=0)
    axes.axhline(1 - result["target_hypervolume"], color="#64748b", ls=":", lw=1)
    axes.set_yscale("log")
    axes.set_xlabel("epochs trained, share of the budget")
    axes.set_ylabel("hypervolume still missing (lower is better)")
    share = result["epochs_ratio_to_optuna_default"]
    axes.set_title(
        f"dynafront needs {share:.0%} of the epochs for the front that Optuna's default ends with"
        if share
        else "dynafront does not reach the front that Optuna's default ends with",
        loc="left",
        fontsize=11,
        fontweight="bold",
    )
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, frameon=False)
    figure.savefig(path)
    plt.close(figure)


def _number(value: float | None) -> str:
    return "not reached" if value is None else f"{value:.2f}"
