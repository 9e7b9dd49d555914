"""Opening databases: fresh, shared with Optuna, newer than the code, damaged, unreachable."""

import sqlite3
import subprocess
import sys
import threading
import warnings
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import insert, inspect, select, update
from sqlalchemy.exc import OperationalError

from storage import database as module
from storage.attempts import Ends
from storage.database import Database, ours
from storage.errors import StorageError
from storage.rows import point_row, utc_now
from storage.store import Store
from storage.tables import (
    ATTEMPTS,
    FORMAT_CRASHES,
    FORMATS,
    METADATA,
    POINTS,
    REVISION,
    RUNGS,
    TRIALS,
    VERSION_TABLE,
)
from tests.points import operating_point

REPOSITORY = Path(__file__).parents[2]


def add_optuna_study(url: str) -> None:
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        storage = optuna.storages.RDBStorage(url, engine_kwargs={"connect_args": {"timeout": 20}})
        study = optuna.create_study(storage=storage, study_name="digits", load_if_exists=True)
        study.tell(study.ask(), 1.0)
        storage.engine.dispose()


def test_migrations_lead_to_the_tables_as_they_are_declared(url):
    opened = Database.open(url)
    options = {"version_table": VERSION_TABLE, "include_object": ours, "compare_type": True}
    with opened.reading() as connection:
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, METADATA) == []
    opened.close()


def test_the_newest_migration_is_the_one_that_databases_are_expected_at() -> None:
    assert module._revisions()[0] == REVISION


def as_of(url: str, revision: str) -> None:
    """Leave the database as a fresh one looked at a revision."""
    opened, config = Database.open(url), module._config()
    with opened.writing() as connection:
        METADATA.drop_all(connection)
        connection.exec_driver_sql(f"DROP TABLE {VERSION_TABLE}")
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    opened.close()


def test_a_database_from_before_rungs_keeps_its_trials_and_gets_them(url):
    as_of(url, "0001")
    older = Store(Database(module._engine(url), url))
    with older._database.reading() as connection:
        assert not inspect(connection).has_table("dynafront_rung")
    older.add_study("digits", {}, "", {})
    older.add_trial("digits", "search", 0, "gated_resnet", {"depth": 20}, 1, 3)
    with older._database.writing() as connection:  # as the program of that time ended a trial
        ended = {"state": "complete", "seconds": 1.0, "result": {"execution": {}}}
        connection.execute(update(TRIALS).values(ended | {"finished_at": utc_now()}))
        connection.execute(insert(POINTS).values(trial_id=1, **point_row(operating_point())))
    before = older.trials("digits")
    older.close()
    newer = Store.open(url)
    assert newer.trials("digits") == before
    (kept,) = newer.points("digits")
    assert point_row(kept) == point_row(operating_point())
    assert newer.rungs("digits") == []
    newer.add_rung("digits", "search", 0, 4, {"outlook": None})
    assert [r.epoch for r in newer.rungs("digits")] == [4]
    with newer._database.writing() as connection:
        connection.exec_driver_sql("DELETE FROM dynafront_study")
    assert newer._database.rows(select(RUNGS.c.id)) == [], "rungs go with their trial"
    newer.close()


def test_a_database_from_before_attempts_and_formats_keeps_its_trials_and_gets_them(url):
    as_of(url, "0003")
    older = Store(Database(module._engine(url), url))
    with older._database.reading() as connection:
        there = inspect(connection)
        assert not any(there.has_table(one.name) for one in (ATTEMPTS, FORMATS, FORMAT_CRASHES))
    older.add_study("digits", {}, "", {})
    older.add_trial("digits", "search", 0, "gated_resnet", {"depth": 20}, 1, 3)
    before = older.trials("digits")
    older.close()
    newer = Store.open(url)
    assert newer.trials("digits") == before
    assert newer.attempts.ends("digits", "search", 0).lost == 0
    newer.attempts.begin("digits", "search", 0)
    assert newer.attempts.ends("digits", "search", 0).lost == 1
    newer.formats.choose("digits", "cpu", "small", {"dtype": "float32"})
    assert newer.formats.chosen("digits", "cpu", "small") == {"dtype": "float32"}
    with newer._database.writing() as connection:
        connection.exec_driver_sql("DELETE FROM dynafront_study")
    assert newer._database.rows(select(ATTEMPTS.c.id)) == [], "attempts go with their trial"
    assert newer._database.rows(select(FORMATS.c.id)) == [], "formats go with their study"
    newer.close()


def test_starts_from_before_their_ends_were_told_apart_speak_against_no_training(url):
    as_of(url, "0007")
    older = Store(Database(module._engine(url), url))
    older.add_study("digits", {}, "", {})
    older.add_trial("digits", "search", 0, "gated_resnet", {"depth": 20}, 1, 3)
    with older._database.writing() as connection:
        connection.exec_driver_sql("INSERT INTO dynafront_attempt (trial_id, epoch) VALUES (1, 0)")
    older.close()
    newer = Store.open(url)
    assert newer.attempts.ends("digits", "search", 0) == Ends(died=0, lost=1)
    newer.close()


@pytest.mark.slow
@pytest.mark.parametrize("first", ["optuna", "ours"])
def test_optuna_may_share_the_file_whoever_comes_first(tmp_path, first):
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    if first == "optuna":
        add_optuna_study(url)
    store = Store.open(url)
    store.add_study("digits", {}, "", {})
    add_optuna_study(url)
    store.close()
    store = Store.open(url)
    assert store.study("digits") is not None
    add_optuna_study(url)
    store.close()


def test_a_sqlite_file_is_set_up_for_many_readers_and_one_writer(tmp_path):
    opened = Database.open(f"sqlite:///{tmp_path / 'deep' / 'folder' / 'study.db'}")
    with opened.reading() as connection:
        found = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    opened.close()
    assert found == {
        "journal_mode": "wal",
        "synchronous": 1,
        "foreign_keys": 1,
        "busy_timeout": 20_000,
    }


def test_a_backup_that_is_made_while_a_study_is_written_is_whole(tmp_path):
    store, writing = Store.open(f"sqlite:///{tmp_path / 'study.db'}"), threading.Event()
    store.add_study("digits", {}, "", {})

    def write() -> None:
        for number in range(60):
            store.add_trial("digits", "search", number, "gated_resnet", {"depth": 20}, 1, 3)
            store.finish_trial(
                "digits", "search", number, points=[operating_point()], result={}, seconds=1.0
            )
            writing.set()

    writer = threading.Thread(target=write)
    writer.start()
    writing.wait()
    used, copy = (sqlite3.connect(tmp_path / name) for name in ("study.db", "copy.db"))
    with closing(used), closing(copy):
        used.backup(copy)
    writer.join()
    store.close()
    restored = Store.open(f"sqlite:///{tmp_path / 'copy.db'}")
    complete = restored.trials("digits", state="complete")
    assert len(restored.points("digits")) == len(complete) > 0, "trials end with all their points"
    restored.close()


def test_opening_an_up_to_date_database_takes_no_lock(tmp_path):
    file = tmp_path / "study.db"
    Database.open(f"sqlite:///{file}").close()
    lock = Path(f"{file}.lock")
    lock.unlink(missing_ok=True)
    Database.open(f"sqlite:///{file}").close()
    assert not lock.exists()


@pytest.mark.slow
def test_a_fresh_database_may_be_opened_by_many_processes_at_once(tmp_path):
    url = f"sqlite:///{tmp_path / 'study.db'}"
    code = f"from storage.store import Store; Store.open({url!r}).close()"
    running = [subprocess.Popen([sys.executable, "-c", code], cwd=REPOSITORY) for _ in range(4)]
    assert [process.wait(60) for process in running] == [0, 0, 0, 0]


def test_a_database_of_a_newer_version_is_left_alone(tmp_path):
    file = tmp_path / "study.db"
    Database.open(f"sqlite:///{file}").close()
    connection = sqlite3.connect(file)
    connection.execute(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    connection.commit()
    connection.close()
    with pytest.raises(StorageError, match=r"study\.db: written by a newer dynafront; upgrade"):
        Database.open(f"sqlite:///{file}")


def test_a_file_that_is_no_database_is_named_in_one_line(tmp_path):
    file = tmp_path / "study.db"
    file.write_text("these are notes, not a database\n" * 50)
    with pytest.raises(
        StorageError, match=r"study\.db: file is not a database; .* move it away"
    ) as raised:
        Database.open(f"sqlite:///{file}")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///", "mysql://me:secret@host/db", "nonsense", "postgresql://h"]
)
def test_a_url_that_cannot_keep_studies_is_refused_without_showing_its_password(url):
    with pytest.raises(ValueError, match=r"write sqlite:///FILE") as raised:
        Database.open(url)
    assert "secret" not in str(raised.value)


def test_a_server_that_is_away_is_asked_again_and_then_named_without_its_password(monkeypatch):
    pytest.importorskip("psycopg")
    waited: list[float] = []
    monkeypatch.setattr(module.time, "sleep", waited.append)
    with pytest.raises(StorageError, match="check that the database server runs") as raised:
        Database.open("postgresql+psycopg://me:secret@127.0.0.1:9/nets")
    assert waited == list(module.WAITS)
    assert "secret" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_writer_that_waits_too_long_is_told_who_stands_in_the_way(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BUSY_TIMEOUT", 0.05)
    monkeypatch.setattr(module, "PATIENCE", 0.1)
    file = tmp_path / "study.db"
    opened = Database.open(f"sqlite:///{file}")
    other = sqlite3.connect(file)
    other.execute("BEGIN IMMEDIATE")
    with (
        pytest.raises(
            StorageError, match=r"study\.db: database is locked; another process holds it"
        ),
        opened.writing(),
    ):
        pass
    other.close()
    opened.close()


@pytest.mark.parametrize("lock", ["BEGIN IMMEDIATE", "PRAGMA locking_mode=EXCLUSIVE"])
@pytest.mark.parametrize("use", ["writing", "reading", "opening"])
def test_another_program_that_holds_the_database_is_waited_for_and_named_once(
    tmp_path, monkeypatch, lock, use
):
    monkeypatch.setattr(module, "BUSY_TIMEOUT", 0.02)
    file = tmp_path / "study.db"
    said: list[str] = []
    opened = Database.open(f"sqlite:///{file}", said.append)
    if use == "opening":
        opened.close()
    other = sqlite3.connect(file, check_same_thread=False)
    other.execute(lock)
    if lock != "BEGIN IMMEDIATE":
        opened.close()  # an exclusive lock waits for all other connections
        other.execute("CREATE TABLE others (id)")
    threading.Timer(0.3, other.close).start()
    if use == "opening":
        opened = Database.open(f"sqlite:///{file}", said.append)
    with getattr(opened, use if use != "opening" else "reading")() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM dynafront_study").scalar() == 0
    free = lock == "BEGIN IMMEDIATE" and use != "writing"  # who only reads is not in a writer's way
    line = f"{file} is locked by another program; waiting for it, 5 minutes at most"
    assert said == ([] if free else [line])
    opened.close()


def test_a_transaction_that_fails_changes_nothing(tmp_path):
    opened = Database.open(f"sqlite:///{tmp_path / 'study.db'}")
    insert = (
        "INSERT INTO dynafront_study (name, spec, text, reference, seconds_spent, created_at) "
        "VALUES ('a', '{}', '', '{}', 0, '2026-01-01')"
    )

    def half_a_write() -> None:
        with opened.writing() as connection:
            connection.exec_driver_sql(insert)
            connection.exec_driver_sql("SELECT * FROM nowhere")

    with pytest.raises(StorageError, match="no such table"):
        half_a_write()
    with opened.reading() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM dynafront_study").scalar() == 0
    opened.close()


def test_errors_of_the_program_pass_through(tmp_path):
    opened = Database.open(f"sqlite:///{tmp_path / 'study.db'}")
    with pytest.raises(ZeroDivisionError, match="division"), opened.writing():
        _ = 1 / 0
    opened.close()


def test_a_folder_that_cannot_be_made_is_said_in_one_line(tmp_path):
    (tmp_path / "taken").write_text("a file where the folder should be")
    with pytest.raises(StorageError, match=r"study\.db: .*exists"):
        Database.open(f"sqlite:///{tmp_path / 'taken' / 'study.db'}")


def test_database_errors_keep_their_cause(tmp_path):
    opened = Database.open(f"sqlite:///{tmp_path / 'study.db'}")
    with pytest.raises(StorageError, match="nowhere") as raised, opened.reading() as connection:
        connection.exec_driver_sql("SELECT * FROM nowhere")
    opened.close()
    assert isinstance(raised.value.__cause__, OperationalError)
