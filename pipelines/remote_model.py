"""A language model behind an HTTP server, asked only while it is known to keep to a schema."""

from __future__ import annotations

import asyncio
import secrets
import time

from agent.reasoning.answer import raw_plan
from connectors.reasoners.openai_compatible import OpenAiCompatible
from pipelines.questions import Answer, Question, Told
from schemas.errors import ConnectionFault, JidokaError
from schemas.settings import ServerSettings

PROBED_EVERY_S = 3600.0
"""Wall time after which a server is probed again: somebody may have started another one there."""
REFUSED_FOR_S = 60.0
"""Wall time before a server that failed the probe is probed again."""
PROBE_S = 10.0
"""Wall time for a probe."""


class RemoteModel:
    """One model of `reasoners.servers`."""

    def __init__(self, settings: ServerSettings) -> None:
        """Take the settings. Nothing is sent.

        Raises:
            ConfigError: the key cannot be read.
        """
        self.name = settings.name
        self.told: Told = "names"
        self._settings, self._server = settings, OpenAiCompatible(settings)
        self._probing = asyncio.Lock()
        self._probe_again_at = 0.0
        self._refusal = ""

    @property
    def identity(self) -> str:
        """What an answer depends on beside the question, as far as it can be known from here."""
        s = self._settings
        return f"{s.url} {s.model} {s.temperature:g} {s.seed} {s.tokens_max}"

    async def ready(self, *, deadline_s: float = PROBE_S) -> str:
        """Probe the server if that is due; say why it is not asked, empty: it is."""
        if not self._settings.enforced:
            return ""
        async with self._probing:
            if time.monotonic() >= self._probe_again_at:
                self._refusal = await self._probe(deadline_s)
                self._probe_again_at = time.monotonic() + (REFUSED_FOR_S if self._refusal else PROBED_EVERY_S)
            return self._refusal

    async def answer(self, question: Question, *, deadline_s: float) -> Answer:
        """Answer within `deadline_s`.

        Raises:
            ConnectionFault: not in time, not an answer, or the server does not keep to a schema.
        """
        began = time.monotonic()
        if refusal := await self.ready(deadline_s=min(PROBE_S, deadline_s)):
            raise ConnectionFault(refusal)
        replied = await self._server.ask(question.prompt, deadline_s=deadline_s - (time.monotonic() - began))
        raw = raw_plan(replied.said, question.space, question.prompt.function)
        return Answer(replied.said, raw, replied.confidence, (), {**self._details(), **replied.details})

    async def _probe(self, deadline_s: float) -> str:
        try:
            return await self._server.probe(f"Zq{secrets.token_hex(6)}", deadline_s=deadline_s)
        except JidokaError as error:
            return f"probe: {error}"

    def _details(self) -> dict[str, str]:
        s = self._settings
        enforced = "probed" if s.enforced else "not asked for"
        return {"server": s.server, "url": s.url, "model": s.model, "schema": enforced,
                "temperature": f"{s.temperature:g}", "seed": str(s.seed)}  # fmt: skip
