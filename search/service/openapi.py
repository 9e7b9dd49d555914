"""The REST interface as an OpenAPI document, made from the models of what it answers."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from search.service.access import API
from search.service.actions import ACTIONS
from search.service.bodies import Body
from search.service.job_models import ACTED, JOB_ANSWERS, Started
from search.service.models import ANSWERS, Error
from search.service.read_models import READ_ANSWERS

BINARY = {"/download": "application/zip", "/inspected.html": "text/html", "/image": "image/png"}
SCHEMAS = "#/components/schemas/"
UNCHANGED = ("/points", "/trials", "/growth")  # have an ETag
WRONG = {
    "400": "what was asked for cannot be",
    "401": "the server has users: a name and a password are needed",
    "403": "the server has users: this is for admins; or it has none, and answers its own machine alone",
    "404": "there is no such study, job or export",
    "413": "the body is too large",
    "415": "the body is no JSON",
    "503": "a database cannot be read",
}
STUDY = {"study": "the study's name"}
POINT = STUDY | {"id": "the point's number"}
FAMILY = {"family?": "this family alone"}
# path below /api/3.0/dynafront: what it gives, and what stands in the query; optional names end with "?"
PATHS: dict[str, tuple[str, dict[str, str]]] = {
    "/studies": ("every study: state, progress, a small front", {}),
    "/study": ("one study: state, title, axes", STUDY),
    "/points": ("the front, the baselines and other points of a study; has an ETag", STUDY),
    "/point": (
        "one point: its trial's curve, and the baseline beside it",
        STUDY | {"id": "its number"},
    ),
    "/answer": (
        "the most accurate point within a budget, in words",
        STUDY | {"max": "the budget, such as 20M", "axis?": "a cost; the study's own by default"},
    ),
    "/trials": ("a row for each training; has an ETag", STUDY),
    "/growth": ("hypervolume after each training that ended; has an ETag", STUDY),
    "/trial": (
        "one training: its curves by epoch, its points, every attempt that failed",
        STUDY | {"number": "its number", "kind?": "search, static or finalist; search by default"},
    ),
    "/why": ("importance of each dimension, and all trainings with their settings", STUDY),
    "/compare": (
        "two to four studies beside each other, in the words of dynafront compare",
        {"study": "a study's name; once for each"},
    ),
    "/inspected": ("what a point's network does with images, as far as it was measured", POINT),
    "/inspected.html": ("all of that as a page", POINT),
    "/image": (
        "one of those images, as PNG",
        POINT | {"row": "cheapest, dearest or wrong", "number": "which of them, from 0"},
    ),
    "/choices": ("what a new study can be made of, and a text to begin with", {}),
    "/jobs": ("the newest jobs, of all studies or of one", {"study?": "the study's name"}),
    "/job": ("one job, with the end of its log", {"id": "its number"}),
    "/exports": ("the exported models of a study", STUDY),
    "/export": (
        "one exported model: what was measured, its card, how to use it",
        STUDY | {"id": "its number"},
    ),
    "/download": ("the files of an exported model, as a zip", STUDY | {"id": "its number"}),
    "/front": ("the front as a table", STUDY | FAMILY),
    "/picture": ("what a picture of the front is drawn from", STUDY | FAMILY),
    "/best": (
        "the point that `dynafront export` would pick",
        STUDY
        | FAMILY
        | {
            "pick?": "efficient, equal, best, fastest or knee",
            "max_macs?": "a limit, such as 20M",
            "max_latency_ms?": "a limit, such as 1.5",
            "min_accuracy?": "a limit between 0 and 1",
        },
    ),
    "/user": ("who asks, and whether that account may change something", {}),
    "/openapi.json": ("this document", {}),
}
# what a POST to the address of a read does; its body is any JSON
MEASURED = {"/inspected": "measure the point's network on images, unless it was"}


def document() -> dict[str, Any]:
    """OpenAPI 3.1: all reads and actions, with what they need and what they answer."""
    paths = {path: {"get": _read(path, *what)} for path, what in PATHS.items()}
    for path, summary in MEASURED.items():
        asked = {"requestBody": {"content": {"application/json": {"schema": {"type": "object"}}}}}
        name = {"operationId": f"measure-{path.strip('/')}"}
        paths[path]["post"] = _read(path, summary, PATHS[path][1]) | asked | name
        paths[path]["post"]["responses"] |= errors("413", "415")
    for path, (summary, body, _) in ACTIONS.items():
        paths.setdefault(path, {})["post"] = _action(path, summary, body)
    return {
        "openapi": "3.1.0",
        "info": {"title": "dynafront", "version": _version()},
        "servers": [{"url": API}],
        "security": [{}, {"account": []}],
        "paths": paths,
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {"account": {"type": "http", "scheme": "basic"}},
        },
    }


def _read(path: str, summary: str, query: dict[str, str]) -> dict[str, Any]:
    codes = ("400", "401", "403", "404", "503") if query else ("401", "403", "503")
    answers = {"200": content(summary, _model_of(path))} | errors(*codes)
    if path in BINARY:
        answers["200"]["content"] = {
            BINARY[path]: {"schema": {"type": "string", "format": "binary"}}
        }
    if path in UNCHANGED:
        answers["304"] = {"description": "as If-None-Match has it"}
    return {
        "operationId": path.strip("/").partition(".")[0],
        "summary": summary,
        "parameters": [_parameter(name, text) for name, text in query.items()],
        "responses": answers,
    }


def _action(path: str, summary: str, body: type[Body]) -> dict[str, Any]:
    answer = ACTED.get(path, Started)
    status = "202" if answer is Started else "200"
    schema = {"$ref": f"{SCHEMAS}{body.__name__}"}
    return {
        "operationId": f"act-{path.strip('/')}",
        "summary": summary,
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": {status: content(summary, answer)}
        | errors("400", "401", "403", "404", "413", "415", "503"),
    }


def _parameter(name: str, text: str) -> dict[str, Any]:
    return {
        "name": name.rstrip("?"),
        "in": "query",
        "required": not name.endswith("?"),
        "description": text,
        "schema": {"type": "string"},
    }


def _model_of(path: str) -> type[BaseModel] | None:
    return (ANSWERS | READ_ANSWERS | JOB_ANSWERS).get(path)


def content(text: str, model: type[BaseModel] | None) -> dict[str, Any]:
    """An answer in JSON: of a model, or any object."""
    schema = {"$ref": f"{SCHEMAS}{model.__name__}"} if model else {"type": "object"}
    return {"description": text, "content": {"application/json": {"schema": schema}}}


def errors(*codes: str) -> dict[str, Any]:
    """Answers that say in one line what is wrong."""
    return {code: content(WRONG[code], Error) for code in codes}


def _schemas() -> dict[str, Any]:
    answers: set[type[BaseModel]] = {
        Error,
        Started,
        *ANSWERS.values(),
        *JOB_ANSWERS.values(),
        *READ_ANSWERS.values(),
        *ACTED.values(),
    }
    models: list[Any] = [
        (model, "serialization") for model in sorted(answers, key=lambda one: one.__name__)
    ]
    models += [(body, "validation") for _, body, _ in ACTIONS.values()]
    _, found = models_json_schema(models, ref_template=f"{SCHEMAS}{{model}}")
    schemas: dict[str, Any] = found["$defs"]
    return schemas


def _version() -> str:
    try:
        return version("dynafront")
    except PackageNotFoundError:
        return "0"
