"""An engine on a database of studies, with the tables brought up to date."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    Double,
    Engine,
    RootTransaction,
    Row,
    cast,
    create_engine,
    event,
    extract,
    func,
    inspect,
    literal,
    make_url,
    text,
)
from sqlalchemy.exc import ArgumentError, OperationalError

from storage import json_text
from storage.creation_lock import creating
from storage.errors import LOCKED, LostConnectionError, StorageError, told
from storage.fence import Fence
from storage.tables import METADATA, REVISION, VERSION_TABLE
from storage.urls import sqlite_file, without_password

if TYPE_CHECKING:
    from alembic.config import Config

logger = logging.getLogger(f"dynafront.{__name__}")
Result = TypeVar("Result")

MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_TIMEOUT = 20  # seconds that a writer waits for another one before it is said
PATIENCE = 300  # seconds that it waits in all
WAITS = (0.2, 1.0, 3.0)  # seconds before each new try to reach a database that does not answer
IDLE_SECONDS = 60  # that a process may do nothing in a transaction, as long as a lease lasts
LONGEST_WAIT = 5.0  # seconds before each further try, where it is waited for as long as PATIENCE


class Database:
    """One database of studies, for any number of threads. `say` gets a line when it is waited for."""

    def __init__(self, engine: Engine, url: str, say: Callable[[str], None] | None = None) -> None:
        self._engine, self._url = engine, url
        self.say = say or logger.warning
        self.patient = False  # whether a server that went away is waited for as long as PATIENCE
        self.fence: Fence | None = None  # of the study that this process drives
        self._waiting = False
        self._writer = engine.execution_options(writes=True)
        # PostgreSQL shows every statement another moment unless told otherwise; SQLite never does
        postgres = engine.dialect.name == "postgresql"
        self._reader = (
            engine.execution_options(isolation_level="REPEATABLE READ") if postgres else engine
        )

    @classmethod
    def open(cls, url: str, say: Callable[[str], None] | None = None) -> Database:
        """The database at `url` with all tables in their newest form. Raises ValueError and StorageError."""
        with told(url):
            engine = _engine(url)
        database = cls(engine, url, say)
        try:
            if not database._up_to_date():
                with creating(url):
                    database._migrate()
        except BaseException:
            engine.dispose()
            raise
        return database

    def close(self) -> None:
        self._engine.dispose()

    @property
    def has_clock(self) -> bool:
        """Whether it is a server, whose clock is the same for all machines."""
        return self._engine.dialect.name != "sqlite"

    def now(self) -> ColumnElement[float]:
        """Seconds since 1970 while a statement runs: by the server's clock, or this machine's where there is none."""
        if self.has_clock:
            return cast(extract("epoch", func.clock_timestamp()), Double)
        return literal(time.time())

    def rows(self, query: Any, values: Mapping[str, Any] | None = None) -> Sequence[Row[Any]]:
        """What the query finds; `values` are those of its bound parameters."""
        return self.repeated(lambda: self._rows(query, values))

    def _rows(self, query: Any, values: Mapping[str, Any] | None) -> Sequence[Row[Any]]:
        with self.reading() as connection:
            return connection.execute(query, values).all()

    def repeated(self, action: Callable[[], Result]) -> Result:
        """Do it, which is one transaction; again where a patient database lost its server in the middle of it."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return action()
            except LostConnectionError as error:
                if not self.patient or time.monotonic() > deadline:
                    raise
                logger.warning("the database went away in the middle, once more: %s", error)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees one moment of the database."""
        with told(self._url), self._begun(self._reader) as connection, _ended(connection):
            yield connection

    @contextmanager
    def writing(self, *, fenced: bool = True) -> Iterator[Connection]:
        """A transaction that changes all it changes, or nothing.

        Raises TakenOverError where this process has driven a study that another one drives now; not where it is not
        `fenced`, as changes of a lease are.
        """
        with told(self._url), self._begun(self._writer) as connection, _ended(connection):
            if fenced and self.fence is not None:
                self.fence.check(connection)
            yield connection

    def _begun(self, engine: Engine) -> Connection:
        """A connection in a transaction; another program that holds the database is waited for."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                connection = self._in_transaction(engine)
            except OperationalError as error:
                if LOCKED not in str(error.orig) or time.monotonic() > deadline:
                    raise
                self._say_waiting(f"{sqlite_file(self._url)} is locked by another program")
            else:
                self._waiting = False
                return connection

    def _in_transaction(self, engine: Engine) -> Connection:
        connection = self._reached(engine)
        try:
            connection.begin()
            if not self.has_clock:
                _begin_sqlite(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _reached(self, engine: Engine) -> Connection:
        """A connection; a server that does not answer is asked again a few times, or for long, a file is not."""
        deadline, waits = time.monotonic() + PATIENCE, iter(WAITS)
        while True:
            try:
                return engine.connect()
            except OperationalError as error:
                patient = self.patient and time.monotonic() < deadline
                wait = next(waits, LONGEST_WAIT if patient else None)
                if wait is None or engine.dialect.name == "sqlite":
                    raise
                logger.warning("the database does not answer, again in %.0f s: %s", wait, error)
                if self.patient:
                    self._say_waiting(f"{without_password(self._url)} does not answer")
                time.sleep(wait)

    def _say_waiting(self, what: str) -> None:
        """Say once, for all threads, what is waited for."""
        if not self._waiting:
            self._waiting = True
            self.say(f"{what}; waiting for it, {PATIENCE / 60:.0f} minutes at most")

    def _up_to_date(self) -> bool:
        with self.reading() as connection:
            found = _revision(connection)
        if found == REVISION:
            return True
        if found and found not in _revisions():
            file = sqlite_file(self._url) or without_password(self._url)
            raise StorageError(f"{file}: written by a newer dynafront; upgrade it")
        return False

    def _migrate(self) -> None:
        """Run the missing migrations, if no other process just has; all in one transaction."""
        from alembic import command

        config = _config()
        with self.writing() as connection:
            config.attributes["connection"] = connection  # migrations/env.py takes it from there
            command.upgrade(config, "head")


def _ended(connection: Connection) -> RootTransaction:
    """The connection's transaction, which ends with the block: all of it is kept, or nothing."""
    transaction = connection.get_transaction()
    assert transaction is not None
    return transaction


def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ValueError(
            f"{without_password(url)!r} is not a database URL; write sqlite:///FILE"
        ) from None
    file = sqlite_file(url)
    if parsed.get_backend_name() not in ("sqlite", "postgresql") or not parsed.database:
        raise ValueError(
            f"{without_password(url)!r} cannot keep studies; write sqlite:///FILE or postgresql+psycopg://..."
        )
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
    arguments: dict[str, Any] = {"timeout": BUSY_TIMEOUT} if file else {"connect_timeout": 10}
    try:
        engine = create_engine(
            url,
            pool_pre_ping=file is None,  # a file does not hang up
            connect_args=arguments,
            json_serializer=json_text.dumps,
            json_deserializer=json_text.loads,
        )
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{without_password(url)}: needs {error.name}; pip install 'dynafront[postgres]'"
        ) from None
    event.listen(engine, "connect", end_idle if file is None else _prepare_sqlite)
    return engine


def end_idle(connection: Any, _: Any) -> None:
    """Let PostgreSQL undo a transaction whose process does nothing: it was suspended, or its machine is lost.

    Nobody could take the study over before, for a transaction of a driver keeps the study's lease.
    """
    connection.execute(f"SET idle_in_transaction_session_timeout = {1000 * IDLE_SECONDS}")
    connection.commit()


def _prepare_sqlite(connection: Any, _: Any) -> None:
    # no transactions by the driver: BEGIN is said by _begin_sqlite
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: Connection) -> None:
    """A writer asks for the lock at once: one that read first would be refused without waiting."""
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
    # BEGIN alone locks nothing: whoever stands in the way would be met in the middle
    if not writes:
        connection.exec_driver_sql("SELECT 1 FROM sqlite_master LIMIT 1")


def _config() -> Config:
    # only for migrations: every command opens a database, and few need one
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config


def ours(thing: Any, name: str | None, kind: str, *_: Any) -> bool:
    """Whether a table is one of ours: Optuna's may lie beside them."""
    return kind != "table" or name in METADATA.tables


def _revision(connection: Connection) -> str | None:
    """The migration that the tables are at; None before the first."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()


def _revisions() -> list[str]:
    """Of all migrations, the newest first."""
    from alembic.script import ScriptDirectory

    return [script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()]
