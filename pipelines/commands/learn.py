"""For whoever lets the embedded model learn from what was decided and proven: export it, train on it."""

from __future__ import annotations

import json
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from connectors.reasoners.embedded_model import FOLDER, PACKAGES
from pipelines.commands import logs
from pipelines.commands.options import HERE, Config, Data, log_place
from pipelines.evaluation.cases import IncidentSet, read_set, text_of
from pipelines.evaluation.recorded import recorded_set
from pipelines.whole_log import read_whole
from schemas.errors import ConfigError, RecordingError


def register(app: typer.Typer) -> None:
    """Add the commands."""
    logs.exports.command("training")(export_training)
    app.command(name="train")(train)


def export_training(
    out: Annotated[Path, typer.Argument(help="File to write, JSON Lines; must not exist yet.")],
    config: Config = HERE,
    data: Data = None,
) -> None:
    """Export the incidents of a log whose plans were proven, as a set for `jidoka train` and `jidoka eval`."""
    place = log_place(config, data)
    found = recorded_set(read_whole(place), place.name)
    try:
        with out.open("x", encoding="utf-8") as file:
            file.write(text_of(found))
    except FileExistsError as error:
        raise RecordingError(str(out), "file", "it exists", "Name one that does not; nothing is overwritten") from error
    print(f"{len(found.cases)} incidents with proven plans in {out}, set {found.sha256[:16]}")


def train(
    sets: Annotated[list[Path], typer.Argument(help="Sets of incidents, from `jidoka export training`.")],
    out: Annotated[Path, typer.Option("--out", help="New folder for the model.")],
    base: Annotated[Path, typer.Option("--base", help="Model to begin with.")] = FOLDER,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Batches of 32 incidents.")] = 300,
    seed: Annotated[int, typer.Option("--seed", help="Of what is drawn.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print for programs.")] = False,
) -> None:
    """Let the embedded model go on learning, from proven decisions; minutes on one core. The old one stays as it is.

    Exit status 1 if the new one is worse than the old one on what was kept back, or acts where nothing is wrong.
    """
    for package in PACKAGES:
        if find_spec(package) is None:
            raise ConfigError("jidoka train", package, "it is not installed", "pip install 'jidoka[model]'")
    from connectors.reasoners.weights import digest
    from pipelines.training.decisions import decisions_of
    from pipelines.training.tune import TuneRecipe, tune

    began, decisions = time.monotonic(), []
    for incidents in map(read_set, sets):
        found, left = decisions_of(incidents)
        decisions += found
        _say_left(incidents, left)

    def tell(text: str) -> None:
        print(f"{time.monotonic() - began:6.0f} s  {text}", file=sys.stderr, flush=True)

    result = tune(base, out, decisions, TuneRecipe(seed=seed, steps=steps), tell)
    if as_json:
        print(json.dumps(result.summary()))
    else:
        for name, after in result.after.items():
            before = result.before[name]
            print(f"{name}: {after.exact} of {after.incidents} exact, {before.exact} before; {after.acted} acted on")
        print(_settings(out, digest(sorted(out.glob("*.safetensors")))))
    if result.worse:
        print("do not use it: " + "; ".join(result.worse), file=sys.stderr)
        raise typer.Exit(1)


def _say_left(incidents: IncidentSet, left: list[str]) -> None:
    for line in left:
        print(f"{incidents.header.name}: not learnt from: {line}", file=sys.stderr)


def _settings(out: Path, sha256: str) -> str:
    return f"""to use it, in jidoka.toml:

[reasoners]
proposal = "cascade"
cascade = {{ order = ["tuned", "playbook"] }}

[[reasoners.transformers]]
name = "tuned"
model = "{out.resolve()}"
sha256 = "{sha256}"
dtype = "float32"
device = "cpu"
threads = 1
told = "slots\""""
