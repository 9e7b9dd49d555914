"""Where the published weights of a timm model come from: the Hugging Face hub's cache, or the hub if it answers."""

from __future__ import annotations

from typing import Any

from spaces.contract.error_lines import first_line

HUB_SECONDS = (
    5.0  # to answer; huggingface_hub itself waits for most of a minute, five times in a row
)
FILES = (
    "model.safetensors",
    "pytorch_model.bin",
)  # in which the hub keeps weights, the first first
ELSEWHERE = (
    "copy its cache from a machine that has run once with them (HF_HOME says where the cache lies), or write "
    "`pretrained: false` and name a file in `init_from`"
)


def pretrained_arguments(name: str) -> dict[str, Any]:
    """What `timm.create_model` takes to make this model with its published weights.

    Weights in the cache are read from there, and nothing is asked of the hub. Raises ValueError at once where they are
    not and the hub cannot be reached.
    """
    import timm

    config = timm.models.get_pretrained_cfg(name)
    if config is None or not config.hf_hub_id:  # without weights, or with an address of their own
        return {"pretrained": True}
    repository, _, revision = config.hf_hub_id.partition("@")
    files = _names(config.hf_hub_filename)
    if (file := _cached(repository, revision or None, files)) is not None:
        # a loader of its own is for the file at the other address, unless it is the hub's
        loader = config.custom_load if config.custom_load == "hf" else False
        return {
            "pretrained": True,
            "pretrained_cfg_overlay": {"file": file, "custom_load": loader},
        }
    _ask_hub(name, repository, files[-1])
    return {"pretrained": True}


def _names(own: str | None) -> tuple[str, ...]:
    return (f"{own.rpartition('.')[0]}.safetensors", own) if own else FILES


def _cached(repository: str, revision: str | None, files: tuple[str, ...]) -> str | None:
    from huggingface_hub import try_to_load_from_cache

    for file in files:
        found = try_to_load_from_cache(repository, file, revision=revision)
        if isinstance(found, str):
            return found
    return None


def _ask_hub(name: str, repository: str, file: str) -> None:
    """Raise ValueError where there is no way to the hub; what it answers does not matter here."""
    from huggingface_hub import get_session, hf_hub_url

    url = hf_hub_url(repository, file)
    try:
        get_session().head(url, timeout=HUB_SECONDS)
    except Exception as error:  # of whichever library huggingface_hub sends requests with
        reason = first_line(error).rstrip(".")
        host = "/".join(url.split("/")[:3])
        raise ValueError(
            f"pretrained: the weights of {name} are not on this machine, and {host} cannot be reached ({reason}); "
            f"{ELSEWHERE}"
        ) from None
