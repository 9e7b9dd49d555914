"""A file of the user's that hides one of our packages is named."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dynafront.own_names import NAMES

ROOT = Path(__file__).parents[2]


def imported(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Python, started in the folder, whose modules come first there."""
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("file", ["{}.py", "{}/__init__.py"])
def test_a_file_with_the_name_of_a_package_is_named(name: str, file: str, tmp_path: Path) -> None:
    own = tmp_path / file.format(name)
    own.parent.mkdir(exist_ok=True)
    own.write_text("x = 1\n")
    done = imported(tmp_path, "-c", "import dynafront")
    shown = own if file == "{}.py" else own.parent
    assert done.stderr.splitlines()[-1] == (
        f"ImportError: {shown} hides dynafront's own package '{name}': rename it, or run from another folder"
    )


def test_one_that_is_imported_already_needs_a_new_start(tmp_path: Path) -> None:
    (tmp_path / "storage.py").write_text("x = 1\n")
    done = imported(tmp_path, "-c", "import storage, dynafront")
    assert done.stderr.rstrip().endswith("run from another folder, and start Python again")


def test_a_package_of_somebody_else_is_to_be_uninstalled(tmp_path: Path) -> None:
    other = tmp_path / "site-packages" / "spaces" / "__init__.py"
    other.parent.mkdir(parents=True)
    other.write_text("")
    program = f"import sys; sys.path.insert(0, {str(other.parents[1])!r}); import dynafront"
    done = imported(tmp_path, "-c", program)
    assert f"{other.parent} hides dynafront's own package 'spaces': uninstall" in done.stderr


def test_a_folder_of_data_with_such_a_name_hides_nothing(tmp_path: Path) -> None:
    (tmp_path / "storage").mkdir()
    done = imported(tmp_path, "-c", "import dynafront")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_command_line_says_it_last(tmp_path: Path) -> None:
    (tmp_path / "search.py").write_text("x = 1\n")
    done = imported(tmp_path, "-m", "dynafront", "--help")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"ImportError: {tmp_path / 'search.py'} hides")


def test_the_command_line_is_a_module_too(tmp_path: Path) -> None:
    done = imported(tmp_path, "-m", "dynafront", "--help")
    assert done.stdout.startswith("Usage: dynafront [OPTIONS] COMMAND")
