"""The way to MLflow: limits, filters, errors."""

import socket
import subprocess
import sys

import pytest

from storage.errors import StorageError
from storage.mlflow_client import batches, client, fitting, having
from storage.settings import Settings

# MLflow 3.17 uses what SQLAlchemy 2.1 deprecates
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")


def test_batches_keep_to_the_limits_and_lose_nothing():
    params, metrics = list(range(250)), list(range(2000))
    parts = list(batches(params, metrics))
    assert all(len(p) <= 100 and len(m) <= 1000 and len(p) + len(m) <= 1000 for p, m in parts)
    assert [x for p, _ in parts for x in p] == params
    assert [x for _, m in parts for x in m] == metrics
    assert list(batches([], [])) == []


def test_a_filter_names_every_tag_and_survives_an_apostrophe():
    assert having({"automl.kind": "study", "automl.study": "ann's"}) == (
        "tags.`automl.kind` = 'study' and tags.`automl.study` = \"ann's\""
    )


def test_a_long_note_is_cut_at_a_line_and_says_so():
    assert fitting("| a | b |") == "| a | b |"
    cut = fitting("".join(f"| row {i:05d} |\n" for i in range(1000)))
    assert len(cut) < 8000
    rows, _, end = cut.rpartition("\n\n")
    assert rows.endswith("|")
    assert "shortened" in end


def test_the_module_costs_no_import_of_mlflow():
    code = (
        "import sys, storage.mlflow_log, storage.mlflow_server; sys.exit('mlflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_a_server_that_is_away_is_told_in_one_line():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        url = f"http://me:secret@127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(
            StorageError, match=r"^MLflow at http://me:\*\*\*@[^ ]+: no answer; start the server"
        ) as told:
            client(Settings(tracking_uri=url))
    assert "secret" not in str(told.value)


@pytest.mark.slow
def test_a_file_that_is_no_database_is_told_in_one_line(tmp_path):
    (tmp_path / "mlflow.db").write_text(
        "this is not a database at all, only a text that is long enough" * 50
    )
    with pytest.raises(
        StorageError, match=r"MLflow at sqlite:///.*mlflow.db: .*not a database"
    ) as told:
        client(Settings(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db"))
    assert "\n" not in str(told.value)
