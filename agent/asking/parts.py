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


@dataclass(frozen=True, slots=True)
class Piece:
    """A name of two words or more, or one word, number or sign."""

    phrase: tuple[str, ...]
    token: Token
    """The first."""
    stop: int
    named: bool = False


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


def pieces_of(tokens: Sequence[Token], words: Words, things: Things) -> list[Piece]:
    """Find the names in a text; of the rest, fillers are left out."""
    texts = tuple(token.text for token in tokens)
    pieces, at = list[Piece](), 0
    while at < len(tokens):
        phrase, width = things.match(texts, at, words.fillers)
        if phrase:
            pieces.append(Piece(phrase, tokens[at], tokens[at + width - 1].stop, named=True))
        elif texts[at] not in words.fillers:
            pieces.append(Piece((texts[at],), tokens[at], tokens[at].stop))
        at += width or 1
    return pieces


def bar_of(pieces: Sequence[Piece], words: Words) -> str | None:
    """Return why nothing may follow from any of it; None: something may."""
    first = True
    for piece in pieces:
        if piece.named:
            first = False
            continue
        (said,) = piece.phrase
        if piece.token.kind == "ask" or (first and said in words.asking):
            return f"{said!r} {BARRED['asking']}: nothing follows from a text that does"
        for name in ("denying", "conditional", "undecided"):
            if said in getattr(words, name):
                return f"{said!r} {BARRED[name]}: nothing follows from a text that does"
        first = piece.token.kind == "end" or said in words.joints
    return None


def parts_of(pieces: Sequence[Piece], words: Words, things: Things) -> list[Part]:
    """Cut at joints; a name may hold one."""
    parts, part, at = list[Part](), Part(), 0
    while at < len(pieces):
        piece = pieces[at]
        if not piece.named and (piece.token.kind == "end" or piece.phrase[0] in words.joints):
            parts, part, at = [*parts, part], Part(), at + 1
            continue
        width = _width(pieces[at:], words, things)
        if part.empty:
            part.start = piece.token.start
        part.stop = pieces[at + width - 1].stop
        phrase = tuple(word for each in pieces[at : at + width] for word in each.phrase)
        _take(part, phrase, piece.token, words, things)
        at += width
    return [each for each in [*parts, part] if not each.empty]


def _width(pieces: Sequence[Piece], words: Words, things: Things) -> int:
    """Return how many pieces the longest phrase of the tables has here; at least one. A name is no part of it."""
    for width in (3, 2):
        taken = pieces[:width]
        phrase = " ".join(piece.phrase[0] for piece in taken)
        tables = (words.verbs, words.points, words.fractions)
        known = any(phrase in table for table in tables) or _unit(phrase, words, things)
        if len(taken) == width and known and not any(piece.named for piece in taken):
            return width
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
    elif last is not None and said in words.points and not last.fraction and last.unit in ("", SHARE):
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
