"""The processes of one training, joined over a port of this machine: torch's default process group."""

from __future__ import annotations

import torch
import torch.distributed as dist

from trainers.data.part import Part

HOST = "127.0.0.1"
CUDA = "cuda"


def opened(count: int) -> dist.TCPStore:
    """Where so many processes meet, at a free port."""
    return dist.TCPStore(HOST, 0, count, is_master=True, wait_for_workers=False)


def met(port: int, count: int) -> dist.TCPStore:
    """The meeting place that another process has opened."""
    return dist.TCPStore(HOST, port, count, is_master=False)


def join(store: dist.TCPStore, part: Part, device: str) -> None:
    """Wait until all processes are there; on GPUs, each has the GPU of its number."""
    if device.startswith(CUDA):
        torch.cuda.set_device(part.number)
    backend = "nccl" if device.startswith(CUDA) else "gloo"
    dist.init_process_group(backend, store=store, rank=part.number, world_size=part.count)


def leave() -> None:
    """Be no part of it any more."""
    if dist.is_initialized():
        dist.destroy_process_group()
