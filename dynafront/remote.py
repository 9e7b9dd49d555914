"""Studies on a server of a team: the same calls as for those on this machine, over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dynafront.connection import Connection
from dynafront.launch import as_yaml
from dynafront.remote_job import followed
from dynafront.remote_point import RemotePoint

if TYPE_CHECKING:
    from pandas import DataFrame
    from plotly.graph_objects import Figure


class RemoteStudy:
    """A study on a server, by name. Every method asks anew, so that it also follows a search that still runs."""

    def __init__(self, name: str, connection: Connection) -> None:
        self.name, self.connection = name, connection

    def front(self, family: str | None = None) -> DataFrame:
        """The points that no other beats, the cheapest first: the rows of `dynafront front NAME --format csv`."""
        from pandas import DataFrame

        found = self.connection.get("front", study=self.name, family=family)
        return DataFrame(found["rows"], columns=found["columns"])

    def plot(self, family: str | None = None) -> Figure:
        """The front, the baselines and the other points as a plotly figure, drawn here.

        Raises ImportError that says what to install where there is no plotly.
        """
        from dynafront.figure import front_figure
        from search.front.offer import offer_of
        from search.front.within import Bounds
        from search.objectives import COSTS
        from search.service.wire import unpacked

        found = self.connection.get("picture", study=self.name, family=family)
        front, baselines = unpacked(found["front"]), unpacked(found["baselines"])
        cost, budget = COSTS[found["cost"]], Bounds(**found.get("budget", {}))
        return front_figure(
            self.name,
            unpacked(found["points"]),
            front=front,
            baselines=baselines,
            hypervolume=found["hypervolume"],
            cost=cost,
            majority=found["majority"],
            offer=offer_of(front, baselines, cost, budget),
        )

    def best(
        self,
        *,
        max_macs: float | str | None = None,
        max_latency_ms: float | None = None,
        min_accuracy: float | None = None,
        pick: str | None = None,
        family: str | None = None,
    ) -> RemotePoint:
        """One point of the front, as `dynafront export` picks it; see `dynafront.Study.best`."""
        from search.commands.choice import Choice, limit_text
        from search.service.wire import unpacked

        limit = None if max_macs is None else limit_text(max_macs)
        ms = None if max_latency_ms is None else str(max_latency_ms)
        choice = Choice(
            pick=pick,
            max_macs=limit,
            max_latency_ms=ms,
            min_accuracy=min_accuracy,
            family=family,
        )
        found = self.connection.get(
            "best",
            study=self.name,
            pick=pick,
            max_macs=limit,
            max_latency_ms=ms,
            min_accuracy=min_accuracy,
            family=family,
        )
        (record,) = unpacked(found["point"])
        return RemotePoint(record, choice, self)

    def status(self) -> dict[str, Any]:
        """Trials by state, time spent and left, failures: what `dynafront status NAME --json` prints, and more."""
        found: dict[str, Any] = self.connection.get("study", study=self.name)
        return found

    def stop(self) -> None:
        """Stop the search as Ctrl-C does: at most the epochs under way are lost. Raises ValueError where none runs."""
        self.connection.post("stop", study=self.name)

    def resume(self, *, workers: int | None = None, retry_failed: bool = False) -> None:
        """Go on with the search, in the background of the server."""
        self.connection.post(
            "resume", study=self.name, workers=workers, retry_failed=retry_failed or None
        )

    def add_trials(self, trials: int) -> None:
        """Go on with the search, which may take so many trials more."""
        self.connection.post("more", study=self.name, trials=trials)

    def __repr__(self) -> str:
        title = self.connection.get("study", study=self.name)["title"]
        return f"Study({self.name!r} at {self.connection.address}): {title.removeprefix(f'{self.name}: ')}"


class Server:
    """What `dynafront.connect` gives: the calls of `dynafront`, on the server's studies."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        connection.get("user")  # that it is one of ours, and knows the account

    def studies(self) -> list[RemoteStudy]:
        """All studies, in the order in which they were begun."""
        found = self.connection.get("studies")["studies"]
        return [RemoteStudy(one["study"], self.connection) for one in reversed(found)]

    def study(self, name: str) -> RemoteStudy:
        """The study of this name. Raises ValueError where there is none."""
        self.connection.get("study", study=name)
        return RemoteStudy(name, self.connection)

    def search(
        self,
        file: Path | str | None = None,
        *,
        workers: int | None = None,
        baselines: bool = False,
        wait: bool = False,
        show: bool = True,
        **keys: Any,
    ) -> RemoteStudy:
        """Launch a study on the server, or go on with it there. Returns it as soon as it has begun.

        The study is a study file of this machine, or the keys of one as keywords. `data` is where the images are on
        the server. With `wait` it returns when the search has ended. Raises ValueError, with the reason of the server,
        where the study cannot be begun, and RuntimeError where nothing came of the search.
        """
        from search.spec import parse_study

        text = _text(file, keys)
        spec = parse_study(text, "search()" if file is None else str(file))
        known = spec.study in (one.name for one in self.studies())
        job = self.connection.post(
            "launch", text=text, workers=workers, baselines=baselines or None
        )["job"]

        def begun() -> bool:
            if known:  # whether its file is refused is not known before it is searched
                return str(self.connection.get("study", study=spec.study)["state"]) == "searching"
            return spec.study in (one.name for one in self.studies())

        followed(self.connection, job, show=show, enough=None if wait else begun)
        return RemoteStudy(spec.study, self.connection)

    def __repr__(self) -> str:
        return f"Server({self.connection.address!r})"


def connect(address: str, *, user: str | None = None, password: str | None = None) -> Server:
    """The studies of a server that `dynafront serve` or `dynafront ui` runs.

    Without `user` and `password`, those of the variables MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD. Raises
    ValueError for a wrong address or account, and ConnectionError where nothing answers.
    """
    return Server(Connection(address, user, password))


def _text(file: Path | str | None, keys: dict[str, Any]) -> str:
    """The study file's text. Raises ValueError."""
    from storage.yaml_text import file_text

    if (file is None) == (not keys):
        raise ValueError("search(): give a study file, or all keys as keywords")
    if file is not None:
        try:
            return file_text(Path(file).expanduser())
        except OSError as error:
            raise ValueError(f"{file}: cannot be read ({error.strerror})") from None
    data = keys.get("data")
    if not isinstance(data, str | Path):
        raise ValueError(
            "data: give where the images are on the server, or the name of a known set"
        )
    if isinstance(data, Path):
        keys = keys | {"data": f"folder:{data}"}
    return as_yaml(keys)
