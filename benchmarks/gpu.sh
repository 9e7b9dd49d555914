#!/usr/bin/env bash
# All that is worth knowing of one GPU, in about ten minutes. Needs torch, torchvision, timm, numpy and pyarrow only.
set -euo pipefail
cd "$(dirname "$0")/.."
python benchmarks/gpu.py
python benchmarks/gpu.py --batch 1024 --side 64 --steps 10 --family gated_resnet --family multi_exit --family timm
python benchmarks/trainer.py --device cuda --images 25600
# memory of trainings that share the GPU; needs dynafront itself, with all it depends on
if python -c 'import dynafront, sklearn' 2>/dev/null; then
    python benchmarks/gpu_room.py
    python benchmarks/gpu_room.py --mps
fi
