"""What the server's children get to know of its environment."""

from __future__ import annotations

from search.service.environment import job_environment, reader_environment
from storage.mlflow_server import SETTINGS_VARIABLE
from storage.settings import Settings

NEEDED = {
    "PATH": "/bin",
    "HOME": "/home/ann",
    "CUDA_VISIBLE_DEVICES": "1",
    "OMP_NUM_THREADS": "4",
    "DYNAFRONT_DATABASE": "sqlite:///a.db",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PHOTOS": "/srv/photos",  # a study's paths may name it
    "KEYBOARD": "us",
}
ACCOUNTS = {
    "AWS_SECRET_ACCESS_KEY": "s",
    "MLFLOW_TRACKING_PASSWORD": "p",
    "HF_TOKEN": "t",
    "GOOGLE_APPLICATION_CREDENTIALS": "/srv/key.json",
    "WANDB_API_KEY": "k",
}
SERVERS = {
    "MLFLOW_FLASK_SERVER_SECRET_KEY": "form",
    "MLFLOW_AUTH_ADMIN_PASSWORD": "admin",
    "MLFLOW_AUTH_CONFIG_PATH": "users.ini",
    "MLFLOW_SERVER_ALLOWED_HOSTS": "nets.lan",
    "DYNAFRONT_SERVER_USERS": "1",
    "_MLFLOW_SGI_NAME": "uvicorn",
}
ALL = NEEDED | ACCOUNTS | SERVERS


def test_a_command_gets_what_a_terminal_gives_it_and_nothing_of_the_servers() -> None:
    found = job_environment(Settings(), ALL)
    assert found.pop(SETTINGS_VARIABLE) == Settings().model_dump_json()
    assert found.pop("PYTHONUNBUFFERED") == "1"
    assert found == NEEDED | ACCOUNTS


def test_what_only_reads_gets_no_secret() -> None:
    found = reader_environment(Settings(), ALL)
    assert {name for name in ALL if name in found} == set(NEEDED)
    assert SETTINGS_VARIABLE in found, "where the database is"


def test_what_reads_checkpoints_from_a_store_has_its_account() -> None:
    given = {"AWS_SECRET_ACCESS_KEY": "s", "MY_PASSWORD": "p", "PATH": "/bin"}
    stored = Settings.model_validate({"storage": {"checkpoints": "s3://bucket/x"}})
    assert "AWS_SECRET_ACCESS_KEY" in reader_environment(stored, given)
    assert "MY_PASSWORD" not in reader_environment(stored, given)
    assert "AWS_SECRET_ACCESS_KEY" not in reader_environment(Settings(), given)
