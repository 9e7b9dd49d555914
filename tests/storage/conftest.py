"""Stores to test with: SQLite always, PostgreSQL where DYNAFRONT_TEST_POSTGRES names an empty database.

Of several test processes each makes itself a database beside that one; its user must be allowed to.
"""

import os

import pytest
import sqlalchemy

from storage.store import Store


def _postgres() -> str | None:
    given, worker = os.environ.get("DYNAFRONT_TEST_POSTGRES"), os.environ.get("PYTEST_XDIST_WORKER")
    if not given or not worker:
        return given
    url = sqlalchemy.make_url(given)
    own = url.set(database=f"{url.database}_{worker}")
    engine = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f'DROP DATABASE IF EXISTS "{own.database}"')
        connection.exec_driver_sql(f'CREATE DATABASE "{own.database}"')
    engine.dispose()
    return own.render_as_string(hide_password=False)


POSTGRES = _postgres()


@pytest.fixture(params=["sqlite", *(["postgres"] if POSTGRES else [])])
def url(request, tmp_path) -> str:
    return f"sqlite:///{tmp_path / 'study.db'}" if request.param == "sqlite" else str(POSTGRES)


@pytest.fixture
def store(url):
    opened = Store.open(url)
    yield opened
    with opened._database.writing() as connection:
        connection.exec_driver_sql("DELETE FROM dynafront_study")
    opened.close()


@pytest.fixture
def digits(store):
    store.add_study(
        "digits", {"budget": {"trials": 4}}, "study: digits\n", {"accuracy": 0.1, "macs": 1e6}
    )
    return store
