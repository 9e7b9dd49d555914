"""Who holds the right to drive a study: a process, by its number and where that number counts.

Containers may share the name of their machine and have numbers of their own, and machines may be named alike. So beside
the name stands which kernel runs, and in which namespace of processes.
"""

from __future__ import annotations

import os
import socket
import uuid
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from storage.fence import ASKED_TO_STOP

BOOT, NAMESPACE = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
KEY_LENGTH = 8  # hexadecimal digits of what tells apart owners, and kernels
HELD: set[str] = set()  # keys of the owners that this process is


@dataclass(frozen=True)
class Owner:
    """`key` tells it from every other; `where` is empty where a system does not say it, or an earlier version wrote."""

    host: str
    pid: str
    key: str
    where: str = ""

    @classmethod
    def here(cls) -> Owner:
        """A new one: this process."""
        return cls(socket.gethostname(), str(os.getpid()), uuid.uuid4().hex[:KEY_LENGTH], where())

    @classmethod
    def read(cls, text: str) -> Owner:
        """What the tables say of it; they may also say that it is asked to stop."""
        parts = [*text.removesuffix(ASKED_TO_STOP).split(":"), "", "", ""]
        return cls(parts[0] or "?", parts[1] or "?", *parts[2:4])

    def __str__(self) -> str:
        return ":".join((self.host, self.pid, self.key, self.where))

    @property
    def shares_name(self) -> bool:
        """Whether it was on this machine, or on one that is named alike."""
        return self.host == socket.gethostname()

    @property
    def is_here(self) -> bool:
        """Whether its number is that of a process which this one can see, if it lives."""
        return self.shares_name and self.where in ("", where()) and self.pid.isdecimal()

    @property
    def is_dead(self) -> bool:
        """Whether it was a process here that is gone."""
        if not self.is_here:
            return False
        if int(self.pid) == os.getpid():  # in a container that was started again numbers come again
            return self.key not in HELD
        try:
            os.kill(int(self.pid), 0)
        except ProcessLookupError:
            return True
        except PermissionError:  # it is another user's
            pass
        return False


@lru_cache(maxsize=1)
def where() -> str:
    """The kernel that runs, and this process's namespace of processes; empty where a system does not say it."""
    try:
        namespace = NAMESPACE.readlink().name.partition("[")[2].rstrip("]")
        return f"{BOOT.read_text()[:KEY_LENGTH]}-{namespace}"
    except OSError:
        return ""
