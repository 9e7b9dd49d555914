"""Files for Docker, Kubernetes and SLURM: what they name exists, and the tools that read them take them."""

from __future__ import annotations

import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
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
    assert {"postgres", "ray", "serve"} <= set(extras)
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


def test_kubernetes_takes_what_is_its_own() -> None:
    check = pytest.importorskip("kubernetes_validate")
    check.validate(manifests()["PersistentVolumeClaim"], "1.31", strict=True)


def test_the_shell_reads_the_slurm_script_and_it_searches_on_ray() -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash")
    subprocess.run([bash, "-n", DEPLOY / "slurm.sh"], check=True)
    assert "ray symmetric-run" in (DEPLOY / "slurm.sh").read_text()
    assert "--engine ray" in (DEPLOY / "slurm.sh").read_text()
