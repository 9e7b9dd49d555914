"""dynafront from Python: search, look at the front, pick a point, export it, use the model.

    study = dynafront.search("photos.yml")
    study.plot()
    model = study.best(max_macs=20e6).export("exported")
    model("photo.jpg")

`dynafront.connect("http://HOST:5000")` has the same calls for the studies of a server.

The names are those of the command line. Importing this loads nothing that trains: a call that needs torch or MLflow
imports them then. What a person can put right is a ValueError of one line; a database or an MLflow that cannot do what
was asked is a StorageError.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dynafront.own_names import check_own_names

check_own_names()

from dynafront.launch import search  # noqa: E402
from dynafront.model import Model, Prediction, load  # noqa: E402
from dynafront.point import Point  # noqa: E402
from dynafront.remote import Server, connect  # noqa: E402
from dynafront.stored import Study, studies, study  # noqa: E402

if TYPE_CHECKING:
    from storage.errors import StorageError

__all__ = [
    "Model",
    "Point",
    "Prediction",
    "Server",
    "StorageError",
    "Study",
    "connect",
    "load",
    "search",
    "studies",
    "study",
]


def __getattr__(name: str) -> Any:
    """StorageError when it is asked for: SQLAlchemy comes with it, and takes half a second."""
    if name != "StorageError":
        raise AttributeError(f"module 'dynafront' has no attribute {name!r}")
    from storage.errors import StorageError

    return StorageError
