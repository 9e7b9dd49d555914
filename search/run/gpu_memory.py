"""Memory of this machine's GPUs, asked in a process beside the driver: one that has used a GPU keeps some of it."""

from __future__ import annotations

import logging
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from search.run.worker_process import process_beside, workers_context
from trainers.data.processes import end_with_parent

logger = logging.getLogger(f"dynafront.{__name__}")

PATIENCE = 60.0  # seconds for an answer, the start of the process included
USUAL = 600_000_000  # bytes of a process beside its tensors, where that cannot be measured


class GpuMemory:
    """Called, it tells the free and total bytes of each GPU that workers use; the first call starts its process."""

    def __init__(self) -> None:
        self._process: Any = None
        self._pipe: Connection | None = None
        self._overhead: int | None = None
        self._known: list[tuple[int, int]] = []

    def __call__(self) -> list[tuple[int, int]]:
        """What was known last, where that process is gone; nothing, where it has never answered."""
        self._known = self._asked("free") or self._known
        return self._known

    def overhead(self) -> int:
        """Bytes that a process takes of a GPU beside its tensors: its context, and the kernels that it has loaded.

        Measured once, by what such a process takes; ask before anything trains.
        """
        if self._overhead is None:
            self._overhead = self._asked("overhead") or USUAL
        return self._overhead

    def close(self) -> None:
        if self._pipe is not None:
            self._pipe.close()
        if self._process is not None:
            self._process.join(PATIENCE)
            if self._process.is_alive():
                self._process.kill()
        self._process = self._pipe = None

    def _asked(self, what: str) -> Any:
        if self._pipe is None:
            self._process, self._pipe = process_beside(_serve)
        try:
            self._pipe.send(what)
            if self._pipe.poll(PATIENCE):
                return self._pipe.recv()
        except (EOFError, OSError) as error:
            logger.warning("the process that looks at the GPUs is gone: %r", error)
        self.close()
        return None


def _serve(pipe: Connection) -> None:
    import torch

    while True:
        try:
            what = pipe.recv()
        except EOFError:
            return
        # it begins with a context on each
        free = [torch.cuda.mem_get_info(gpu) for gpu in range(torch.cuda.device_count())]
        pipe.send(_overhead() if what == "overhead" else free)


def _overhead() -> int:
    """What is gone of the first GPU while another process is there, but for its tensors; 0 where that fails."""
    import torch

    before, _ = torch.cuda.mem_get_info(0)
    context = workers_context()
    here, there = context.Pipe()
    process = context.Process(target=_use_gpu, args=(there,))  # type: ignore[attr-defined]
    process.start()
    there.close()
    found = 0
    with suppress(EOFError, OSError):
        if here.poll(PATIENCE):
            tensors = int(here.recv())
            found = max(0, before - torch.cuda.mem_get_info(0)[0] - tensors)
    here.close()
    process.join(PATIENCE)
    if process.is_alive():
        process.kill()
    return found


def _use_gpu(pipe: Connection) -> None:
    """Do a little of what training does, say how many bytes that holds, and keep all until the pipe is closed."""
    import torch

    end_with_parent()
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3), torch.nn.BatchNorm2d(16), torch.nn.ReLU())
    net = net.cuda(0)
    net(torch.randn(8, 3, 32, 32, device="cuda:0")).flatten(1).mm(
        torch.randn(16 * 30 * 30, 10, device="cuda:0")
    ).sum().backward()
    torch.cuda.synchronize(0)
    pipe.send(torch.cuda.memory_reserved(0))
    with suppress(EOFError, OSError):
        pipe.recv()
