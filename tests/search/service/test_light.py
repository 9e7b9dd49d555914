"""What the server's process loads to read, check and start: nothing that trains. Jobs load that for themselves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from search.service.access import API
from tests.search.service.test_actions import TEXT
from tests.search.test_startup import HEAVY

PROGRAM = """
import sys
from flask import Flask
from search.service.jobs import JobQueue
from search.service.routes import blueprint
from storage.settings import Settings
from storage.store import Store

folder, api, text = sys.argv[1:]
JobQueue._start = lambda self, job: None
settings = Settings.model_validate({"storage": {"folder": folder}})
app = Flask("server")
app.register_blueprint(blueprint(Store.open(settings.database_url), settings))
client = app.test_client()
for path in ("studies", "choices", "jobs"):
    assert client.get(f"{api}/{path}").status_code == 200
for path in ("check", "estimate", "launch"):
    answer = client.post(f"{api}/{path}", json={"text": text})
    assert answer.status_code in (200, 202), answer.text
print(*sys.modules)
"""


@pytest.mark.slow
def test_the_server_loads_nothing_that_trains(tmp_path: Path) -> None:
    program = [sys.executable, "-c", PROGRAM, str(tmp_path), API, TEXT]
    loaded = set(subprocess.run(program, capture_output=True, text=True, check=True).stdout.split())
    assert set(HEAVY) & loaded == set()
