"""Training from a seed: a Qwen2 of less than a million parameters, on incidents made up as it goes.

On one thread the same recipe gives the same weights to the last bit, with the same torch on the same kind of
processor. Adam with decoupled weight decay (Loshchilov and Hutter, 2019), a cosine to nothing, and again: each round
begins with the rounded weights of the one before, on incidents of its own, at half the rate.
"""

from __future__ import annotations

import itertools
import json
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from pipelines.training.examples import Example, examples
from pipelines.training.splits import TRAINING, chance
from pipelines.training.words import BYTES, SPECIAL, WORDS, write_tokenizer

POOL: Final = 16
"""Batches drawn together and sorted by length, so that little of a batch is padding."""
WARM_UP: Final = 60
PROMPT_MAX: Final = 900
"""Longer examples are left out: they would take the memory of all others."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that decides what the weights become, beside the code."""

    seed: int = 20
    steps: tuple[int, ...] = (1000, 1500)
    """Batches in each round."""
    batch: int = 64
    width: int = 96
    layers: int = 4
    rate: float = 3e-3
    """Highest learning rate of the first round."""

    def config(self) -> Any:
        """Return the shape of the network."""
        from transformers import Qwen2Config

        return Qwen2Config(
            vocab_size=len(SPECIAL) + BYTES + len(WORDS),
            hidden_size=self.width,
            num_hidden_layers=self.layers,
            num_attention_heads=self.width // 32,
            num_key_value_heads=1,
            intermediate_size=self.width * 8 // 3,
            max_position_embeddings=4096,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=SPECIAL.index("<|im_end|>"),
            pad_token_id=SPECIAL.index("<|endoftext|>"),
            initializer_range=0.05,
        )


def fit(recipe: Recipe, tell: Callable[[str], None], done: Path | None = None) -> Any:
    """Train and return the model, its weights rounded to bfloat16.

    Args:
        recipe: What to do.
        tell: Told the loss now and then.
        done: Folder of a model that has gone through all rounds but the last: only that one is left.
    """
    import torch
    from transformers import Qwen2ForCausalLM

    torch.set_num_threads(1)
    torch.manual_seed(recipe.seed)
    torch.use_deterministic_algorithms(True)
    begun = Qwen2ForCausalLM.from_pretrained(done, dtype=torch.float32) if done is not None else None
    model = begun if begun is not None else Qwen2ForCausalLM(recipe.config())
    for number in range(len(recipe.steps) - 1 if done is not None else 0, len(recipe.steps)):
        rng = chance(recipe.seed, TRAINING, *([number] if number else []))
        drawn = batches(examples(rng), rng, recipe.batch)
        tell(f"round {number + 1} of {len(recipe.steps)}")
        train_on(model, drawn, steps=recipe.steps[number], highest=recipe.rate / 2**number, tell=tell)
    return model.eval()


def train_on(
    model: Any, drawn: Iterator[Sequence[Example]], *, steps: int, highest: float, tell: Callable[[str], None]
) -> None:
    """Train a model in place on one thread; its weights are rounded to bfloat16 in the end.

    Args:
        model: A causal language model with the vocabulary of `pipelines.training.words`.
        drawn: Batches; as many as there are steps are taken.
        steps: How many.
        highest: Learning rate at the end of the warm-up.
        tell: Told the loss now and then.
    """
    import torch

    model.train()
    lost = 0.0
    optimizer = torch.optim.AdamW(model.parameters(), lr=highest, betas=(0.9, 0.98), weight_decay=0.01)
    for step, batch in enumerate(itertools.islice(drawn, steps)):
        for group in optimizer.param_groups:
            group["lr"] = highest * pace(step, steps)
        loss = _loss(torch, model, batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        lost = loss.item() if step == 0 else 0.98 * lost + 0.02 * loss.item()
        if step % 100 == 99 or step + 1 == steps:
            tell(f"step {step + 1} of {steps}, loss {lost:.5f}")
    for weights in model.parameters():  # not its buffers: those are not stored, and computed anew in full
        weights.data = weights.data.to(torch.bfloat16).float()


def pace(step: int, steps: int) -> float:
    """Return the learning rate at a step, as a share of the highest.

    >>> pace(59, 3000), round(pace(2999, 3000), 3)
    (1.0, 0.02)
    """
    if step < WARM_UP:
        return (step + 1) / WARM_UP
    done = (step - WARM_UP) / max(1, steps - 1 - WARM_UP)
    return 0.02 + 0.49 * (1 + math.cos(math.pi * done))


def save(model: Any, recipe: Mapping[str, Any], folder: Path) -> None:
    """Write weights (bfloat16, safetensors), shape, tokenizer and recipe; `folder` is replaced as a whole."""
    import torch

    folder.parent.mkdir(parents=True, exist_ok=True)
    model.generation_config.eos_token_id = SPECIAL.index("<|im_end|>")
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as beside:
        unfinished = Path(beside) / "model"
        model.to(torch.bfloat16).save_pretrained(unfinished)
        write_tokenizer(unfinished)
        (unfinished / "recipe.json").write_text(json.dumps(recipe, indent=1) + "\n")
        if folder.exists():
            folder.rename(Path(beside) / "before")
        unfinished.rename(folder)


def batches(drawn: Iterator[Example], rng: np.random.Generator, size: int) -> Iterator[list[Example]]:
    """Yield batches of examples that are about as long as each other, in random order, without end."""
    stream = (example for example in drawn if len(example.tokens) <= PROMPT_MAX)
    while True:
        pool = sorted(itertools.islice(stream, POOL * size), key=lambda example: len(example.tokens))
        for n in rng.permutation(POOL):
            yield pool[int(n) * size : (int(n) + 1) * size]


def _loss(torch: Any, model: Any, batch: Sequence[Example]) -> Any:
    """Return the mean loss of the choices, each among what was offered. What was asked is not to be learnt."""
    tokens = np.zeros((len(batch), max(len(example.tokens) for example in batch)), dtype=np.int64)
    for row, example in enumerate(batch):
        tokens[row, : len(example.tokens)] = example.tokens
    told = [(row, choice) for row, example in enumerate(batch) for choice in example.choices]
    offered = np.full((len(told), max(len(choice.offered) for _, choice in told)), -1, dtype=np.int64)
    for n, (_, choice) in enumerate(told):
        offered[n, : len(choice.offered)] = choice.offered
    hidden = model.model(input_ids=torch.from_numpy(tokens), use_cache=False).last_hidden_state
    at = hidden[[row for row, _ in told], [choice.at for _, choice in told]]
    scores = model.lm_head(at).gather(1, torch.from_numpy(offered.clip(0)))
    scores = scores.masked_fill(torch.from_numpy(offered < 0), -math.inf)
    return torch.nn.functional.cross_entropy(scores, torch.tensor([choice.right for _, choice in told]))
