"""How likely a model finds each of several texts, in one pass over all of them.

The texts lie side by side behind what was said so far; a mask lets each see only what was said and itself, and its
positions are those that it would have alone. So one pass costs the sum of their tokens, and the cache of what was
said is never copied.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from schemas.errors import ConnectionFault


class TextScoring:
    """One text in the making, with the model's cache of it."""

    def __init__(
        self,
        torch: Any,
        model: Any,
        encode: Callable[[str], tuple[int, ...]],
        tokens: Sequence[int],
        until: float,
    ) -> None:
        """Begin after `tokens`. `until`: on the monotonic clock; then nothing is scored any more."""
        from transformers import DynamicCache

        self.encode = encode
        self._torch, self._model, self._until = torch, model, until
        self._cache, self._cached = DynamicCache(config=model.config), 0
        self._pending = list(tokens)
        self.passes = 0
        """Passes through the model so far."""

    def advance(self, tokens: Sequence[int]) -> None:
        """Take these tokens as said; they are read with the next `score`."""
        self._pending.extend(tokens)

    def score(self, continuations: Sequence[Sequence[int]]) -> list[list[float]]:
        """Return ln P of each token of each continuation, given all that was said and the tokens before it.

        Raises:
            ConnectionFault: the time is up, or the model has no memory left.
        """
        if time.monotonic() > self._until:
            raise ConnectionFault("the time is up")
        try:
            with self._torch.inference_mode():
                return self._scored(continuations)
        except (RuntimeError, MemoryError) as error:
            raise ConnectionFault(f"the model failed: {error}") from error

    def _scored(self, continuations: Sequence[Sequence[int]]) -> list[list[float]]:
        said = self._pending
        assert said, "a text is said before anything is scored"
        rest = [list(tokens[:-1]) for tokens in continuations]
        logits = self._pass(said, rest)
        # The last token of what was said stays pending: the next pass needs its logits again, and the cache none of it.
        self._cache.crop(-1 - sum(len(inner) for inner in rest))
        self._cached += len(said) - 1
        self._pending = said[-1:]
        logs = self._torch.log_softmax(logits.float(), dim=-1)
        found, row = [], 1
        for tokens, inner in zip(continuations, rest, strict=True):
            rows = [0, *range(row, row + len(inner))]
            row += len(inner)
            found.append([float(log) for log in logs[rows, list(tokens)]])
        return found

    def _pass(self, said: list[int], rest: list[list[int]]) -> Any:
        """Return the logits after what was said, and after each token of each continuation but its last."""
        torch, device = self._torch, self._model.device
        flat = [token for tokens in rest for token in tokens]
        positions = [*range(self._cached, self._cached + len(said))]
        for tokens in rest:
            positions += range(self._cached + len(said), self._cached + len(said) + len(tokens))
        out = self._model(
            input_ids=torch.tensor([[*said, *flat]], device=device),
            position_ids=torch.tensor([positions], device=device),
            attention_mask=self._mask(len(said), [len(tokens) for tokens in rest]),
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=torch.arange(len(said) - 1, len(said) + len(flat), device=device),
        )
        self.passes += 1
        return out.logits[0]

    def _mask(self, said: int, lengths: list[int]) -> Any:
        """Return what each token may see: all that was said before it, and the beginning of its own continuation."""
        torch = self._torch
        size = said + sum(lengths)
        seen = torch.zeros(size, self._cached + size, dtype=torch.bool)
        seen[:, : self._cached] = True
        seen[:said, self._cached : self._cached + said] = torch.ones(said, said, dtype=torch.bool).tril()
        seen[said:, self._cached : self._cached + said] = True
        begin = said
        for length in lengths:
            own = slice(begin, begin + length)
            seen[own, self._cached + begin : self._cached + begin + length] = torch.ones(
                length, length, dtype=torch.bool
            ).tril()
            begin += length
        mask = torch.zeros(seen.shape, dtype=self._model.dtype).masked_fill(~seen, torch.finfo(self._model.dtype).min)
        return mask[None, None].to(self._model.device)
