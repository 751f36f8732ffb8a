"""What the reasoners of a run were asked, and what they planned. The same plans make the same run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agent.guard.question import Rulebook
from agent.ports import Reasoner
from agent.reasoning.parse import parse_plan
from schemas.errors import ConnectionFault
from schemas.plans import Completion, Finding, Plan, Post, ReasonerRequest

Planned = tuple[tuple[object, ...], ...] | None
"""Evidence, asset and actions of each finding: all that the core goes by. None: nothing that it could use."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One question, and what came of it."""

    post: Post
    request: ReasonerRequest
    planned: Planned


class Hearing:
    """A reasoner whose questions and plans are kept."""

    def __init__(self, post: Post, reasoner: Reasoner, rules: Rulebook, kept: list[Asked]) -> None:
        """Keep in `kept` what `reasoner` is asked at `post`."""
        self.name = reasoner.name
        self._post, self._reasoner, self._rules, self._kept = post, reasoner, rules, kept

    async def propose(self, request: ReasonerRequest) -> Completion:
        """Answer as the reasoner does."""
        planned: Planned = None
        try:
            completion = await self._reasoner.propose(request)
            planned = _planned(completion, request, self._rules)
            return completion
        finally:
            self._kept.append(Asked(self._post, request, planned))


async def plans_the_same(asked: Sequence[Asked], reasoners: Mapping[Post, Reasoner], rules: Rulebook) -> bool:
    """Tell whether other reasoners plan the same for everything that was asked; then their run is the same too."""
    for each in asked:
        try:
            completion = await reasoners[each.post].propose(each.request)
        except ConnectionFault:
            return False
        if each.planned is None or _planned(completion, each.request, rules) != each.planned:
            return False
    return True


def _planned(completion: Completion, request: ReasonerRequest, rules: Rulebook) -> Planned:
    plan = parse_plan(completion.raw, request, rules)
    return tuple(map(_essence, plan.findings)) if isinstance(plan, Plan) else None


def _essence(finding: Finding) -> tuple[object, ...]:
    actions = tuple((action.name, tuple(sorted(action.args.items()))) for action in finding.actions)
    return finding.evidence, finding.asset, actions
