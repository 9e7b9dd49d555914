"""A file system of a few megabytes for processes of the tests, which can be full or read-only for anybody."""

from __future__ import annotations

import subprocess
from pathlib import Path

OWN = ("unshare", "-rm")  # a mount namespace, in which whoever runs the tests may mount
MOUNTED = 'mount -t tmpfs -o size="$1" tmpfs "$2" && shift 2 && exec "$@"'


def may_mount(folder: Path) -> bool:
    """Whether the kernel lets us."""
    try:
        return subprocess.run([*within(folder, "1m"), "true"], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def within(folder: Path, size: str) -> list[str]:
    """What stands before a command for which another disk, of this size, is mounted at the folder."""
    return [*OWN, "sh", "-c", MOUNTED, "sh", size, str(folder)]


class SmallDisk:
    """The disk that a process of this number has at that folder, as others see it."""

    def __init__(self, pid: int, folder: Path) -> None:
        self._pid, self.folder = pid, folder
        self.path = Path(f"/proc/{pid}/root{folder}")
        self._ballast = self.path / "ballast"

    def leave(self, free: int) -> None:
        """Fill it, but for so many bytes."""
        self.empty()
        with self._ballast.open("wb") as file:
            left = self._free() - free
            assert left > 0
            file.write(b"x" * left)

    def empty(self) -> None:
        self._ballast.unlink(missing_ok=True)

    def _free(self) -> int:
        found = subprocess.run(
            ["stat", "-f", "-c", "%a %S", self.path], capture_output=True, text=True, check=True
        )
        blocks, size = map(int, found.stdout.split())
        return blocks * size

    def let(self, mode: str) -> None:
        """Mount it again: `ro`, or `rw`."""
        entered = ["nsenter", "--user", "--preserve-credentials", "--mount", "-t", str(self._pid)]
        subprocess.run([*entered, "mount", "-o", f"remount,{mode}", str(self.folder)], check=True)
