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
    unit = result["unit"]
    lines = [
        f"Share of the budget ({unit} of {result['trials']} trainings) to reach the hypervolume "
        f"{result['target_hypervolume']:.4f} that Optuna's default ends with:",
        f"{_number(result['epochs_ratio_to_optuna_default'])} [{_number(low)}, {_number(high)}]; over the logarithm of "
        f"cost {_number(result['log_cost']['epochs_ratio_to_optuna_default'])} "
        f"[{', '.join(_number(x) for x in result['log_cost']['interval'])}]",
        "",
        f"| method | share of {unit} (quartiles) | log cost | at 10 % | at 25 % | at 50 % | at 100 % | seeds |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in result["methods"].items():
        quartiles = " - ".join(_number(x) for x in row["epochs_ratio_quartiles"])
        volumes = " | ".join(f"{x:.4f}" for x in row["hypervolume"].values())
        ratios = f"{_number(row['epochs_ratio'])} ({quartiles}) | {_number(row['epochs_ratio_log_cost'])}"
        lines.append(f"| {name} | {ratios} | {volumes} | {row['seeds']} |")
    return "\n".join(lines)


def write(folder: Path, found: dict[str, np.ndarray], result: dict[str, Any]) -> None:
    """result.json, table.md, and pictures: curves.png beside other searches, parts.png without each part."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").write_text(json.dumps(result, indent=1))
    (folder / "table.md").write_text(markdown(result) + "\n")
    parts = {name: curves for name, curves in found.items() if name.startswith("dynafront: ")}
    picture(
        folder / "curves.png", {name: found[name] for name in found if name not in parts}, result
    )
    if parts:
        picture(folder / "parts.png", {name: found[name] for name in COLOURS} | parts, result)


def picture(path: Path, found: dict[str, np.ndarray], result: dict[str, Any]) -> None:
    """Median hypervolume over the share of the budget, with the middle half of the seeds of the two that matter."""
    figure, both = plt.subplots(1, 2, figsize=(13, 5.4), dpi=130, layout="constrained", sharex=True)
    others = plt.get_cmap("tab20")
    for side, (axes, measure) in enumerate(
        zip(both, ("cost", "the logarithm of cost"), strict=True)
    ):
        for i, (name, curves) in enumerate(found.items()):
            colour, strong = COLOURS.get(name, others(i % 20)), name in COLOURS
            share = np.arange(1, curves.shape[2] + 1) / curves.shape[2]
            low, middle, high = np.quantile(curves[:, side], [0.25, 0.5, 0.75], axis=0)
            axes.plot(
                share,
                middle,
                color=colour,
                lw=2.6 if strong else 1.2,
                label=name,
                zorder=3 if strong else 2,
            )
            if strong:
                axes.fill_between(share, low, high, color=colour, alpha=0.15, lw=0)
        target = (
            result["target_hypervolume"] if side == 0 else result["log_cost"]["target_hypervolume"]
        )
        needed = (result if side == 0 else result["log_cost"])["epochs_ratio_to_optuna_default"]
        axes.axhline(target, color="#1d4ed8", ls=":", lw=1)
        top = max(float(np.median(curves[:, side, -1])) for curves in found.values())
        axes.set_ylim(
            max(0, target - (0.05 if side == 0 else 0.45)), top + 0.1 * (top - target) + 0.004
        )
        axes.set_xlabel(f"{result['unit']} trained, share of the budget")
        axes.set_ylabel(f"hypervolume over {measure}")
        unit = result["unit"]
        said = f"{needed:.0%} of the {unit}" if needed else f"more than all {unit}"
        axes.set_title(
            f"{said} for Optuna's final front", loc="left", fontsize=11, fontweight="bold"
        )
        axes.grid(alpha=0.25)
    handles, labels = both[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    figure.savefig(path)
    plt.close(figure)


def _number(value: float | None) -> str:
    return "not reached" if value is None else f"{value:.2f}"
