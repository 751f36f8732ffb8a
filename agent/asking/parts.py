"""Cuts a text at its joints (and, then, commas, full stops) and gives every word of a part its meaning. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from agent.asking.amounts import SHARE, Amount
from agent.asking.things import Things
from agent.asking.tokens import Token
from agent.asking.words import Verb, Way, Words

BARRED = {
    "denying": "denies something or takes it back",
    "asking": "asks",
    "conditional": "makes it depend on something, or on a time",
    "undecided": "leaves it open",
}
"""By field of `Words`: what such a word does to the whole text."""


@dataclass(slots=True)
class Part:
    """One wish, in pieces."""

    start: int = 0
    stop: int = 0
    verbs: list[tuple[str, Verb]] = field(default_factory=list)
    doing: bool = False
    ways: list[Way] = field(default_factory=list)
    things: list[tuple[tuple[str, ...], frozenset[str]]] = field(default_factory=list)
    """Phrases with the actions that they can be about."""
    also: list[tuple[tuple[str, ...], frozenset[str]]] = field(default_factory=list)
    """Verbs that are words of actions as well: to change is one, and `change_pads` has it."""
    amounts: list[Amount] = field(default_factory=list)
    preposition: str = ""
    """One that no number has followed yet."""
    unknown: list[str] = field(default_factory=list)
    whole: frozenset[str] = frozenset()
    """Actions of which a name, title or alias was said as a whole: `set grip force` needs no other verb."""

    @property
    def empty(self) -> bool:
        """Whether nothing was said."""
        return not (self.verbs or self.doing or self.ways or self.things or self.amounts or self.preposition
                    or self.unknown)  # fmt: skip


def bar_of(tokens: Sequence[Token], words: Words, things: Things) -> str | None:
    """Return why nothing may follow from any of it; None: something may."""
    at, first = 0, True
    texts = tuple(token.text for token in tokens)
    while at < len(tokens):
        token = tokens[at]
        if (length := things.match(texts, at)) > 0:
            at, first = at + length, False
            continue
        if token.kind == "ask" or (first and token.text in words.asking):
            return f"{token.text!r} {BARRED['asking']}: nothing follows from a text that does"
        for name in ("denying", "conditional", "undecided"):
            if token.text in getattr(words, name):
                return f"{token.text!r} {BARRED[name]}: nothing follows from a text that does"
        first = token.kind == "end"
        at += 1
    return None


def parts_of(tokens: Sequence[Token], words: Words, things: Things) -> list[Part]:
    """Cut at joints; phrases of names are matched first, so that a title may hold one."""
    texts = tuple(token.text for token in tokens)
    parts, part, at = list[Part](), Part(), 0
    while at < len(tokens):
        token = tokens[at]
        length = things.match(texts, at)
        if not length and (token.kind == "end" or token.text in words.joints):
            parts, part, at = [*parts, part], Part(), at + 1
            continue
        length = length or _width(texts, at, words, things)
        if part.empty:
            part.start = token.start
        part.stop = tokens[at + length - 1].stop
        _take(part, texts[at : at + length], token, words, things)
        at += length
    return [each for each in [*parts, part] if not each.empty]


def _width(texts: tuple[str, ...], at: int, words: Words, things: Things) -> int:
    """Return how many words the longest phrase of the tables has here; at least one."""
    for length in (3, 2):
        phrase = " ".join(texts[at : at + length])
        known = phrase in words.verbs or phrase in words.points or _unit(phrase, words, things)
        if len(texts) >= at + length and known:
            return length
    return 1


def _take(part: Part, phrase: tuple[str, ...], token: Token, words: Words, things: Things) -> None:
    """Give one phrase its meaning in the part."""
    said = " ".join(phrase)
    named = things.phrases.get(phrase)
    last = part.amounts[-1] if part.amounts else None
    if len(phrase) > 1 and named is not None:
        part.things.append((phrase, named))
        part.whole |= things.whole.get(phrase, frozenset())
    elif token.kind == "number" or said in words.fractions:
        amount = Amount(words.fractions.get(said, token.value), part.preposition, fraction=token.kind != "number")
        part.amounts.append(amount)
        part.preposition = ""
    elif last is not None and said in words.points and not last.fraction:
        part.amounts[-1] = replace(last, points=True, unit=SHARE)
    elif last is not None and not last.unit and not last.fraction and (unit := _unit(said, words, things)):
        part.amounts[-1] = replace(last, unit=unit)
    elif last is not None and said in words.of_present:
        part.amounts[-1] = replace(last, of_present=True)
    elif said in words.verbs:
        part.verbs.append((said, words.verbs[said]))
        part.doing = part.doing or said in words.doing
        if named is not None:
            part.also.append((phrase, named))
    elif said in words.doing:
        part.doing = True
    elif said in words.to | words.by | words.since and not part.preposition:
        part.preposition = "to" if said in words.to else "by" if said in words.by else "from"
    elif said in words.ways:
        part.ways.append(words.ways[said])
    elif named is not None:
        part.things.append((phrase, named))
        part.whole |= things.whole.get(phrase, frozenset())
    else:
        part.unknown.append(said)


def _unit(said: str, words: Words, things: Things) -> str:
    """Return the unit that is said, as catalogues write it; empty: it is none."""
    return SHARE if said == SHARE else words.units.get(said, "") or things.units.get(said, "")
