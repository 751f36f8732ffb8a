"""Which reasoner answers which tier, by `jidoka.toml`."""

from __future__ import annotations

from agent.ports import Reasoner
from connectors.reasoners import REASONERS
from pipelines.config import Configuration
from schemas.errors import ConfigError
from schemas.plans import Tier


def reasoners_of(configuration: Configuration) -> dict[Tier, Reasoner]:
    """Return the reasoner of each tier.

    Raises:
        ConfigError: a name that the table does not have.
    """
    named = configuration.settings.reasoners
    return {
        "reflex": _make(configuration, "reflex", named.reflex),
        "proposal": _make(configuration, "proposal", named.proposal),
    }


def _make(configuration: Configuration, tier: Tier, name: str) -> Reasoner:
    factory = REASONERS.get(name)
    if factory is None:
        raise ConfigError(
            "jidoka.toml", f"reasoners.{tier}", f"there is no reasoner {name!r}", f"Use one of: {', '.join(REASONERS)}"
        )
    return factory(configuration.playbook, configuration.sha256("playbook.toml"))
