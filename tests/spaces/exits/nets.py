"""Networks with exits to test."""

from __future__ import annotations

from spaces.contract.task import Task

TASK = Task(channels=3, height=16, width=16, classes=5)
K = 3  # early exits of the network of `net`
