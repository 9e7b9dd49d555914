"""What an action is told, as JSON: checked before anything else is looked at."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from storage.yaml_text import clipped

Name = Annotated[str, Field(min_length=1, max_length=200, description="The study's name.")]
Text = Annotated[
    str, Field(min_length=1, max_length=200_000, description="A study file's text, YAML.")
]
File = Annotated[
    str,
    Field(min_length=1, max_length=500, description="A study file below the data folder."),
]
Workers = Annotated[int, Field(ge=0, le=256)] | None
Id = Annotated[int, Field(ge=1, lt=2**31)]


class Body(BaseModel):
    """Nothing but the fields that are named here, of exactly their types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class CheckBody(Body):
    """A study file to check at once: its keys, its space, and the paths in it."""

    text: Text


class EditBody(Body):
    """A study file and what to change in it: values by dotted key, null to take a key out."""

    text: Text
    changes: Annotated[dict[str, Any], Field(max_length=50)]


class EstimateBody(Body):
    """A study file whose time and disk are to be estimated, by timing a few training steps."""

    text: Text
    workers: Workers = None


class SuggestBody(Body):
    """Images and hours, for which a study file is to be written."""

    data: Annotated[str, Field(min_length=1, max_length=500)]
    hours: Annotated[float, Field(gt=0, le=10_000, strict=False)] = 2.0


class LaunchBody(Body):
    """A study to launch: the text of its file, or a file below the data folder. One of a known name goes on."""

    text: Text | None = None
    file: File | None = None
    workers: Workers = None
    baselines: bool = False


class StudyBody(Body):
    """Which study is meant."""

    study: Name


class ResumeBody(StudyBody):
    """A study to go on with; failed trials are trained again with `retry_failed`."""

    workers: Workers = None
    retry_failed: bool = False


class TrialsBody(StudyBody):
    """How many more trials the study may take."""

    trials: Annotated[int, Field(ge=1, le=100_000)]


class DeleteBody(StudyBody):
    """A study to delete for good; `confirm` repeats its name. `mlflow`: its runs in MLflow too."""

    confirm: Name
    mlflow: bool = False


class PointBody(StudyBody):
    """A point of a study, by its id."""

    point: Id


class ExportBody(PointBody):
    """A point to export; see the flags of `dynafront export`: all points of its training, other number formats."""

    whole_curve: bool = False
    quantize: Annotated[list[Literal["int8", "float16", "bfloat16"]], Field(max_length=3)] = []


class JobBody(Body):
    """Which job is meant."""

    job: Id


def checked_body(kind: type[Body], content: Any) -> Any:
    """The body as its model. Raises ValueError, one line that names the field."""
    if not isinstance(content, dict):
        raise ValueError("the body must be a JSON object")
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = clipped(".".join(map(str, first["loc"]))) or "body"
        if first["type"] == "extra_forbidden":
            raise ValueError(
                f"{key}: no such field; known: {', '.join(kind.model_fields)}"
            ) from None
        raise ValueError(f"{key}: {first['msg'][0].lower()}{first['msg'][1:]}") from None
