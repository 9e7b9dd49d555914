"""Stores to test with: SQLite always, PostgreSQL where DYNAFRONT_TEST_POSTGRES names an empty database."""

import os

import pytest

from storage.store import Store

POSTGRES = os.environ.get("DYNAFRONT_TEST_POSTGRES")


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
