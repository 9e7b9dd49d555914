"""Stores to test with: SQLite always, and PostgreSQL.

That is a server of the tests' own where PostgreSQL is installed, one for each test process. DYNAFRONT_TEST_POSTGRES
names an empty database of another one; of several test processes each makes itself a database beside that one, and its
user must be allowed to.
"""

import os
from collections.abc import Iterator

import pytest
import sqlalchemy

from storage.store import Store
from tests.postgres import running_postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    if given := os.environ.get("DYNAFRONT_TEST_POSTGRES"):
        yield _own(given, os.environ.get("PYTEST_XDIST_WORKER"))
        return
    with running_postgres() as server:
        yield server.url


def _own(given: str, worker: str | None) -> str:
    """The URL of a new database for this test process."""
    if worker is None:
        return given
    url = sqlalchemy.make_url(given)
    own = url.set(database=f"{url.database}_{worker}")
    engine = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f'DROP DATABASE IF EXISTS "{own.database}"')
        connection.exec_driver_sql(f'CREATE DATABASE "{own.database}"')
    engine.dispose()
    return own.render_as_string(hide_password=False)


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest) -> str:
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres"))
    return f"sqlite:///{request.getfixturevalue('tmp_path') / 'study.db'}"


@pytest.fixture
def store(url):
    opened = Store.open(url)
    _empty(opened)  # tests that open the server's database themselves leave studies there
    yield opened
    _empty(opened)
    opened.close()


def _empty(store: Store) -> None:
    with store._database.writing() as connection:
        connection.exec_driver_sql("DELETE FROM dynafront_study")


@pytest.fixture
def digits(store):
    store.add_study(
        "digits", {"budget": {"trials": 4}}, "study: digits\n", {"accuracy": 0.1, "macs": 1e6}
    )
    return store
