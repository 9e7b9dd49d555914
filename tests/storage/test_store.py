"""The store as a whole: what all its tables share."""

import threading
import time

import pytest

from storage.errors import StorageError
from storage.store import Store
from tests.storage.trials import POINT, finish, start


def test_nothing_can_be_added_to_a_trial_or_study_that_does_not_exist(digits):
    with pytest.raises(StorageError, match=r"study 'digits' has no trial 9"):
        finish(digits, 9)
    with pytest.raises(StorageError, match=r"(?i)foreign key"):
        start(digits, 0, study="none")


def test_exports_are_kept_in_order(digits):
    first = digits.add_export(
        "digits", pick="knee", folder="exported", report={"parity": 1e-6}, point=3
    )
    digits.add_export(
        "digits", pick="best", folder="best", report={}, model_uri="models:/digits@best"
    )
    assert digits.exports("digits")[0] == first
    assert (first.pick, first.folder, first.report, first.point) == (
        "knee",
        "exported",
        {"parity": 1e-6},
        3,
    )
    assert digits.exports("digits")[1].model_uri == "models:/digits@best"


def test_what_was_written_is_there_after_opening_again(digits, url):
    start(digits, 0)
    again = Store.open(url)
    assert again.trial("digits", "search", 0) == digits.trial("digits", "search", 0)
    again.close()


def test_a_connection_that_the_server_hung_up_is_replaced(digits, url):
    if not url.startswith("postgresql"):
        pytest.skip("a file does not hang up")
    from sqlalchemy import create_engine, text

    engine = create_engine(url)
    with engine.connect() as connection:
        mine = "pid <> pg_backend_pid() AND datname = current_database()"
        connection.execute(
            text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {mine}")
        )
    engine.dispose()
    start(digits, 0)
    finish(digits, 0)
    assert len(digits.points("digits")) == 1


def test_records_cannot_be_changed(digits):
    with pytest.raises(AttributeError, match="cannot assign"):
        digits.study("digits").name = "other"


@pytest.mark.slow
def test_threads_read_while_others_write(digits):
    errors = []

    def write(first: int) -> None:
        try:
            for number in range(first, first + 40):
                start(digits, number)
                finish(digits, number, [POINT] * 5)
        except StorageError as error:
            errors.append(error)

    def read() -> None:
        try:
            while writers[0].is_alive() or writers[1].is_alive():
                assert len(digits.points("digits")) % 5 == 0  # a trial's points appear together
        except (StorageError, AssertionError) as error:
            errors.append(error)

    writers = [threading.Thread(target=write, args=(first,)) for first in (0, 100)]
    reader = threading.Thread(target=read)
    for thread in (*writers, reader):
        thread.start()
    for thread in (*writers, reader):
        thread.join()
    assert errors == []
    assert len(digits.points("digits")) == 400


@pytest.mark.slow
def test_a_trial_costs_a_few_milliseconds_however_many_there_are(digits):
    spent = []
    for number in range(300):
        begun = time.perf_counter()
        start(digits, number)
        finish(digits, number, [POINT] * 10)
        spent.append(time.perf_counter() - begun)
    early, late = sorted(spent[:100])[50], sorted(spent[200:])[50]
    assert late < 0.05  # 2 ms on an idle machine
    assert late < 2 * early + 0.002
