"""Reads a sentence by the tables of words: no model, nothing guessed. Pure.

The text is cut at joints (and, then, commas, full stops). A part is understood only if every word of it has a meaning
and all of them together mean one thing; otherwise the whole part is listed with the reason, and what it could mean. If
anything in the text denies, asks, leaves open or makes conditional, nothing follows from any part of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from agent.asking.amounts import SHARE, Amount, Unclear, unit_fits, value_of
from agent.asking.things import Things, things_of
from agent.asking.tokens import Token, tokens_of
from agent.asking.words import Verb, Way, Words
from agent.reasoning.repertoire import Repertoire
from schemas.catalogue import Action
from schemas.plans import ACTIONS_MAX
from schemas.sentences import Interpretation, NotUnderstood, Understood

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


def interpret(text: str, words: Words, repertoire: Repertoire, setpoints: Mapping[str, float]) -> Interpretation:
    """Read a sentence.

    Args:
        text: As it was written.
        words: Of its language.
        repertoire: Of the cell.
        setpoints: Present values by tag; a change of one that is not there is not understood.
    """
    tokens = [token for token in tokens_of(text) if token.text not in words.fillers]
    things = things_of(repertoire, words)
    if (bar := _barred(tokens, words, things)) is not None:
        return Interpretation(not_understood=(NotUnderstood(text, bar),), barred=True)
    understood: list[Understood] = []
    missed: list[NotUnderstood] = []
    for part in _parts(tokens, words, things):
        said = text[part.start : part.stop]
        found = _understand(part, words, things, repertoire, setpoints)
        if isinstance(found, Unclear):
            missed.append(NotUnderstood(said, found.reason, found.candidates))
        else:
            understood.append(msgspec.structs.replace(found, words=said))
    return _once(understood, missed)


def _once(understood: Sequence[Understood], missed: list[NotUnderstood]) -> Interpretation:
    """Leave out what is asked for twice, and what is more than a plan holds."""
    names = [u.action for u in understood]
    kept = [u for u in understood if names.count(u.action) == 1]
    missed += [NotUnderstood(u.words, f"{u.action} is asked for more than once") for u in understood if u not in kept]
    missed += [NotUnderstood(u.words, f"a plan has at most {ACTIONS_MAX} actions") for u in kept[ACTIONS_MAX:]]
    return Interpretation(tuple(kept[:ACTIONS_MAX]), tuple(missed))


# ---------------------------------------------------------------- what bars the whole text


def _barred(tokens: Sequence[Token], words: Words, things: Things) -> str | None:
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


# ---------------------------------------------------------------- parts


def _parts(tokens: Sequence[Token], words: Words, things: Things) -> list[Part]:
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


# ---------------------------------------------------------------- one part


def _understand(
    part: Part, words: Words, things: Things, repertoire: Repertoire, setpoints: Mapping[str, float]
) -> Understood | Unclear:
    if any(word in words.numerals for word in part.unknown):
        return Unclear("numbers are written in digits")
    if part.unknown:
        return _unknown(part, things)
    if part.preposition:
        return Unclear(f"nothing follows {part.preposition!r}")
    factors = [verb for _, verb in part.verbs if verb.factor is not None]
    if not (part.amounts or factors):
        return _plain(part, words, things, repertoire)
    return _valued(part, things, repertoire, setpoints)


def _unknown(part: Part, things: Things) -> Unclear:
    """Name the words; what the known ones could be about is shown, and not taken."""
    said = ", ".join(f"'{word}'" for word in part.unknown)
    about = _common([names for _, names in part.things]) if part.things else frozenset[str]()
    known = tuple(name for name in things.words if name in about)
    return Unclear(f"{said} means nothing here", known)


def _plain(part: Part, words: Words, things: Things, repertoire: Repertoire) -> Understood | Unclear:
    """An action without a value: by a name of its own, or by its first word with anything else that it is called."""
    named = [*part.things, *part.also]
    if not named:
        return Unclear("it does not say what to change" if part.verbs or part.doing else "it does not say what to do")
    about = _common([names for _, names in named])
    plain = [a for a in repertoire.actions if a.name in about and not a.args]
    said = {word for phrase, _ in named for word in phrase}
    asked = [a for a in plain if part.doing or a.name in part.whole or things.starts[a.name] in said]
    bare = [(text, verb) for text, verb in part.verbs if (text,) not in [phrase for phrase, _ in part.also]]
    wrong = bool(part.ways) or any(text not in words.doing for text, _ in bare)
    if len(asked) == 1 and not wrong:
        return Understood("", asked[0].name)
    if len(asked) > 1 and not wrong:
        return Unclear("it can mean more than one action", tuple(a.name for a in asked))
    valued = _common([names for _, names in part.things]) if part.things else about
    wanted = [a for a in repertoire.actions if a.name in valued and a.args]
    if part.verbs and wanted:
        return Unclear("it says no value", tuple(range_text(a) for a in wanted))
    known = tuple(a.name for a in repertoire.actions if a.name in about)
    return Unclear("it does not say what to do" if known else "its words do not belong to one action", known)


def _valued(part: Part, things: Things, repertoire: Repertoire, setpoints: Mapping[str, float]) -> Understood | Unclear:
    way = _way(part)
    if isinstance(way, Unclear):
        return way
    about = _common([names for _, names in part.things]) if part.things else frozenset(things.words)
    wanted = [a for a in repertoire.actions if a.name in about and a.args and _quantity_fits(a, part, things)]
    if not wanted or not (part.things or any(verb.quantities for _, verb in part.verbs)):
        known = tuple(a.name for a in repertoire.actions if a.name in about)
        return Unclear("it does not name something that is set", known if part.things else ())
    single = [a for a in wanted if len(a.args) == 1]
    fitting = [a for a in single if all(unit_fits(amount, a.args[0]) for amount in part.amounts)]
    if not single:
        return Unclear(f"{wanted[0].name} takes several values: use jidoka request", (range_text(wanted[0]),))
    if not fitting:
        return Unclear("the unit is not that of what is set", tuple(range_text(a) for a in single))
    if len(fitting) > 1:
        return Unclear("it can mean more than one action", tuple(range_text(a) for a in fitting))
    return _with_value(part, way, fitting[0], setpoints)


def _with_value(part: Part, way: Way, action: Action, setpoints: Mapping[str, float]) -> Understood | Unclear:
    argument = action.args[0]
    present = setpoints.get(argument.tag)
    since = [amount for amount in part.amounts if amount.preposition == "from"]
    amounts = [amount for amount in part.amounts if amount.preposition != "from"]
    if len(since) > 1 or len(amounts) > 1:
        return Unclear("it says more than one value", (range_text(action),))
    if since and (present is None or since[0].fraction or not abs(since[0].value - present) <= argument.tolerance):
        shown = "not known" if present is None else f"{present:g} {argument.unit}"
        return Unclear(f"the present value is {shown}, not {since[0].value:g}")
    factors = [verb.factor for _, verb in part.verbs if verb.factor is not None]
    if factors and amounts:
        return Unclear("it says more than one value", (range_text(action),))
    if factors:
        amounts = [Amount(factors[0], "to", fraction=True, of_present=True)]
    if not amounts:
        return Unclear("it says no value", (range_text(action),))
    value = value_of(amounts[0], way, argument, present)
    return value if isinstance(value, Unclear) else Understood("", action.name, {argument.name: value})


def _way(part: Part) -> Way | Unclear:
    """Return which way the verbs say; one verb only, and nothing that contradicts it."""
    if len(part.verbs) > 1:
        return Unclear("it says two things to do: " + ", ".join(text for text, _ in part.verbs))
    ways = {way for way in [*(verb.way for _, verb in part.verbs), *part.ways] if way != "none"}
    if len(ways) > 1:
        return Unclear("it says up and down")
    if not part.verbs and not part.whole:
        return Unclear("it does not say what to do")
    return ways.pop() if ways else "none"


def _quantity_fits(action: Action, part: Part, things: Things) -> bool:
    wanted = [verb.quantities for _, verb in part.verbs if verb.quantities]
    return all(set(quantities) & things.words[action.name] for quantities in wanted)


def _common(sets: Sequence[frozenset[str]]) -> frozenset[str]:
    common = sets[0]
    for each in sets[1:]:
        common &= each
    return common


def range_text(action: Action) -> str:
    """Return an action with the ranges of the catalogue, for people.

    Policy may be narrower; the guard says so.
    """
    ranges = ", ".join(f"{x.name} {x.min:g}..{x.max:g} {x.unit}" for x in action.args)
    return f"{action.name} ({ranges})" if ranges else action.name
