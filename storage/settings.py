"""Where studies, checkpoints and MLflow runs are kept, as `mlflow.yml` says it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from storage.config_errors import complaint
from storage.urls import SQLITE, without_password
from storage.yaml_text import NotYamlError, file_text, parsed

FILE = "mlflow.yml"
OVERRIDES = {
    "DYNAFRONT_DATABASE": ("storage", "database"),
    "MLFLOW_TRACKING_URI": ("tracking_uri",),
}
TRACKING_SCHEMES = ("sqlite", "postgresql", "mysql", "mssql", "http", "https", "databricks")


def _expanded(path: str) -> str:
    """A path or a SQLite URL with `~` and `$NAME` put in; other addresses stay, a password may hold a dollar sign."""
    head, path = (SQLITE, path.removeprefix(SQLITE)) if path.startswith(SQLITE) else ("", path)
    return path if "://" in path else head + os.path.expanduser(os.path.expandvars(path))


def _tracking(uri: str) -> str:
    """The address as MLflow takes it: its scheme in small letters, no slash after a server's name."""
    scheme, colon, rest = uri.strip().partition(":")
    scheme = scheme.lower()
    known = scheme.split("+", 1)[0] in TRACKING_SCHEMES and (colon or scheme == "databricks")
    if not known:
        folder = scheme == "file" or "://" not in uri
        hint = (
            "; MLflow keeps no runs in folders any more, `mlflow migrate-filestore` takes them over"
        )
        raise ValueError(
            f"{without_password(uri)!r} is not an MLflow store; write sqlite:///FILE or http://HOST:PORT"
            f"{hint if folder else ''}"
        )
    uri = f"{scheme}{colon}{rest}"
    if scheme in ("http", "https"):
        return uri.rstrip("/")
    return _expanded(uri) if uri.startswith(SQLITE) else uri


def _database(url: str) -> str:
    if url.startswith(SQLITE) and len(url) > len(SQLITE) and ":memory:" not in url:
        return _expanded(url)
    if not url.startswith("postgresql+psycopg://"):
        raise ValueError(
            f"{without_password(url)!r} is not a database for studies; "
            "write sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/NAME"
        )
    return url


def _store(url: str | None) -> str | None:
    """A URL that fsspec knows, or a folder as a whole path."""
    if url is None:
        return None
    if "://" not in url:
        return str(Path(_expanded(url)).absolute())
    if without_password(url) != url:
        raise ValueError(
            f"{without_password(url)!r} holds a password; leave it out, accounts come from the environment"
        )
    from fsspec.registry import known_implementations

    if url.partition("://")[0] not in known_implementations:
        raise ValueError(f"{url!r} is not a place for files; write s3://BUCKET/FOLDER or a folder")
    return url.rstrip("/")


def _experiment(name: str) -> str:
    if not name.strip() or any(mark in name.replace("{study}", "") for mark in "{}"):
        raise ValueError(f"{name!r} is not an experiment name; the only placeholder is {{study}}")
    return name


def _named(hosts: tuple[str, ...]) -> tuple[str, ...]:
    if not hosts or not all(host.strip() for host in hosts):
        raise ValueError("an empty list or name would lock everyone out; name at least localhost")
    return hosts


def _all_expanded(folders: tuple[str, ...] | None) -> tuple[str, ...] | None:
    return folders if folders is None else tuple(map(_expanded, folders))


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Server(_Section):
    """Where `dynafront ui` listens, under which host names it answers, and what its pages may start.

    `data_folders`: below which the pages may name images and weights by path; None: anywhere while the server answers
    this machine alone, else nowhere.
    """

    host: str = "127.0.0.1"
    port: int = Field(default=5000, ge=1, le=65535, strict=True)
    allowed_hosts: Annotated[tuple[str, ...], AfterValidator(_named)] = ("localhost", "127.0.0.1")
    searches: int = Field(default=1, ge=1, le=64, strict=True)
    data_folders: Annotated[tuple[str, ...] | None, AfterValidator(_all_expanded)] = None


class Storage(_Section):
    """The folder for everything on disk, and the database that several machines may share."""

    folder: Annotated[Path, AfterValidator(lambda path: Path(_expanded(str(path))))] = Path(
        "dynafront-data"
    )
    database: Annotated[str, AfterValidator(_database)] | None = None
    # a folder or a URL that every machine of a study reaches
    checkpoints: Annotated[str | None, AfterValidator(_store)] = None
    # gigabytes (10^9 bytes) that kept features of frozen trunks may take
    features_gb: float = Field(default=4.0, ge=0, le=1e6)


class Settings(_Section):
    """What `mlflow.yml` says; what is not given follows from `storage.folder` and `tracking_uri`."""

    tracking_uri: Annotated[str, AfterValidator(_tracking)] = ""
    artifact_root: Annotated[str, AfterValidator(_expanded)] | None = None
    registry_uri: Annotated[str, AfterValidator(_tracking)] = ""
    experiment: Annotated[str, AfterValidator(_experiment)] = "dynafront/{study}"
    server: Server = Server()
    storage: Storage = Storage()

    def model_post_init(self, _: Any) -> None:
        """Fill in the URIs that were not given; the model is frozen afterwards."""
        tracking = self.tracking_uri or f"sqlite:///{self.folder / 'mlflow.db'}"
        object.__setattr__(self, "tracking_uri", tracking)
        object.__setattr__(self, "registry_uri", self.registry_uri or tracking)
        if self.artifact_root is None and not self.remote:
            object.__setattr__(self, "artifact_root", str(self.folder / "mlartifacts"))

    @property
    def folder(self) -> Path:
        return self.storage.folder

    @property
    def remote(self) -> bool:
        """Whether runs go to an MLflow server that somebody else keeps."""
        return self.tracking_uri.startswith(("http:", "https:", "databricks"))

    @property
    def database_url(self) -> str:
        """The database of studies and trials, as SQLAlchemy writes it."""
        return self.storage.database or f"sqlite:///{self.folder / 'dynafront.db'}"

    @property
    def optuna_url(self) -> str:
        """The same database: Optuna's tables and ours have different names."""
        return self.database_url

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def store(self) -> str | None:
        """The folder or URL where other machines find checkpoints and features; None: they are on this one alone."""
        return self.storage.checkpoints

    @property
    def features(self) -> Path:
        """Where features of frozen trunks are kept."""
        return self.folder / "features"

    @property
    def feature_bytes(self) -> int:
        """What they may take there."""
        return int(self.storage.features_gb * 1e9)

    def experiment_name(self, study: str) -> str:
        return self.experiment.replace("{study}", study)


def settings(path: Path | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """The settings in `path`; without one those in ./mlflow.yml, or the defaults where there is none.

    Raises a ValueError of one line that names the file and the key.
    """
    given = path or Path(FILE)
    content = _content(given) if path or given.exists() else {}
    origin = {key: str(given) for key in OVERRIDES.values()}
    for variable, keys in OVERRIDES.items():
        if value := (os.environ if environment is None else environment).get(variable):
            _put(content, keys, value)
            origin[keys] = variable
    try:
        result = Settings.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        keys = tuple(str(part) for part in first["loc"])
        raise ValueError(
            complaint(first, content, Settings, origin.get(keys, str(given)))
        ) from None
    if result.tracking_uri == result.database_url:
        raise ValueError(
            f"{given}: tracking_uri and storage.database are the same database; MLflow needs its own"
        )
    if result.store is not None and Path(result.store).is_relative_to(result.folder.absolute()):
        raise ValueError(
            f"{given}: storage.checkpoints lies in storage.folder, which is this machine's own; name another"
        )
    return result


def _content(path: Path) -> dict[str, Any]:
    try:
        content = parsed(file_text(path))
    except OSError as error:
        raise ValueError(
            f"{path}: cannot be read ({error.strerror}); give the path of a settings file"
        ) from None
    except UnicodeDecodeError:
        raise ValueError(f"{path}: is not UTF-8 text; save it as UTF-8") from None
    except NotYamlError as error:
        place = f"line {error.line}: " if error.line else ""
        reason = f"{error.key}: {error}" if error.key else f"not valid YAML ({error})"
        raise ValueError(f"{path}: {place}{reason}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ValueError(
            f"{path}: holds a {type(content).__name__}; write keys and values, as in 'tracking_uri: ...'"
        )
    return {key: value for key, value in content.items() if value is not None}


def _put(content: dict[str, Any], keys: tuple[str, ...], value: str) -> None:
    *sections, last = keys
    for section in sections:
        below = content.get(section)
        content[section] = dict(below) if isinstance(below, dict) else {}
        content = content[section]
    content[last] = value
