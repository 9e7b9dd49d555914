"""The command line of benchmarks/claims.py."""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from rich.console import Console

from benchmarks.claims.every import chosen
from benchmarks.claims.lab import Lab, data_name
from benchmarks.claims.report import markdown, printed, rows
from benchmarks.claims.scales import SCALES, scale_on
from trainers.execution import best_device


def main(doc: str | None = None) -> None:
    parser = _parser(doc)
    args = parser.parse_args()
    try:
        claims = chosen(args.only)
        scale = scale_on(
            args.scale, args.data, args.seeds, args.copies, args.draws, args.most_seeds
        )
    except ValueError as error:
        parser.error(str(error))
    torch.set_float32_matmul_precision("high")  # of GPUs that have it
    started, ended = time.perf_counter(), "finished"
    with tempfile.TemporaryDirectory() as temporary, _progress() as say:
        lab = Lab(scale, Path(args.out or temporary), say)
        try:
            images = len(lab.data.validation)
        except ValueError as error:
            parser.error(str(error))
        try:
            lab.run(claims)
        except KeyboardInterrupt:
            ended = "interrupted"
        found = rows(lab, claims)
    seconds = time.perf_counter() - started
    about = f"{scale.name} scale, {data_name(scale.data)}, {images} validation images, {machine()}"
    about += f"; {ended} after {seconds:.0f} s"
    if args.json:
        print(
            json.dumps(
                {"about": about, "seconds": seconds, "claims": [row.as_dict() for row in found]},
                indent=2,
            )
        )
    elif args.markdown:
        print(markdown(found, about))
    else:
        printed(found, about)


def machine() -> str:
    what = (
        torch.cuda.get_device_name()
        if best_device() == "cuda"
        else f"CPU, {torch.get_num_threads()} threads"
    )
    return f"{what}, torch {torch.__version__}, Python {platform.python_version()}"


def _parser(doc: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", metavar="NAME", help="a paper or a claim")
    parser.add_argument("--scale", choices=list(SCALES), default="smoke")
    parser.add_argument(
        "--data",
        metavar="SOURCE",
        help="digits, parquet:PATH or another source; else the scale's own",
    )
    parser.add_argument(
        "--seeds",
        type=int,
        metavar="N",
        help="of every claim; else the scale's own and, but for smoke, as many more as decide the claim",
    )
    parser.add_argument("--most-seeds", type=int, metavar="N", help="of a claim; else 20")
    parser.add_argument(
        "--copies", type=int, metavar="N", help="transformers to merge; the paper's: 12"
    )
    parser.add_argument(
        "--draws", type=int, metavar="N", help="orders and merged models; the paper's: 100"
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--markdown", action="store_true", help="the table of docs/papers.md")
    parser.add_argument(
        "--out",
        metavar="FOLDER",
        help="keeps finished runs, so that a later call goes on from them",
    )
    return parser


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """A line that changes on a terminal, lines one below the other elsewhere; on stderr, beside the table."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield (
            lambda text: None if text.endswith("...") else print(text, file=sys.stderr, flush=True)
        )
        return
    with console.status("reading the images") as status:

        def say(text: str) -> None:
            if text.endswith("..."):
                status.update(text.replace("[", r"\["))
            else:
                console.print(text, markup=False, highlight=False)

        yield say
