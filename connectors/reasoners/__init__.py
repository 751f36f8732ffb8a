"""The reasoners that `jidoka.toml` can name, in one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from connectors.reasoners.playbook import PlaybookReasoner
from schemas.plans import Completion, ReasonerRequest
from schemas.playbook import Playbook


class Proposer(Protocol):
    """The port `Reasoner`."""

    name: str

    async def propose(self, request: ReasonerRequest) -> Completion:
        """Answer within `request.deadline_s`."""


ReasonerFactory = Callable[[Playbook, str], Proposer]
"""From the playbook and the SHA-256 of its file."""

REASONERS: Mapping[str, ReasonerFactory] = {"playbook": PlaybookReasoner}
"""name -> how to make one."""
