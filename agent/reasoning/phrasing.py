"""How choices become text that a model reads and writes.

A phrasing gives the piece of text that each option of a choice point adds to the answer. Pieces begin where a tokenizer
begins a new token of its own accord (a space before what is no space), so that encoding piece by piece gives the
tokens of the whole text: a model then sees what it would have written itself.
"""

from __future__ import annotations

from typing import Final, Protocol

from agent.reasoning.space import STOP, ChoicePoint, Draft, DraftFinding


class Phrasing(Protocol):
    """One way to write plans down."""

    name: str

    @property
    def opening(self) -> str:
        """What every answer begins with: a space, or nothing."""

    def piece(self, draft: Draft, point: ChoicePoint, option: str) -> str:
        """Return what `option` adds to the answer: it begins with a space and ends with none."""


class JsonPhrasing:
    """The arguments of the function call, as JSON. No two options of a point begin one with the other.

    >>> JsonPhrasing().opening
    ' {"findings": ['
    """

    name = "json/1"
    opening: Final = ' {"findings": ['

    def piece(self, draft: Draft, point: ChoicePoint, option: str) -> str:
        """Return what `option` adds to the answer."""
        match point.kind:
            case "target" if option == STOP:
                return " ]}"
            case "target":
                return f'{_next(draft.findings)} {{"evidence": "{option}", "diagnosis":'
            case "diagnosis":
                return f' "{option}", "actions": ['
            case "action" if option == STOP:
                return " ]}"
            case "action":
                finding = draft.findings[-1]
                args = next(a for a in finding.target.actions if a.name == option).args
                return f'{_next(finding.actions)} {{"name": "{option}", "args": {{' + (
                    f'"{args[0].name}":' if args else "}}"
                )
            case "argument":
                return f" {option}" + _after(draft.findings[-1])


def _next(before: tuple[object, ...]) -> str:
    return " ," if before else ""


def _after(finding: DraftFinding) -> str:
    """What follows a value: the name of the next argument, or the end of the action."""
    last = finding.actions[-1]
    left = last.action.args[len(last.values) + 1 :]
    return f', "{left[0].name}":' if left else "}}"
