"""How much memory is free: on the machine, and in the container that the process runs in."""

from __future__ import annotations

from pathlib import Path

import psutil

CGROUPS = (  # of version 2 and of version 1: limit, use, and what of the use can be given back
    ("memory.max", "memory.current", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
)


def free_memory(groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that may still be used without anything being swapped out or killed."""
    free = int(psutil.virtual_memory().available)
    for limit, use, kept in CGROUPS:
        try:
            most = int((groups / limit).read_text())  # without a limit it says "max"
            used = int((groups / use).read_text())
            stat = (groups / limit).with_name("memory.stat").read_text().split()
        except (OSError, ValueError):
            continue
        files = int(stat[stat.index(kept) + 1]) if kept in stat else 0
        free = min(free, max(0, most - used + files))
    return free
