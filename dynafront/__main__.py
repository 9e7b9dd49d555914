"""The command line, also as `python -m dynafront`. What hides our packages is said before they are imported."""

from __future__ import annotations

from search.cli import main

if __name__ == "__main__":
    main(prog_name="dynafront")
