"""Fine-tuning: the embedded model goes on learning, from decisions of a site beside what it learnt from.

Half of what it sees are the site's decisions, the other half incidents that the generator makes up: without them it
would forget what it knew. A fifth of the decisions, chosen by the digest of their ids, is kept back to measure by.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from connectors.reasoners.embedded_model import embedded_settings
from connectors.reasoners.transformers_model import TransformersModel
from pipelines.training.decisions import Decision
from pipelines.training.examples import Example, example, examples
from pipelines.training.fit import batches, save, train_on
from pipelines.training.held_out import SETS
from pipelines.training.measure import Measured, measure, measured
from pipelines.training.splits import TRAINING, chance
from schemas.errors import RecordingError

DECISIONS_MIN: Final = 20
"""With fewer, what is kept back says nothing."""
KEPT_BACK: Final = 5
"""One in so many is not learnt from."""
KNOWN: Final = ("names", "no_fault")
"""Held-out sets that it must be no worse on."""


@dataclass(frozen=True, slots=True)
class TuneRecipe:
    """All that decides what the weights become, beside the code, the decisions and the model that it begins with."""

    seed: int = 1
    steps: int = 300
    batch: int = 32
    rate: float = 5e-4
    """Highest learning rate."""
    share: float = 0.5
    """Of what is seen, the decisions."""
    known_n: int = 300
    """Incidents of each of the sets `KNOWN` that are measured."""


@dataclass(slots=True)
class Tuned:
    """What came of it."""

    learnt_from: int
    before: dict[str, Measured] = field(default_factory=dict)
    """By set: `decisions` that were kept back, and the sets of `KNOWN`."""
    after: dict[str, Measured] = field(default_factory=dict)

    @property
    def worse(self) -> list[str]:
        """Why the tuned model should not be used; nothing if it may be."""
        found = [
            f"{name}: {self.after[name].exact} of {self.after[name].incidents} exact, {was.exact} before"
            for name, was in self.before.items()
            if self.after[name].exact < was.exact
        ]
        acted = self.after["no_fault"].acted
        return [*found, *([f"no_fault: it acts on {acted} incidents in which nothing is wrong"] if acted else [])]

    def summary(self) -> dict[str, Any]:
        """Return the figures for programs."""
        return {
            "learnt_from": self.learnt_from,
            "before": {name: each.summary() for name, each in self.before.items()},
            "after": {name: each.summary() for name, each in self.after.items()},
            "worse": self.worse,
        }


def tune(
    base: Path, out: Path, decisions: Sequence[Decision], recipe: TuneRecipe, tell: Callable[[str], None]
) -> Tuned:
    """Go on training a model and write it as a folder of its own.

    Args:
        base: Folder of the model to begin with.
        out: Folder to write; must not exist yet.
        decisions: To learn from and to measure by.
        recipe: How.
        tell: Told what is being done.

    Raises:
        RecordingError: too few decisions, or `out` exists.
    """
    import torch
    from transformers import Qwen2ForCausalLM

    learnt, kept = split(decisions)
    if len(decisions) < DECISIONS_MIN or not kept:
        raise RecordingError(
            "decisions", "cases", f"{len(decisions)} can be learnt from, {DECISIONS_MIN} are needed", "Record more"
        )
    if out.exists():
        raise RecordingError(str(out), "folder", "it exists", "Name a folder that does not; nothing is overwritten")
    torch.set_num_threads(1)
    torch.manual_seed(recipe.seed)
    tell("measuring the model as it is")
    result = Tuned(len(learnt), before=_measured(base, kept, recipe))
    model = Qwen2ForCausalLM.from_pretrained(base, dtype=torch.float32)
    rng = chance(recipe.seed, TRAINING)
    train_on(
        model, batches(mixed(learnt, rng, recipe.share), rng, recipe.batch), steps=recipe.steps, highest=recipe.rate,
        tell=tell,
    )  # fmt: skip
    out.parent.mkdir(parents=True, exist_ok=True)  # Appears only when it was measured.
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as unfinished:
        folder = Path(unfinished) / "model"
        save(model.eval(), asdict(recipe), folder)
        tell("measuring what came of it")
        result.after = _measured(folder, kept, recipe)
        folder.rename(out)
    return result


def split(decisions: Sequence[Decision]) -> tuple[list[Decision], list[Decision]]:
    """Return what is learnt from, and what is kept back: the same decision always goes the same way."""
    back = [int(hashlib.sha256(each.id.encode()).hexdigest(), 16) % KEPT_BACK == 0 for each in decisions]
    return (
        [each for each, kept in zip(decisions, back, strict=True) if not kept],
        [each for each, kept in zip(decisions, back, strict=True) if kept],
    )


def mixed(decisions: Sequence[Decision], rng: np.random.Generator, share: float) -> Iterator[Example]:
    """Yield examples without end: this share from the decisions, the rest made up."""
    own, made_up = [example(each.incident, each.cell) for each in decisions], examples(rng)
    while True:
        yield own[int(rng.integers(len(own)))] if rng.random() < share else next(made_up)


def _measured(folder: Path, kept: Sequence[Decision], recipe: TuneRecipe) -> dict[str, Measured]:
    model = TransformersModel(embedded_settings().model_copy(update={"model": str(folder), "sha256": ""}))
    own = measured(
        model, ((each.incident, each.cell) for each in kept), Measured("decisions", "decisions that were kept back")
    )
    return {"decisions": own} | {
        held_out.name: measure(model, held_out, recipe.known_n, seed=recipe.seed)
        for held_out in SETS
        if held_out.name in KNOWN
    }
