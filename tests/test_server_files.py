"""The files that docs/operations.md shows for proxies and systemd are what these programs read, where they are here."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs" / "operations.md"
WHOLE = """
error_log {folder}/error.log;
pid {folder}/nginx.pid;
events {{}}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/site.conf;
}}
"""


def shown(before: str) -> str:
    """The indented block below the line that begins so."""
    text = DOCS.read_text()
    assert before in text, f"operations.md has no line {before}"
    lines = text[text.index(before) :].splitlines()[1:]
    start = next(i for i, line in enumerate(lines) if line.startswith("    "))
    block = []
    for line in lines[start:]:
        if line.strip() and not line.startswith("    "):
            break
        block.append(line[4:])
    return "\n".join(block)


def run(*command: str, **more: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=more or None)
    return f"{done.returncode}: {done.stdout}{done.stderr}"


@pytest.mark.slow
@pytest.mark.skipif(not (shutil.which("nginx") and shutil.which("openssl")), reason="needs nginx")
def test_nginx_takes_its_file(tmp_path: Path) -> None:
    key, certificate = str(tmp_path / "key.pem"), str(tmp_path / "cert.pem")
    flags = ["-nodes", "-keyout", key, "-out", certificate, "-days", "1", "-subj", "/CN=nets"]
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", *flags], check=True)
    text = shown("nginx; `Host` must")
    text = text.replace("/etc/ssl/nets.pem", certificate).replace("/etc/ssl/nets.key", key)
    (tmp_path / "site.conf").write_text(text)
    (tmp_path / "nginx.conf").write_text(WHOLE.format(folder=tmp_path))
    assert "test is successful" in run("nginx", "-t", "-c", str(tmp_path / "nginx.conf"))


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("caddy"), reason="needs Caddy")
def test_caddy_takes_its_file(tmp_path: Path) -> None:
    (tmp_path / "Caddyfile").write_text(shown("Caddy, whole `Caddyfile`"))
    command = ["caddy", "validate", "--adapter", "caddyfile", "--config"]
    said = run(*command, str(tmp_path / "Caddyfile"), HOME=str(tmp_path), PATH="/usr/bin:/bin")
    assert said.startswith("0: "), said


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd")
def test_systemd_takes_its_unit(tmp_path: Path) -> None:
    unit = tmp_path / "dynafront.service"
    program = shutil.which("true") or ""
    text = shown("`/etc/systemd/system/dynafront.service`")
    unit.write_text(text.replace("/srv/dynafront/venv/bin/dynafront", program))
    assert run("systemd-analyze", "verify", str(unit)) == "0: "
