"""A language model in this process: loaded beside everything else, asked in a thread, by choices or by text."""

from __future__ import annotations

import json
import threading

from agent.reasoning.answer import raw_plan
from agent.reasoning.deciding import decide
from connectors.reasoners.in_thread import OneAtATime
from connectors.reasoners.transformers_model import TransformersModel
from pipelines.questions import Answer, Question, Told
from schemas.errors import ConnectionFault, JidokaError
from schemas.settings import TransformersSettings


class LocalModel:
    """One model of `reasoners.transformers`."""

    def __init__(self, settings: TransformersSettings) -> None:
        self.name = settings.name
        self.told: Told = settings.told
        self._settings = settings
        self._way_in = OneAtATime(settings.name)
        self._engine: TransformersModel | None = None
        self._failure = ""
        self._loading: threading.Thread | None = None

    def load(self) -> None:
        """Begin to load, in a thread; until it is done every question fails at once, and the next reasoner is asked."""
        if self._loading is None:
            self._loading = threading.Thread(target=self._load, name=f"load-{self.name}", daemon=True)
            self._loading.start()

    def wait(self, timeout_s: float) -> bool:
        """Wait until it is loaded; return whether it is."""
        self.load()
        assert self._loading is not None
        self._loading.join(timeout_s)
        return self._engine is not None

    @property
    def identity(self) -> str:
        """What an answer depends on beside the question. Empty while it is loaded."""
        return json.dumps(self._details(self._engine)) if self._engine is not None else ""

    async def answer(self, question: Question, *, deadline_s: float) -> Answer:
        """Answer within `deadline_s`.

        Raises:
            ConnectionFault: not loaded, not done in time, out of memory.
        """
        engine = self._engine
        if engine is None:
            self.load()
            raise ConnectionFault(self._failure or f"{self.name} is still being loaded")
        work = self._choose if self._settings.decode == "choices" else self._write
        return await self._way_in.run(lambda: work(engine, question, deadline_s), timeout_s=deadline_s)

    def _choose(self, engine: TransformersModel, question: Question, deadline_s: float) -> Answer:
        scoring = engine.begin(question.prompt, call=question.told == "names", deadline_s=deadline_s)
        decided = decide(question.space, question.phrasing, scoring)
        details = {**self._details(engine), "passes": str(scoring.passes)}
        return Answer(decided.said, decided.draft.text(), decided.confidence, decided.choices, details)

    def _write(self, engine: TransformersModel, question: Question, deadline_s: float) -> Answer:
        written = engine.write(
            question.prompt,
            seed=self._settings.seed,
            temperature=self._settings.temperature,
            deadline_s=deadline_s,
        )
        raw = raw_plan(written.said, question.space, question.prompt.function)
        details = {**self._details(engine), "passes": str(written.passes), "tokens": str(written.tokens)}
        return Answer(written.said, raw, written.confidence, (), details)

    def _details(self, engine: TransformersModel) -> dict[str, str]:
        settings = self._settings
        how: dict[str, str] = {"decode": settings.decode, "told": settings.told}
        if settings.decode == "text":
            how |= {"temperature": f"{settings.temperature:g}", "seed": str(settings.seed)}
        return {**engine.identity, **how}

    def _load(self) -> None:
        try:
            self._engine = TransformersModel(self._settings)
        except JidokaError as error:
            self._failure = f"{self.name} could not be loaded: {error}"
        except Exception as error:  # noqa: BLE001  # the top of a thread: without its model the agent goes on with the playbook
            self._failure = f"{self.name} could not be loaded: {type(error).__name__}: {error}"
