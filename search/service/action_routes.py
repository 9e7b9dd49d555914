"""Addresses of actions, which are POST alone, of jobs and of exports. `access` lets JSON alone through."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from search.service.actions import ACTIONS, Actions
from search.service.exported import Exported
from search.service.jobs import JobQueue, described
from search.service.study_check import choices
from storage.errors import StorageError
from storage.settings import Settings
from storage.store import Store

if TYPE_CHECKING:
    from flask import Blueprint, Response

JOBS = 50  # shown at once


def add_actions(routes: Blueprint, api: str, store: Store, settings: Settings) -> None:
    """All actions below `api`."""
    actions = Actions(store, settings, JobQueue(store, settings))
    for path in ACTIONS:
        routes.add_url_rule(
            f"{api}{path}", f"act {path[1:]}", partial(_answer, actions, path), methods=["POST"]
        )


def job_reads(
    store: Store, settings: Settings, asked: Callable[..., str], number: Callable[[str], int]
) -> dict[str, Callable[[], Any]]:
    """Reads of jobs and exports by path; `asked` gives what stands in the query, `number` reads an id."""
    queue, exported = JobQueue(store, settings), Exported(store, settings)

    def jobs() -> dict[str, Any]:
        queue.refresh()
        found = store.jobs.jobs(asked("study", "") or None, most=JOBS)
        return {"jobs": [described(job, queue) for job in found]}

    def job() -> dict[str, Any]:
        queue.refresh()
        found = queue.job(number(asked("id")))
        return described(found, queue) | {"log": queue.log(found)}

    return {
        "choices": lambda: choices(settings),
        "jobs": jobs,
        "job": job,
        "exports": lambda: {"exports": exported.exports(asked("study"))},
        "export": lambda: exported.export(asked("study"), number(asked("id"))),
    }


def add_download(
    routes: Blueprint,
    api: str,
    store: Store,
    settings: Settings,
    asked: Callable[..., str],
    number: Callable[[str], int],
) -> None:
    """The zip of an export, the one answer that is not JSON."""
    exported = Exported(store, settings)

    def download() -> Response | tuple[Response, int]:
        from flask import jsonify, send_file

        try:
            name, content = exported.archive(asked("study"), number(asked("id")))
        except ValueError as error:
            return jsonify({"error": str(error)}), 404
        return send_file(content, "application/zip", as_attachment=True, download_name=name)

    routes.add_url_rule(f"{api}/download", "read download", download)


def _answer(actions: Actions, path: str) -> tuple[Response, int]:
    from flask import jsonify, request

    try:
        answer = actions.run(path, request.get_json(silent=True))
    except ValueError as error:
        missing = str(error).startswith("there is no")
        return jsonify({"error": str(error)}), 404 if missing else 400
    except StorageError as error:
        return jsonify({"error": str(error)}), 503
    return jsonify(answer), 202 if "job" in answer else 200
