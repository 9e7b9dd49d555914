"""What `mlflow.yml` may say, and what a wrong one is told."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from storage.settings import Settings, settings

REPOSITORY = Path(__file__).parents[2]


def read(tmp_path: Path, text: str, **environment: str) -> Settings:
    file = tmp_path / "mlflow.yml"
    file.write_text(text)
    return settings(file, environment)


def test_without_a_file_everything_lies_in_one_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = settings(environment={})
    assert found.tracking_uri == found.registry_uri == "sqlite:///dynafront-data/mlflow.db"
    assert found.database_url == found.optuna_url == "sqlite:///dynafront-data/dynafront.db"
    assert found.artifact_root == "dynafront-data/mlartifacts"
    assert found.checkpoints == Path("dynafront-data/checkpoints")
    assert found.experiment_name("digits") == "dynafront/digits"


def test_the_file_in_this_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mlflow.yml").write_text("server: {port: 5050}")
    assert settings(environment={}).server.port == 5050


def test_the_shipped_file_holds_the_defaults():
    assert settings(REPOSITORY / "mlflow.yml", {}) == Settings()


def test_another_folder_moves_databases_artifacts_and_checkpoints(tmp_path):
    found = read(tmp_path, "storage: {folder: /data/nets}")
    assert found.tracking_uri == "sqlite:////data/nets/mlflow.db"
    assert found.database_url == "sqlite:////data/nets/dynafront.db"
    assert found.artifact_root == "/data/nets/mlartifacts"


@pytest.mark.parametrize("home", ["~", "$HOME", "${HOME}"])
def test_paths_may_begin_at_home_or_with_a_variable(tmp_path, monkeypatch, home):
    monkeypatch.setenv("HOME", "/home/me")
    folders = f"artifact_root: {home}/files\nstorage: {{folder: '{home}/nets', database: 'sqlite:///{home}/d.db'}}"
    found = read(tmp_path, f"tracking_uri: sqlite:///{home}/m.db\n{folders}")
    assert found.folder == Path("/home/me/nets")
    assert found.artifact_root == "/home/me/files"
    assert found.database_url == "sqlite:////home/me/d.db"
    assert found.tracking_uri == found.registry_uri == "sqlite:////home/me/m.db"


def test_a_dollar_sign_in_a_password_stays(tmp_path):
    url = "postgresql+psycopg://me:$HOME@db/nets"
    assert read(tmp_path, f"storage: {{database: '{url}'}}").database_url == url


def test_a_server_keeps_its_own_artifacts(tmp_path):
    found = read(tmp_path, "tracking_uri: http://tracking:5000")
    assert found.remote
    assert found.artifact_root is None
    assert found.registry_uri == "http://tracking:5000"


@pytest.mark.parametrize(
    ("written", "taken"),
    [
        ("HTTP://Tracking:5000", "http://Tracking:5000"),
        ("https://tracking/mlflow/", "https://tracking/mlflow"),
        ("http://me:a@b@tracking:5000/", "http://me:a@b@tracking:5000"),
        (" SQLite:///runs.db ", "sqlite:///runs.db"),
        ("databricks", "databricks"),
    ],
)
def test_addresses_are_taken_as_people_write_them(tmp_path, written, taken):
    assert read(tmp_path, f"tracking_uri: '{written}'").tracking_uri == taken


@pytest.mark.parametrize("written", ["file:./mlruns", "file:///a/mlruns", "./mlruns", "/a/mlruns"])
def test_folders_of_runs_are_refused_with_the_way_out(tmp_path, written):
    with pytest.raises(ValueError, match=r"write sqlite:///FILE .*`mlflow migrate-filestore`"):
        read(tmp_path, f"tracking_uri: {written}")


def test_the_environment_has_the_last_word(tmp_path):
    url = "postgresql+psycopg://me:secret@db/nets"
    found = read(
        tmp_path,
        "storage: {folder: here}",
        DYNAFRONT_DATABASE=url,
        MLFLOW_TRACKING_URI="http://other",
    )
    assert found.database_url == url
    assert found.tracking_uri == "http://other"
    assert found.folder == Path("here")


def test_settings_cannot_be_changed_afterwards(tmp_path):
    with pytest.raises(ValidationError, match="frozen"):
        read(tmp_path, "").experiment = "other"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("server: {port: 70000}", "server.port: 70000 is not between 1 and 65535"),
        ("server: {port: many}", "server.port: 'many' is not a whole number"),
        ("server: {port: null}", "server.port: null is not a whole number"),
        (
            "server: {prot: 1}",
            "server.prot: no such key; did you mean port? Known keys: host, port, allowed_hosts, "
            "searches, data_folders",
        ),
        ("zzz: 1", "zzz: no such key; Known keys: tracking_uri, artifact_root"),
        ("server: here", "server: 'here' is not a section with keys of its own"),
        ("server: {allowed_hosts: []}", "name at least localhost"),
        (
            "experiment: 'a/{name}'",
            "experiment: 'a/{name}' is not an experiment name; the only placeholder is {study}",
        ),
        ("experiment: 3", "experiment: 3 is not text"),
        (
            "tracking_uri: ./mlruns",
            "tracking_uri: './mlruns' is not an MLflow store; write sqlite:///FILE",
        ),
        (
            "storage: {database: 'mysql://a:secret@b/c'}",
            "'mysql://a:***@b/c' is not a database for studies",
        ),
        ("storage: {database: 'sqlite://'}", "write sqlite:///FILE"),
        (
            "{tracking_uri: 'sqlite:///a.db', storage: {database: 'sqlite:///a.db'}}",
            "MLflow needs its own",
        ),
        ("a: [", "line 1: not valid YAML"),
        (
            "experiment: a\nexperiment: b",
            "experiment: stands in line 1 and again in line 2; keep one",
        ),
        ("server: {port: 1:30}", "server.port: '1:30' is not a whole number"),
        ("- a", "holds a list; write keys and values"),
    ],
)
def test_a_wrong_file_gets_one_line_that_names_file_and_key(tmp_path, text, message):
    with pytest.raises(ValueError, match=r"mlflow\.yml: ") as raised:
        read(tmp_path, text)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "secret" not in str(raised.value)


def test_a_wrong_variable_is_named_instead_of_the_file(tmp_path):
    with pytest.raises(
        ValueError, match=r"^DYNAFRONT_DATABASE: storage.database: 'nonsense' is not a database"
    ):
        read(tmp_path, "", DYNAFRONT_DATABASE="nonsense")


def test_a_file_that_was_asked_for_must_exist(tmp_path):
    with pytest.raises(ValueError, match="cannot be read"):
        settings(tmp_path / "none.yml", {})


def test_a_place_for_checkpoints_is_a_whole_path_or_a_url(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHARE", "/mnt/share")
    for given, expected in (
        ("s3://bucket/dynafront/", "s3://bucket/dynafront"),
        ("$SHARE/dynafront", "/mnt/share/dynafront"),
        ("shared", str(tmp_path / "shared")),
    ):
        Path("mlflow.yml").write_text(f"storage: {{checkpoints: {given}}}")
        found = settings()
        assert found.store == expected
        assert Settings.model_validate_json(found.model_dump_json()).store == expected
    assert Settings().store is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("nonsense://x", "'nonsense://x' is not a place for files; write s3://BUCKET/FOLDER"),
        ("ftp://ann:sesame@host/x", r"'ftp://ann:\*\*\*@host/x' holds a password; leave it out"),
        ("dynafront-data/shared", "storage.checkpoints lies in storage.folder"),
    ],
)
def test_a_place_for_checkpoints_that_cannot_be_one_is_said(tmp_path, monkeypatch, given, message):
    monkeypatch.chdir(tmp_path)
    Path("mlflow.yml").write_text(f"storage: {{checkpoints: {given!r}}}")
    with pytest.raises(ValueError, match=message) as error:
        settings()
    assert "sesame" not in str(error.value)


def test_features_take_as_many_gigabytes_as_the_file_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert settings().feature_bytes == 4e9
    Path("mlflow.yml").write_text("storage: {features_gb: 0.5}")
    assert settings().feature_bytes == 5e8
