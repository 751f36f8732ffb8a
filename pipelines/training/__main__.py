"""`python -m pipelines.training train|measure`: train the embedded model from a seed; say what a model reaches."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from connectors.reasoners.embedded_model import FOLDER, embedded_settings
from connectors.reasoners.transformers_model import TransformersModel
from connectors.reasoners.weights import digest
from pipelines.training.fit import Recipe, fit, save
from pipelines.training.held_out import SETS
from pipelines.training.measure import measure

RECIPE = Recipe()
SEED = 2020
"""Of the held-out sets that docs/model-card.md quotes."""

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.command()
def train(
    out: Annotated[Path, typer.Option(help="Folder for weights, tokenizer and recipe.")] = FOLDER,
    seed: Annotated[int, typer.Option(help="Of weights and incidents.")] = RECIPE.seed,
    steps: Annotated[str, typer.Option(help="Batches of 64 incidents in each round.")] = ",".join(
        map(str, RECIPE.steps)
    ),
    width: Annotated[int, typer.Option(help="Of the network, a multiple of 32.")] = RECIPE.width,
    layers: Annotated[int, typer.Option(help="Of the network.")] = RECIPE.layers,
    done: Annotated[Path | None, typer.Option(help="A model that lacks the last round only.")] = None,
) -> None:
    """Train the embedded model and write it where the product finds it; minutes on one core."""
    began = time.monotonic()
    recipe = Recipe(seed=seed, steps=tuple(map(int, steps.split(","))), width=width, layers=layers)

    def tell(text: str) -> None:
        print(f"{time.monotonic() - began:6.0f} s  {text}", file=sys.stderr, flush=True)

    model = fit(recipe, tell, done)
    save(model, asdict(recipe), out)
    weights = digest(sorted(out.glob("*.safetensors")))
    print(f"{out}: weights {weights}; write it to connectors/reasoners/embedded_model.py, SHA256")


@app.command("measure")
def measure_sets(
    model: Annotated[Path, typer.Option(help="Folder of the model.")] = FOLDER,
    count: Annotated[int, typer.Option(help="Incidents of each set.")] = 1000,
    only: Annotated[list[str] | None, typer.Option(help="Names of sets; all without it.")] = None,
    seed: Annotated[int, typer.Option(help="Of the incidents.")] = SEED,
    mistakes: Annotated[int, typer.Option(help="Wrong plans shown of each set.")] = 0,
) -> None:
    """Measure a model on the held-out sets, beside the playbook: one JSON line a set."""
    loaded = TransformersModel(embedded_settings().model_copy(update={"model": str(model), "sha256": ""}))
    for held_out in SETS:
        if only and held_out.name not in only:
            continue
        wrong: list[str] = []
        print(json.dumps(measure(loaded, held_out, count, seed=seed, wrong=wrong.append).summary()), flush=True)
        for text in wrong[:mistakes]:
            print(text, file=sys.stderr)


if __name__ == "__main__":
    app()
