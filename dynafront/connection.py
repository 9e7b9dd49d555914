"""Asking a server of dynafront over HTTP: JSON both ways, and one line where it refuses."""

from __future__ import annotations

import os
from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from requests import Response

API = "/api/3.0/dynafront/"
PAGES = "/dynafront"
PATIENCE = 60.0  # seconds until an answer begins; a front of many points takes one or two
BLOCK = 1 << 20  # bytes of a download in memory


class Connection:
    """A server by its address, and the account that asks. Raises ValueError where the address is none."""

    def __init__(self, address: str, user: str | None, password: str | None) -> None:
        from requests import Session

        self.address = _root(address)
        user = user or os.environ.get("MLFLOW_TRACKING_USERNAME")
        password = password or os.environ.get("MLFLOW_TRACKING_PASSWORD")
        self._session = Session()
        self._session.trust_env = False  # neither a proxy nor the passwords of ~/.netrc
        self._session.headers["Accept"] = "application/json"
        self._signed_in = user is not None
        if user is not None:
            # by hand: requests takes text for Latin-1, servers take it for UTF-8
            account = b64encode(f"{user}:{password or ''}".encode()).decode()
            self._session.headers["Authorization"] = f"Basic {account}"

    def get(self, path: str, **query: Any) -> Any:
        """What stands at a path, asked with what is not None. Raises ValueError, ConnectionError, StorageError."""
        return self._asked("GET", path, params=_given(query)).json()

    def post(self, path: str, **body: Any) -> Any:
        """The answer to an action; raises as `get`."""
        return self._asked("POST", path, json=_given(body)).json()

    def download(self, path: str, file: Path, **query: Any) -> None:
        """Write what stands at a path into a file; raises as `get`."""
        answer = self._asked("GET", path, params=_given(query), stream=True)
        with answer, file.open("wb") as output:
            for block in answer.iter_content(BLOCK):
                output.write(block)

    def _asked(self, method: str, path: str, **content: Any) -> Response:
        from requests import RequestException

        try:
            answer = self._session.request(
                method, f"{self.address}{API}{path}", timeout=PATIENCE, **content
            )
        except RequestException as error:
            raise ConnectionError(
                f"{self.address} does not answer ({type(error).__name__}); see that the server runs, and its address"
            ) from None
        if not answer.ok:
            raise self._complaint(answer)
        if "json" not in answer.headers.get("Content-Type", "") and not content.get("stream"):
            raise ValueError(f"{self.address} is no server of dynafront: it answers with a page")
        return answer

    def _complaint(self, answer: Response) -> Exception:
        """The server's own line, or what its status means."""
        try:
            said = str(answer.json()["error"])
        except (ValueError, KeyError, TypeError):
            said = ""
        if answer.status_code == 401:
            given = "wrong user or password" if self._signed_in else "it asks who you are"
            return ValueError(f"{self.address}: {given}: connect(..., user=..., password=...)")
        if answer.status_code == 404 and not said:
            return ValueError(f"{self.address} is no server of dynafront, or of another version")
        if answer.status_code < 500:
            return ValueError(said or f"{self.address} refuses: {answer.status_code}")
        from storage.errors import StorageError

        return StorageError(f"{self.address}: {said or f'it failed ({answer.status_code})'}")


def _root(address: str) -> str:
    """The address without its pages' path. Raises ValueError."""
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{address!r} is no address of a server: write http://HOST:5000")
    if "@" in parts.netloc:
        raise ValueError(
            "the address holds a name or a password: give user=... and password=... instead"
        )
    return f"{parts.scheme}://{parts.netloc}{parts.path.partition(PAGES)[0].rstrip('/')}"


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
