"""What `jidoka doctor` says of language models: are the files as they must be, does a server keep to a schema."""

from __future__ import annotations

from importlib.util import find_spec

from connectors.check import Check, failed
from connectors.reasoners.memory import check_room
from connectors.reasoners.weights import find
from pipelines.remote_model import RemoteModel
from schemas.errors import ConfigError, ConnectionFault
from schemas.settings import ReasonerSettings, ServerSettings, TransformersSettings

NEEDED = ("torch", "transformers", "llguidance", "safetensors", "accelerate")
"""Packages of the extra `model`."""


async def check_models(settings: ReasonerSettings) -> list[Check]:
    """Look at every model that is configured, whether a tier names it or not. No weights are read."""
    return [
        *(_files(model) for model in settings.transformers),
        *[await _server(server) for server in settings.servers],
    ]


def _files(settings: TransformersSettings) -> Check:
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        return Check(settings.name, False, f"{', '.join(missing)} not installed", "pip install 'jidoka[model]'")
    try:
        folder = find(settings)
        if settings.device == "cpu":
            check_room(settings, folder)
    except ConfigError as error:
        return Check(settings.name, False, f"{error.field}: {error.problem}", error.remedy)
    except ConnectionFault as error:
        return failed(settings.name, error)
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    pinned = "pinned by sha256" if settings.sha256 else "not pinned: any weights there are loaded"
    return Check(settings.name, True, f"{size / 1e9:.2f} GB of weights in {folder}, {pinned}")


async def _server(settings: ServerSettings) -> Check:
    try:
        refusal = await RemoteModel(settings).ready()
    except ConfigError as error:
        return Check(settings.name, False, f"{error.field}: {error.problem}", error.remedy)
    if refusal:
        remedy = f"Start {settings.server} at {settings.url} with guided decoding, or correct url, model and key_file."
        return Check(settings.name, False, refusal, remedy)
    how = "keeps to a schema" if settings.enforced else "is not asked to keep to a schema; every answer is parsed"
    return Check(settings.name, True, f"{settings.server} at {settings.url} {how}")
