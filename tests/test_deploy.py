"""Files for Docker, Kubernetes and SLURM: what they name exists, and the tools that read them take them."""

from __future__ import annotations

import base64
import http.client
import os
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

from storage.settings import settings
from tests.search.run.ray_nodes import free_ports

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
PASSWORD = "one that is long enough"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def instructions(name: str) -> list[str]:
    """The arguments of all instructions of this name in the Dockerfile."""
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    return [line.split(maxsplit=1)[1] for line in lines if line.startswith(f"{name} ")]


def test_the_image_has_all_packages_and_what_the_service_and_clusters_need() -> None:
    copied = {words.split()[0] for words in instructions("COPY")}
    assert set(PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) <= copied
    (installed,) = [text for text in instructions("RUN") if "'." in text]
    extras = installed.split("[")[1].split("]")[0].split(",")
    assert set(extras) <= set(PROJECT["project"]["optional-dependencies"])
    assert {"postgres", "ray", "s3", "serve"} <= set(extras)
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line[0] == "!"}
    assert {name for words in instructions("COPY") for name in words.split()[:-1]} <= sent


def test_the_services_keep_what_they_must_and_answer_this_machine_alone() -> None:
    found = yaml.safe_load((DEPLOY / "compose.yml").read_text())
    service = found["services"]["dynafront"]
    assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
    assert service["ports"] == ["127.0.0.1:5000:5000"]
    named = {v.split(":")[0] for s in found["services"].values() for v in s["volumes"]}
    assert {name for name in named if not name.startswith(".")} == set(found["volumes"])
    databases = {name for name in found["services"] if name.endswith("database")}
    assert databases == set(service["depends_on"])
    urls = " ".join(service["environment"].values())
    assert all(f"@{name}/" in urls for name in databases)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[int]:
    """The port of the server that the services start, as its command, settings and environment say.

    Of these only what lies outside its container is another: the port, the two databases, the folder of the file with
    the password.
    """
    service = yaml.safe_load((DEPLOY / "compose.yml").read_text())["services"]["dynafront"]
    (work,) = instructions("WORKDIR")[1:]
    files = {v.split(":")[1]: DEPLOY / v.split(":")[0] for v in service["volumes"]}
    shutil.copy(files[f"{work}/mlflow.yml"], tmp_path)
    (password,) = service["secrets"]
    (tmp_path / password).write_text(f"{PASSWORD}\n")
    (tmp_path / password).chmod(0o600)
    program, *words = [word.replace("/run/secrets", str(tmp_path)) for word in service["command"]]
    assert program == "dynafront"
    databases = {name: f"sqlite:///{tmp_path / name}.db" for name in service["environment"]}
    (port,) = free_ports(1)
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", program, *words, "--port", str(port)],
            cwd=tmp_path,
            env=os.environ | databases,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        end = time.monotonic() + 180
        while "ready; Ctrl-C stops it" not in (said := (tmp_path / "log").read_text()):
            assert process.poll() is None, said
            assert time.monotonic() < end, said
            time.sleep(0.2)
        yield port
    finally:
        process.terminate()
        process.wait(60)


def status(port: int, path: str, host: str, password: str = "") -> int:
    """What it answers to one who calls it by this name."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    account = base64.b64encode(f"admin:{password}".encode()).decode()
    headers = {"Host": host} | ({"Authorization": f"Basic {account}"} if password else {})
    try:
        connection.request("GET", path, headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.slow
def test_the_services_answer_at_localhost_out_of_the_box_and_to_no_other_name(server: int) -> None:
    pytest.importorskip("flask_wtf")
    pages = "/dynafront/"
    assert status(server, "/health", f"localhost:{server}") == 200
    assert status(server, pages, f"localhost:{server}") == 401, "everyone signs in"
    for name in (f"localhost:{server}", f"127.0.0.1:{server}", f"dynafront:{server}"):
        assert status(server, pages, name, PASSWORD) == 200, name
    assert status(server, pages, f"nets.example.org:{server}", PASSWORD) == 403


def test_the_pages_may_name_the_images_that_the_services_see() -> None:
    found = yaml.safe_load((DEPLOY / "compose.yml").read_text())
    mounted = [v.split(":")[1] for v in found["services"]["dynafront"]["volumes"] if "images" in v]
    assert tuple(mounted) == settings(DEPLOY / "mlflow.yml", {}).server.data_folders


def compose() -> list[str] | None:
    """Docker Compose, as Docker's plugin or as a program of its own; the first version reads another format."""
    for words in (["docker", "compose"], ["docker-compose"]):
        program = shutil.which(words[0])
        if program is None:
            continue
        command = [program, *words[1:]]
        said = subprocess.run([*command, "version", "--short"], capture_output=True, text=True)
        if said.returncode == 0 and not said.stdout.startswith("1."):
            return command
    return None


def test_docker_takes_the_services() -> None:
    command = compose()
    if command is None:
        pytest.skip("Docker Compose 2 is not installed")
    done = subprocess.run(
        [*command, "-f", str(DEPLOY / "compose.yml"), "config", "--quiet"],
        env={"POSTGRES_PASSWORD": "p", "PATH": str(Path(command[0]).parent)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def manifests() -> dict[str, Any]:
    found = yaml.safe_load_all((DEPLOY / "kuberay.yaml").read_text())
    return {one["kind"]: one for one in found}


def test_all_machines_of_the_cluster_have_the_folder_of_the_searches() -> None:
    found = manifests()
    cluster = found["RayCluster"]["spec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    claim = found["PersistentVolumeClaim"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    (work,) = instructions("WORKDIR")[1:]
    for group in groups:
        pod = group["template"]["spec"]
        (volume,) = [v["name"] for v in pod["volumes"] if "persistentVolumeClaim" in v]
        (container,) = pod["containers"]
        assert {"name": volume, "mountPath": work} in container["volumeMounts"]
        assert container["resources"]["requests"] == container["resources"]["limits"]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


# of KubeRay's RayCluster (ray.io/v1), the fields that the manifest has: other names are mistakes
GROUP = {
    "type": "object",
    "required": ["rayStartParams", "template"],
    "properties": {
        # values are words of a command line
        "rayStartParams": {"type": "object", "additionalProperties": {"type": "string"}},
        "template": {
            "type": "object",
            "required": ["spec"],
            "properties": {"metadata": {"type": "object"}, "spec": {"type": "object"}},
            "additionalProperties": False,
        },
    },
}
COUNT = {"type": "integer", "minimum": 0}
WORKERS = GROUP | {
    "required": [*GROUP["required"], "groupName", "minReplicas", "maxReplicas"],
    "properties": GROUP["properties"]
    | {"groupName": {"type": "string"}}
    | dict.fromkeys(("replicas", "minReplicas", "maxReplicas"), COUNT),
    "additionalProperties": False,
}
RAY_CLUSTER = {
    "type": "object",
    "required": ["headGroupSpec"],
    "properties": {
        "rayVersion": {"type": "string", "pattern": r"^\d+\.\d+\.\d+$"},
        "enableInTreeAutoscaling": {"type": "boolean"},
        "autoscalerOptions": {
            "type": "object",
            "properties": {"idleTimeoutSeconds": COUNT},
            "additionalProperties": False,
        },
        "headGroupSpec": GROUP | {"additionalProperties": False},
        "workerGroupSpecs": {"type": "array", "items": WORKERS},
    },
    "additionalProperties": False,
}


def test_kuberay_takes_the_cluster() -> None:
    cluster = manifests()["RayCluster"]
    assert cluster["apiVersion"] == "ray.io/v1"
    jsonschema.validate(cluster["spec"], RAY_CLUSTER)
    for group in cluster["spec"]["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def test_kubernetes_takes_the_machines_of_the_cluster() -> None:
    check = pytest.importorskip("kubernetes_validate")
    cluster = manifests()["RayCluster"]["spec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one"}, **group["template"]}
        check.validate(pod, "1.31", strict=True)


def test_the_image_has_the_version_of_ray_that_the_cluster_is_told() -> None:
    (installed,) = [text for text in instructions("RUN") if "ray==" in text]
    version = installed.split("ray==")[1].split()[0]
    assert version == manifests()["RayCluster"]["spec"]["rayVersion"]
    (extra,) = PROJECT["project"]["optional-dependencies"]["ray"]
    assert Requirement(extra).specifier.contains(version)
    assert Requirement(extra).extras == {"default"}, "which has `ray job submit`"


def test_the_operator_that_is_installed_is_named_once() -> None:
    named = set[str]()
    for text in ((ROOT / "docs" / "cluster.md").read_text(), (DEPLOY / "kuberay.yaml").read_text()):
        (line,) = [one for one in text.splitlines() if "helm install" in one]
        named.add(line.split(" --version ")[1])
    (version,) = named
    assert Version(version) >= Version("1.6"), "before, its probes needed wget in the image"


def test_what_is_searched_in_the_cluster_was_copied_there_before() -> None:
    text = (ROOT / "docs" / "cluster.md").read_text()
    section = text.split("\n## Kubernetes\n")[1].split("\n## ")[0]
    commands = [line.strip() for line in section.splitlines() if line.startswith("    ")]
    copied, used = set[str](), set[str]()
    (work,) = instructions("WORKDIR")[1:]
    for command in commands:
        if command.startswith("kubectl cp "):
            *_, source, to = command.split()
            assert to == f'"$head":{work}/{source}'
            copied.add(source)
        elif " dynafront search " in command:
            name = command.split(" dynafront search ")[1].split()[0]
            assert name in copied, command
            used.add(name)
    (file,) = used
    assert f"data: folder:{work}/{file.removesuffix('.yml')}" in section
    assert copied == {file, file.removesuffix(".yml")}


def test_kubernetes_takes_what_is_its_own() -> None:
    check = pytest.importorskip("kubernetes_validate")
    check.validate(manifests()["PersistentVolumeClaim"], "1.31", strict=True)


def test_the_shell_reads_the_slurm_script_and_it_searches_on_ray() -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash")
    subprocess.run([bash, "-n", DEPLOY / "slurm.sh"], check=True)
    text = (DEPLOY / "slurm.sh").read_text()
    assert "ray symmetric-run" in text
    assert "--engine ray" in text
    for option in ("--cpus-per-task=", "--signal=B:TERM@"):
        assert f"#SBATCH {option}" in text
