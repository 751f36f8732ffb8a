"""`python -m pipelines.training`: train the embedded model from a seed and write it where the product finds it."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from pipelines.training.fit import Recipe, fit, save

RECIPE = Recipe()
FOLDER = Path(__file__).parents[2] / "connectors" / "reasoners" / "embedded"


def train(
    out: Annotated[Path, typer.Option(help="Folder for weights, tokenizer and recipe.")] = FOLDER,
    seed: Annotated[int, typer.Option(help="Of weights and incidents.")] = RECIPE.seed,
    steps: Annotated[int, typer.Option(help="Batches of 64 incidents.")] = RECIPE.steps,
    width: Annotated[int, typer.Option(help="Of the network, a multiple of 32.")] = RECIPE.width,
    layers: Annotated[int, typer.Option(help="Of the network.")] = RECIPE.layers,
) -> None:
    """Train the embedded model; minutes on one core."""
    began = time.monotonic()
    recipe = Recipe(seed=seed, steps=steps, width=width, layers=layers)
    model = fit(recipe, lambda text: print(f"{time.monotonic() - began:6.0f} s  {text}", file=sys.stderr, flush=True))
    save(model, recipe, out)
    print(out)


if __name__ == "__main__":
    typer.run(train)
