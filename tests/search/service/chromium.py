"""Where Chromium is; None where this machine has none."""

import shutil

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
