"""Which values a sentence names, whoever reads it: its own numbers, and changes of the present value by them. Pure.

A large model reads more freely than the tables. What it may choose is bounded by this, and the step holds every plan
against it again: a value that is not in the sentence, and does not follow from it, never becomes a proposal.
"""

from __future__ import annotations

from collections.abc import Mapping

from agent.asking.tokens import tokens_of
from agent.asking.words import Words
from agent.guard.question import Rulebook
from agent.reasoning.repertoire import STEPS, Preferred, Repertoire, rounded_6
from schemas.catalogue import Argument
from schemas.plans import Plan, Unusable

REQUESTED = "requested"
"""The one diagnosis that a model is offered for a sentence: nobody asks it for a cause."""


def numbers_of(text: str, words: Words) -> tuple[float, ...]:
    """Return the numbers in a text, and those that its fractions and verbs stand for."""
    found: list[float] = []
    for token in tokens_of(text):
        if token.kind == "number":
            # One of more digits than values are kept in is not read: what is proposed would be another number.
            found += [token.value] if rounded_6(token.value) == token.value else []
        elif token.text in words.fractions:
            found.append(100 * words.fractions[token.text])
        elif (verb := words.verbs.get(token.text)) is not None and verb.factor is not None:
            found.append(100 * verb.factor)
    return tuple(found)


def says_how_much(text: str, words: Words) -> bool:
    """Whether a text says any number, also one that nobody here reads, as `1,5` or a word for one."""
    if any(char.isnumeric() for char in text) or numbers_of(text, words):
        return True
    return any(token.text in words.numerals for token in tokens_of(text))


def values_named(text: str, words: Words, present: float | None) -> frozenset[float]:
    """Return the values that a text can mean for a set-point, to 6 significant digits; empty: none is read."""
    numbers = numbers_of(text, words)
    named = set(numbers)
    if present is not None:
        for n in numbers:
            named |= {present + n, present - n, present * n / 100, present * (1 + n / 100), present * (1 - n / 100)}
    return frozenset(rounded_6(value) for value in named)


def repertoire_for(text: str, words: Words, repertoire: Repertoire, setpoints: Mapping[str, float]) -> Repertoire:
    """Return what a model may choose from for a sentence: the values that it names; eighths if it says no number."""
    asked_for = [
        Preferred(action.name, argument.name, value)
        for action in repertoire.actions
        for argument in action.args
        for value in values_named(text, words, setpoints.get(argument.tag))
    ]
    return Repertoire(
        repertoire.rules, (REQUESTED,), tuple(asked_for), steps=0 if says_how_much(text, words) else STEPS
    )


def unnamed(plan: Plan, text: str, words: Words, rules: Rulebook, setpoints: Mapping[str, float]) -> Unusable | None:
    """Return why a plan is no reading of a sentence: it has a value that the sentence does not name."""
    if not says_how_much(text, words):
        return None
    for finding in plan.findings:
        for planned in finding.actions:
            action = rules.catalogue.action(planned.name)
            for argument in action.args if action is not None else ():
                value = planned.args.get(argument.name)
                if value is not None and not _is_named(value, text, words, argument, setpoints):
                    return Unusable("sentence.value", f"{argument.name} {value:g} is not in the sentence")
    return None


def _is_named(value: float, text: str, words: Words, argument: Argument, setpoints: Mapping[str, float]) -> bool:
    return rounded_6(value) in values_named(text, words, setpoints.get(argument.tag))
