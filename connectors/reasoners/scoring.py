"""How likely a model finds each of several texts, in one pass over all of them.

The texts lie behind what was said so far as a tree: what several begin with is read once. A mask lets each token see
only what was said and its own text up to itself, and its position is the one that it would have alone. So one pass
costs the tokens in which the texts differ, and the cache of what was said is never copied.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from schemas.errors import ConnectionFault


@dataclass(frozen=True, slots=True)
class Tree:
    """Texts laid together: what several begin with is there once. Parents come before their children."""

    tokens: tuple[int, ...]
    parents: tuple[int | None, ...]
    """The node before each; None where a text begins."""
    depths: tuple[int, ...]
    paths: tuple[tuple[int, ...], ...]
    """The nodes of each text."""

    @classmethod
    def of(cls, texts: Sequence[Sequence[int]]) -> Tree:
        """Lay texts together.

        >>> Tree.of([(7, 8), (7, 9), ()])
        Tree(tokens=(7, 8, 9), parents=(None, 0, 0), depths=(0, 1, 1), paths=((0, 1), (0, 2), ()))
        """
        nodes: dict[tuple[int | None, int], int] = {}
        depths: list[int] = []
        paths: list[tuple[int, ...]] = []
        for text in texts:
            path: list[int] = []
            for depth, token in enumerate(text):
                node = nodes.setdefault((path[-1] if path else None, token), len(nodes))
                if node == len(depths):
                    depths.append(depth)
                path.append(node)
            paths.append(tuple(path))
        parents = tuple(parent for parent, _ in nodes)
        return cls(tuple(token for _, token in nodes), parents, tuple(depths), tuple(paths))


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
        tree = Tree.of([tokens[:-1] for tokens in continuations])
        logits = self._pass(said, tree)
        # The last token of what was said stays pending: the next pass needs its logits again, and the cache none of it.
        self._cache.crop(-1 - len(tree.tokens))
        self._cached += len(said) - 1
        self._pending = said[-1:]
        logs = self._torch.log_softmax(logits.float(), dim=-1)
        # Row 0 is what was said, row n + 1 the node n.
        rows = [[0, *(node + 1 for node in nodes)] for nodes in tree.paths]
        return [logs[row, list(tokens)].tolist() for row, tokens in zip(rows, continuations, strict=True)]

    def _pass(self, said: list[int], tree: Tree) -> Any:
        """Return the logits after what was said, and after each node of the tree."""
        torch, device = self._torch, self._model.device
        end = self._cached + len(said)
        positions = [*range(self._cached, end), *(end + depth for depth in tree.depths)]
        out = self._model(
            input_ids=torch.tensor([[*said, *tree.tokens]], device=device),
            position_ids=torch.tensor([positions], device=device),
            attention_mask=self._mask(len(said), tree),
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=torch.arange(len(said) - 1, len(said) + len(tree.tokens), device=device),
        )
        self.passes += 1
        return out.logits[0]

    def _mask(self, said: int, tree: Tree) -> Any:
        """Return what each token may see: all that was said before it, and its own text up to itself."""
        end, size = self._cached + said, said + len(tree.tokens)
        seen = np.zeros((size, self._cached + size), dtype=bool)
        seen[:, : self._cached] = True
        seen[:said, self._cached : end] = np.tri(said, dtype=bool)
        seen[said:, self._cached : end] = True
        for node, parent in enumerate(tree.parents):
            if parent is not None:
                seen[said + node] |= seen[said + parent]
            seen[said + node, end + node] = True
        kind = self._model.dtype
        mask = self._torch.zeros(seen.shape, dtype=kind)
        mask.masked_fill_(~self._torch.from_numpy(seen), self._torch.finfo(kind).min)
        return mask[None, None].to(self._model.device)
