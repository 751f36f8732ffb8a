"""A model writes under a grammar: at each token only what can still become a legal answer is allowed (llguidance).

What the grammar forces is taken without asking the model. The engine refuses a schema that it cannot enforce.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from schemas.errors import ConnectionFault

GRAMMAR: Final = 'start: " " arguments\narguments: %json {schema}\n'
"""A space, as models write it after a colon, and the arguments: in Lark's form, as llguidance reads it."""
SPACING: Final = {"x-guidance": {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}}
"""The spaces that models put into function calls."""


@dataclass(frozen=True, slots=True)
class Written:
    """An answer, word for word."""

    said: str
    confidence: float
    """The probability of the least certain token, among those that the grammar left, 0..1."""
    passes: int
    """Passes through the model."""
    tokens: int
    """Of the answer."""


def write_under(
    torch: Any,
    model: Any,
    grammar_tokens: Any,
    *,
    tokens: Sequence[int],
    decode: Callable[[list[int]], str],
    schema: str,
    seed: int,
    temperature: float,
    tokens_max: int,
    until: float,
) -> Written:
    """Write one answer after `tokens`.

    Raises:
        ConnectionFault: the time is up, the answer gets too long, or the engine refuses the schema.
    """
    matcher = _matcher(grammar_tokens, schema)
    draws = torch.Generator(device="cpu").manual_seed(seed)
    writer = _Writer(torch, model, grammar_tokens)
    written: list[int] = []
    pending, least = list(tokens), 1.0
    try:
        while not matcher.is_stopped():
            if time.monotonic() > until:
                raise ConnectionFault(f"the time is up after {len(written)} tokens")
            if len(written) >= tokens_max:
                raise ConnectionFault(f"the answer is longer than tokens_max = {tokens_max}")
            fresh = matcher.compute_ff_tokens()
            if not fresh:
                token, share = writer.next_token(pending, matcher, temperature, draws)
                pending, least, fresh = [], min(least, share), [token]
            if not matcher.consume_tokens(fresh):
                raise ConnectionFault(f"the grammar refused its own token: {matcher.get_error()}")
            written += fresh
            pending += fresh
    except (RuntimeError, MemoryError) as error:
        raise ConnectionFault(f"the model failed: {error}") from error
    return Written(decode(writer.without_end(written)).strip(), least, writer.passes, len(written))


def _matcher(grammar_tokens: Any, schema: str) -> Any:
    import llguidance

    spaced = json.dumps({**json.loads(schema), **SPACING})
    grammar = llguidance.LLMatcher.grammar_from_lark(GRAMMAR.replace("{schema}", spaced))
    matcher = llguidance.LLMatcher(grammar_tokens, grammar)
    if problem := matcher.get_error():
        raise ConnectionFault(f"llguidance refuses the schema: {problem}")
    return matcher


class _Writer:
    """The model with its cache, one token at a time."""

    def __init__(self, torch: Any, model: Any, grammar_tokens: Any) -> None:
        import llguidance.numpy
        from transformers import DynamicCache

        self._torch, self._model, self._numpy = torch, model, llguidance.numpy
        self._cache = DynamicCache(config=model.config)
        self._bits = llguidance.numpy.allocate_token_bitmask(1, grammar_tokens.vocab_size)
        self._end = grammar_tokens.eos_token
        self.passes = 0

    def next_token(self, pending: list[int], matcher: Any, temperature: float, draws: Any) -> tuple[int, float]:
        """Return the next token, and its probability among the allowed ones."""
        import numpy as np

        torch = self._torch
        with torch.inference_mode():
            out = self._model(
                input_ids=torch.tensor([pending], device=self._model.device),
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=1,
            )
        self.passes += 1
        self._numpy.fill_next_token_bitmask(matcher, self._bits, 0)
        allowed = np.unpackbits(self._bits.view("uint8"), bitorder="little")[: out.logits.shape[-1]].astype(bool)
        logits = out.logits[0, -1].float().cpu().masked_fill(~torch.from_numpy(allowed), -math.inf)
        shares = torch.softmax(logits / temperature if temperature > 0 else logits, dim=-1)
        if not bool(torch.isfinite(shares).all()):
            raise ConnectionFault("the model's scores are not numbers")
        token = int(torch.multinomial(shares, 1, generator=draws)) if temperature > 0 else int(shares.argmax())
        return token, float(shares[token])

    def without_end(self, tokens: list[int]) -> list[int]:
        """Return the tokens of the text alone."""
        return [token for token in tokens if token != self._end]
