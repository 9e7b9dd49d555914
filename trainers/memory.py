"""No memory left, on a GPU or on the machine: how an error says so, and how much of a GPU this process may take."""

from __future__ import annotations

import gc

import torch

SIGNS = (
    "out of memory",  # CUDA's own calls
    "can't allocate memory",  # torch's allocator on a CPU
    "not enough memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether less in memory at once may help."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in SIGNS)


def cap_gpu_memory(most: int, device: str) -> None:
    """Let torch take so many bytes of the device's memory in this process; beyond that it raises OutOfMemoryError."""
    index = torch.device(device).index  # "cuda" has none, and without one torch sets nothing
    if index is None:
        index = torch.cuda.current_device()
    total = torch.cuda.get_device_properties(index).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, most / total), index)


def leave_gpu() -> None:
    """Give back what this process has of a GPU for tensors that are no more: others train there."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
