"""The process that looks at GPUs beside the driver: real, with made-up answers."""

from __future__ import annotations

import os
from multiprocessing.connection import Connection

import pytest

import search.run.gpu_memory as memory_module
from search.run.gpu_memory import GpuMemory


def answers(pipe: Connection) -> None:
    """In place of the process that looks at GPUs: answers twice, then it is gone."""
    for answer in ([(3, 4)], 5):
        pipe.recv()
        pipe.send(answer)
    pipe.recv()
    os._exit(1)


@pytest.mark.slow
def test_the_process_that_looks_at_gpus_answers_and_what_it_said_last_holds_when_it_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory_module, "_serve", answers)
    memory = GpuMemory()
    try:
        assert memory() == [(3, 4)]
        assert memory.overhead() == 5
        assert memory() == [(3, 4)]
        assert memory.overhead() == 5
    finally:
        memory.close()
