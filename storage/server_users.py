"""The accounts of a server that a team shares: MLflow's own, in a database of their own, and the first admin."""

from __future__ import annotations

import os
import secrets
import sqlite3
import stat
from collections.abc import Mapping
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

from storage.settings import Settings

USERS_VARIABLE = "DYNAFRONT_SERVER_USERS"  # how the server's process gets told that it has users
PASSWORD_VARIABLE = "MLFLOW_AUTH_ADMIN_PASSWORD"
NAME_VARIABLE = "MLFLOW_AUTH_ADMIN_USERNAME"
SECRET_VARIABLE = "MLFLOW_FLASK_SERVER_SECRET_KEY"
CONFIG_VARIABLE = "MLFLOW_AUTH_CONFIG_PATH"
FIRST_DEFAULT = "password1234"  # what every MLflow before 3.15 began with
FIRST_ADMIN = "admin"
SHORTEST = 12  # characters, as MLflow wants it
OTHERS = stat.S_IRWXG | stat.S_IRWXO
HOW = f"put one of {SHORTEST} characters or more into {PASSWORD_VARIABLE}, or into a file for --password-file"
# who has an account reads; the cache saves 50 ms of hashing a request, and forgets a password that is changed
CONFIG = """[mlflow]
default_permission = READ
database_uri = sqlite:///{database}
admin_username = {admin}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
auth_cache_ttl_seconds = 60
"""


def users_file(settings: Settings) -> Path:
    """MLflow's database of accounts."""
    return settings.folder / "users.db"


def users_environment(
    settings: Settings,
    password_file: Path | None = None,
    given: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """What the server's process needs to ask everyone for a name and a password, the admin's own among it.

    `given` is the environment, that of this process where it is left out. Raises ValueError, which says how to set a
    password, where there is no admin and none is given, and where one is given that everyone could know.
    """
    given = os.environ if given is None else given
    check_extra()
    password = password_of(password_file) if password_file else given.get(PASSWORD_VARIABLE, "")
    database = users_file(settings).resolve()
    admin = _admin(database)
    _check(password, begun=admin is not None)
    settings.folder.mkdir(parents=True, exist_ok=True)
    private(database, b"")
    config = settings.folder / "users.ini"
    values = {"database": database, "admin": FIRST_ADMIN if password or not admin else admin}
    escaped = {key: str(value).replace("%", "%%") for key, value in values.items()}
    private(config, b"").write_text(CONFIG.format(**escaped))
    secret = private(settings.folder / "users.secret", secrets.token_hex(32).encode()).read_text()
    found = {
        USERS_VARIABLE: "1",
        SECRET_VARIABLE: given.get(SECRET_VARIABLE) or secret,
        CONFIG_VARIABLE: str(config.resolve()),
    }
    return found | ({PASSWORD_VARIABLE: password} if password else {})


def check_extra() -> None:
    """Raise ValueError where a package is missing that MLflow's accounts need."""
    if find_spec("flask_wtf") is None:
        raise ValueError("a server with users needs Flask-WTF: pip install 'dynafront[serve]'")


def check_password(name: str, password: str) -> None:
    """Raise ValueError for the password of an account that anyone could guess."""
    if password == FIRST_DEFAULT:
        raise ValueError(f"the password of {name} is MLflow's first default, known to all")
    if len(password) < SHORTEST:
        raise ValueError(
            f"the password of {name} has {len(password)} characters; it needs {SHORTEST} or more"
        )


def password_of(path: Path) -> str:
    """The password in a file. Raises ValueError where others can read it, or nothing stands there."""
    try:
        mode = path.stat().st_mode
        password = path.read_text(encoding="utf-8").strip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ValueError(f"--password-file {path}: cannot be read ({reason})") from None
    # systemd lets a service read its credentials by an access list, which looks like a right of the group
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    if mode & OTHERS and not (credentials and path.resolve().is_relative_to(credentials)):
        raise ValueError(
            f"--password-file {path}: others on this machine can read it; run chmod 600 {path}"
        )
    if not password:
        raise ValueError(f"--password-file {path}: is empty; write the password into it")
    return password


def _check(password: str, *, begun: bool) -> None:
    if password == FIRST_DEFAULT:
        raise ValueError(f"the admin's password is MLflow's first default, known to all: {HOW}")
    if password and len(password) < SHORTEST:
        raise ValueError(f"the admin's password has {len(password)} characters: {HOW}")
    if not password and not begun:
        raise ValueError(f"there is no admin yet, and no password for one: {HOW}")


def _admin(database: Path) -> str | None:
    """An admin of MLflow's table of users; its own code takes seconds to import."""
    if not database.exists():
        return None
    with closing(sqlite3.connect(database)) as connection:
        tables = "SELECT count(*) FROM sqlite_master WHERE name = 'users'"
        if not connection.execute(tables).fetchone()[0]:
            return None
        admins = "SELECT username FROM users WHERE is_admin ORDER BY username != ?, username"
        row = connection.execute(admins, [FIRST_ADMIN]).fetchone()
        return str(row[0]) if row else None


def private(path: Path, content: bytes) -> Path:
    """The file, made with this content where there is none; nobody else on the machine can read it."""
    try:
        with open(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
            file.write(content)
    except FileExistsError:
        path.chmod(0o600)
    return path
