"""Asks reasoners about the cases of a set, one after the other, and measures how long each takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from agent.ports import Reasoner
from pipelines.config import Configuration
from pipelines.evaluation.cases import Case, IncidentSet, Rules, rules_of
from pipelines.evaluation.figures import Asked, Result
from pipelines.evaluation.judging import Judged, judge
from pipelines.local_model import LocalModel
from pipelines.questions import Model
from pipelines.reasoning import Reasoners
from pipelines.remote_model import RemoteModel
from schemas.errors import ConnectionFault, JidokaError

LOAD_S = 900.0
"""Wall time for a model to be loaded; 72 billion parameters from a slow disk take minutes."""

Told = Callable[[int, int], None]
"""Is called with how many of how many are done."""


def named(configuration: Configuration, reasoner: str) -> Configuration:
    """Return the configuration with this reasoner for proposals, and no kept answers: each case is asked."""
    settings = configuration.settings
    cascade = settings.reasoners.cascade.model_copy(update={"cached_max": 0})
    reasoners = settings.reasoners.model_copy(update={"proposal": reasoner, "reflex": "playbook", "cascade": cascade})
    return replace(configuration, settings=settings.model_copy(update={"reasoners": reasoners}))


async def ready(configuration: Configuration) -> Mapping[str, Model]:
    """Load the models that the configuration names, and prove its servers.

    Raises:
        ConfigError: a model's files are missing, or nothing has this name.
        ConnectionFault: a model does not load, or its server does not keep to a schema.
    """
    models = Reasoners(configuration).models
    for model in models.values():
        if isinstance(model, LocalModel) and not model.wait(LOAD_S):
            raise ConnectionFault(f"{model.name} could not be loaded within {LOAD_S:g} s: jidoka doctor says more")
        if isinstance(model, RemoteModel) and (refusal := await model.ready()):
            raise ConnectionFault(f"{model.name} is not asked: {refusal}")
    return models


async def ask_all(
    configuration: Configuration,
    reasoner: str,
    incidents: IncidentSet,
    *,
    models: Mapping[str, Model] | None = None,
    told: Told = lambda done, of: None,
) -> Result:
    """Ask about every case of a set.

    Args:
        configuration: Whose models may be asked; its plant is not used, the set has its own.
        reasoner: A name of `REASONERS`, `cascade`, or a model of the configuration.
        incidents: The cases.
        models: What `ready` returned for this reasoner, for whoever asks about several sets; None: they are loaded.
        told: Called after each.

    Raises:
        JidokaError: the reasoner cannot be had at all. One that fails on a case is counted.
    """
    chosen = named(configuration, reasoner)
    models = await ready(chosen) if models is None else models
    sites = {name: rules_of(site) for name, site in incidents.sites.items()}
    proposers = {name: _proposer(chosen, rules, models) for name, rules in sites.items()}
    asked, identity = list[Asked](), dict[str, str]()
    for number, case in enumerate(incidents.cases, start=1):
        one, model = await _ask(proposers[case.site], case, sites[case.site])
        asked.append(one)
        identity.update(model)
        told(number, len(incidents.cases))
    return Result(reasoner, identity, incidents.header.name, incidents.sha256, incidents.header.published, tuple(asked))


def _proposer(configuration: Configuration, rules: Rules, models: Mapping[str, Model]) -> Reasoner:
    """Return the reasoner for the cell that a site's cases are about."""
    there = replace(
        configuration,
        plant=rules.plant,
        catalogue=rules.catalogue,
        policy=rules.policy,
        playbook=rules.playbook,
        files={**configuration.files, **rules.files},
    )
    return Reasoners(there, models=models).of(rules.rulebook.cell)["proposal"]


async def _ask(proposer: Reasoner, case: Case, rules: Rules) -> tuple[Asked, Mapping[str, str]]:
    began_s = time.perf_counter()
    try:
        completion = await proposer.propose(case.request)
    except JidokaError as error:
        return Asked(case, Judged(), time.perf_counter() - began_s, failure=str(error)), {}
    took_s = time.perf_counter() - began_s
    judged = judge(completion, case, rules)
    return Asked(case, judged, took_s, by=completion.reasoner), _steady(completion.model)


PASSING: Sequence[str] = ("passes", "tokens", "kept")
"""What a completion says of one answer, and not of the model."""


def _steady(model: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in model.items() if key not in PASSING}
