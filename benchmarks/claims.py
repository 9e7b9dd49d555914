"""What the five papers behind the families claim, tried and reported as it comes out: holds, fails, or undecided.

Directions only: a claim is a difference between two numbers, judged by its 95 % interval over seeds. Nothing is tuned
until it holds; at the smaller scales most claims stay undecided. With so many claims at 95 %, a verdict or two is a
matter of chance.

    python benchmarks/claims.py                                   # digits, two minutes on one CPU thread
    python benchmarks/claims.py --scale cpu --data parquet:PATH --out FOLDER --seeds 3      # CIFAR-10, over an hour
    timeout -s INT 590 python benchmarks/claims.py --scale gpu --data parquet:PATH --out FOLDER   # again until done

Every finished run is a line in FOLDER/runs.jsonl; a later call skips what is there. Needs torch, torchvision, timm,
numpy, pyarrow, scipy, safetensors and rich only (and scikit-learn for the data set digits).
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.claims.command import main

if __name__ == "__main__":
    main(__doc__)
