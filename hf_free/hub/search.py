"""Finding models on a Hub: by text, author, tag and library, or those that a collection lists."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from huggingface_hub import constants, get_session
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

from hf_free.errors import HubError
from hf_free.hub.answers import RepositoryInfo, read_collection, read_listing, read_repository
from hf_free.hub.endpoint import token_to_send
from hf_free.hub.failures import explain
from hf_free.hub.session import api_for, patiently

_LISTED: list[Any] = ["downloads", "likes", "tags", "private", "gated", "library_name", "siblings", "safetensors"]
"""Fields that a listing request asks for, for each model."""


@dataclass(frozen=True)
class FoundModel:
    """One result of a search."""

    repo_id: str
    downloads: int
    likes: int
    license: str | None
    private: bool
    gated: bool
    tags: tuple[str, ...]
    parameters: int | None = None
    """Number of weights in its safetensors files; None where the Hub's listing does not say."""
    weight_bytes: int | None = None
    """Bytes that they take; None likewise."""
    looks_usable: bool | None = None
    """Whether it is timm's and holds the two files of a teacher; None where the listing does not say."""


def search_models(
    *,
    query: str | None = None,
    author: str | None = None,
    tag: str | None = None,
    library: str | None = "timm",
    limit: int = 20,
    token: str | None = None,
) -> list[FoundModel]:
    """Search the Hub for models, most downloaded first.

    Raises:
        HubError: the Hub cannot be asked.
    """
    token = token_to_send(token)
    tags = [text for text in (library, tag) if text]
    probes = ["once"]  # its answer counts as a sign of life, so that repeated ones would make the waiting endless

    def ask() -> list[RepositoryInfo]:
        if probes:  # huggingface_hub's listing would retry a silent Hub for half a minute, with output of its own
            get_session().head(constants.ENDPOINT, timeout=10)
            probes.clear()
        models = api_for(token).list_models(
            search=query, author=author, filter=tags or None, sort="downloads", limit=limit, expand=_LISTED
        )
        found = [read_repository(model) for model in models]
        if not found:  # huggingface_hub takes an empty answer of any kind for a list of nothing
            address, headers = f"{constants.ENDPOINT}/api/models", build_hf_headers(token=token or False)
            again = get_session().get(
                address, params={"search": query or "", "limit": "1"}, headers=headers, timeout=10
            )
            hf_raise_for_status(again)
            read_listing(again.json())
        return found

    try:
        models = patiently(ask)
    except Exception as error:
        raise explain(error, "the search", token=token) from None
    return [
        FoundModel(
            repo_id=model.repo_id,
            downloads=model.downloads,
            likes=model.likes,
            license=next((text[8:] for text in model.tags if text.startswith("license:")), None),
            private=model.private,
            gated=model.gated,
            tags=model.tags,
            parameters=model.parameters_total,
            weight_bytes=None if model.parameters is None else weight_bytes_of(model.parameters),
            looks_usable=_looks_usable(model),
        )
        for model in models
    ]


def weight_bytes_of(counts: Mapping[str, int]) -> int:
    """Bytes of so many weights of each of safetensors' types, whose names hold their bits: F32, BF16, F8_E4M3."""
    bits = {name: re.search(r"\d+", name) for name in counts}  # BOOL names no bits; it takes a byte
    return sum(count * (int(found[0]) if (found := bits[name]) else 8) for name, count in counts.items()) // 8


def _looks_usable(model: RepositoryInfo) -> bool | None:
    """Whether a listed model is of timm or transformers and has the files of a teacher; None where none are listed.

    A classifier of transformers has a file beside its weights that says how it is shown pictures; text models have
    none.
    """
    if model.files is None:
        return None
    names = {file.name for file in model.files}
    has_weights, of = {"config.json", "model.safetensors"} <= names, (model.library, *model.tags)
    is_shown_pictures = bool({"preprocessor_config.json", "processor_config.json"} & names)
    return has_weights and ("timm" in of or ("transformers" in of and is_shown_pictures))


def models_of_collection(slug: str, *, token: str | None = None) -> list[str]:
    """The ids of the models in a collection of the Hub, in its order; data sets, papers and Spaces are passed over.

    Raises:
        HubError: no such collection, or a Hub that cannot be asked.
    """
    token = token_to_send(token)
    try:
        return patiently(lambda: read_collection(api_for(token).get_collection(slug)))
    except Exception as error:
        if isinstance(error, HfHubHTTPError) and error.response.status_code == 404:
            raise HubError(
                f"the Hub has no collection {slug}, or it is private",
                allowed="collection:org/slug, as the address of its page ends, e.g. org/birds-65f0c0ffee",
                action="check the slug; for a private collection give a token",
            ) from None
        raise explain(error, f"the collection {slug}", token=token) from None
