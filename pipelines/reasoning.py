"""Which reasoner answers which tier of which cell, by `jidoka.toml`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence

from agent.ports import Reasoner
from agent.reasoning.repertoire import Repertoire, repertoire_of
from connectors.reasoners import REASONERS
from connectors.reasoners.cascade import Cascade
from connectors.reasoners.embedded_model import EMBEDDED, embedded_settings, installed
from connectors.reasoners.weights import find
from pipelines.asking import SentenceReader
from pipelines.config import Configuration
from pipelines.local_model import LocalModel
from pipelines.model_reasoner import Lines, ModelReasoner, PlanCache, unusable
from pipelines.questions import Model
from pipelines.remote_model import REFUSED_FOR_S, RemoteModel
from schemas.errors import ConfigError
from schemas.plans import Post
from schemas.plant import Cell

LOG = logging.getLogger("jidoka.reasoning")


class Reasoners:
    """The models of one process, loaded once, and what asks them for each cell."""

    def __init__(
        self,
        configuration: Configuration,
        *,
        models: Mapping[str, Model] | None = None,
        embedded: bool | None = None,
    ) -> None:
        """Begin to load the models that are named by a tier.

        Args:
            configuration: Which reasoners, and what they are asked about.
            models: Loaded before, for another configuration; None: load them.
            embedded: Whether the embedded model is asked by default; None: if it can be loaded here.

        Raises:
            ConfigError: a model's files are missing or not as they must be.
        """
        self._configuration = configuration
        self._settings = configuration.settings.reasoners
        self._embedded = installed() if embedded is None else embedded
        self._cache, self._lines = PlanCache(self._settings.cascade.cached_max), Lines()
        self.models: Mapping[str, Model] = self._made() if models is None else models

    def of(self, cell: Cell) -> dict[Post, Reasoner]:
        """Return the reasoner of each tier of a cell, and the reader of its sentences."""
        repertoire = repertoire_of(self._configuration.rules_for(cell), self._configuration.playbook)
        return {
            "reflex": self._reasoner(self._settings.reflex, repertoire),
            "proposal": self._reasoner(self._settings.proposal, repertoire),
            "sentence": self._reader(repertoire),
        }

    def _reader(self, repertoire: Repertoire) -> SentenceReader:
        """Return the tables, and behind them the large models that proposals are asked of, in their order."""
        proposal = self._settings.proposal
        names = self._settings.cascade.order if proposal == "cascade" else (proposal,)
        large = [n for n in names if n in self.models and self.models[n].told == "names"]
        readers = [self._of_model(name, repertoire) for name in large]
        speed = self._configuration.settings.clock.speed
        return SentenceReader(repertoire, readers, self._settings.cascade, speed=speed)

    def _of_model(self, name: str, repertoire: Repertoire) -> ModelReasoner:
        return ModelReasoner(self.models[name], repertoire, self._rules_sha256(), self._cache, self._line(repertoire))

    def _made(self) -> dict[str, Model]:
        named = {self._settings.reflex, self._settings.proposal}
        if "cascade" in named:
            named |= set(self._settings.cascade.order)
        if "default" in named and self._embedded:
            named.add(EMBEDDED)
        models: dict[str, Model] = {}
        for settings in (embedded_settings(), *self._settings.transformers):
            if settings.name in named:
                find(settings)
                local = LocalModel(settings)
                local.load()
                models[settings.name] = local
        for server in self._settings.servers:
            if server.name in named:
                models[server.name] = RemoteModel(server)
        return models

    @property
    def servers(self) -> list[RemoteModel]:
        """The models behind HTTP that are asked."""
        return [model for model in self.models.values() if isinstance(model, RemoteModel)]

    async def keep_probed(self) -> None:
        """Probe the servers now and whenever it is due, so that no incident has to wait for it."""
        while True:
            for model in self.servers:
                if refusal := await model.ready():
                    LOG.warning("%s is not asked: %s", model.name, refusal)
            await asyncio.sleep(REFUSED_FOR_S)

    def _reasoner(self, name: str, repertoire: Repertoire) -> Reasoner:
        if name == "cascade":
            return self._cascade(self._settings.cascade.order, repertoire)
        if name == "default":
            if not self._embedded:
                return self._reasoner("playbook", repertoire)
            return self._cascade((EMBEDDED, "playbook"), repertoire)
        if (factory := REASONERS.get(name)) is not None:
            return factory(self._configuration.playbook, self._configuration.sha256("playbook.toml"))
        if name in self.models:
            return self._of_model(name, repertoire)
        raise ConfigError(
            "jidoka.toml",
            "reasoners",
            f"there is no reasoner {name!r}",
            f"Use one of: {', '.join([*REASONERS, EMBEDDED, 'cascade', *self.models])}",
        )

    def _cascade(self, order: Sequence[str], repertoire: Repertoire) -> Reasoner:
        return Cascade(
            [self._reasoner(each, repertoire) for each in order],
            self._settings.cascade,
            lambda completion, request: unusable(completion, request, repertoire),
            speed=self._configuration.settings.clock.speed,
        )

    def _rules_sha256(self) -> str:
        return " ".join(
            self._configuration.sha256(f"{name}.toml") for name in ("plant", "catalogue", "policy", "playbook")
        )

    def _line(self, repertoire: Repertoire) -> asyncio.Lock:
        return self._lines.of(repertoire.rules.cell.path)
