"""Does llama.cpp make of a converted model what transformers makes of it: the same tokens, the same logits?"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.support import llama_server, tiny_qwen

TOKENS_N = 256
LIVELY = 0.2
"""Spread of what is added to each weight: as they are made, attention is almost even and biases are nought, so that a
wrong one would hardly be seen."""
APART_MAX = 1e-3
"""Of two logits, which spread over some units: two engines add the same 32-bit floats in another order."""
TURNED = 1.01
"""A conversion that is wrong by so much in one number, the angle by which positions are told, must be seen."""


@dataclass(frozen=True, slots=True)
class Compared:
    """What two engines make of one model."""

    tokens_n: int
    same_tokens: bool
    spread: float
    """Standard deviation of the logits."""
    apart: float
    """The largest difference of two logits."""
    apart_if_turned: float
    """The same with a conversion that is wrong."""

    @property
    def faults(self) -> tuple[str, ...]:
        """Say what is wrong: with the conversion, or with what it is judged by."""
        said = {
            "llama.cpp splits the text into other tokens": not self.same_tokens,
            f"logits are {self.apart:.2g} apart": not self.apart <= APART_MAX,
            f"a wrong conversion is only {self.apart_if_turned:.2g} apart": not self.apart_if_turned > 10 * APART_MAX,
        }
        return tuple(what for what, wrong in said.items() if wrong)


def compared(folder: Path, text: str, *, seed: int) -> Compared:
    """Make a model in `folder` all of whose weights matter, convert it, and ask both engines about a text."""
    import torch
    from transformers import AutoTokenizer, Qwen2ForCausalLM

    model = Qwen2ForCausalLM.from_pretrained(tiny_qwen.make(folder, [text], seed=seed))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(torch.randn(weights.shape, generator=generator) * LIVELY)
    model.save_pretrained(folder)
    tokens = AutoTokenizer.from_pretrained(folder)(text, add_special_tokens=False)["input_ids"]
    ids = tokens[:TOKENS_N]
    with torch.no_grad():
        ours = model(torch.tensor([ids])).logits[0].numpy()
    their_tokens, theirs = _llama(folder, text, ids)
    _turn(folder)
    _, turned = _llama(folder, text, ids)
    return Compared(
        len(tokens), their_tokens == tokens, *map(float, (ours.std(), _apart(ours, theirs), _apart(ours, turned)))
    )


def _llama(folder: Path, text: str, ids: list[int]) -> tuple[list[int], np.ndarray]:
    path, script = llama_server.converted(folder), llama_server.HERE / "llama_logits.py"
    answer = json.loads(llama_server.run(script, path, said=json.dumps({"text": text, "ids": ids})))
    return answer["tokens"], np.array(answer["logits"], np.float32)


def _apart(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).max())


def _turn(folder: Path) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["rope_parameters"]["rope_theta"] *= TURNED
    path.write_text(json.dumps(config))
