"""Reads a sentence by the tables of words: no model, nothing guessed. Pure.

The text is cut at joints (and, then, commas, full stops). A part is understood only if every word of it has a meaning
and all of them together mean one thing; otherwise the whole part is listed with the reason, and what it could mean. If
anything in the text denies, asks, leaves open or makes conditional, nothing follows from any part of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from agent.asking.amounts import Amount, Unclear, unit_fits, value_of
from agent.asking.parts import Part, bar_of, parts_of, pieces_of
from agent.asking.things import Things, things_of
from agent.asking.tokens import tokens_of
from agent.asking.words import Way, Words
from agent.reasoning.repertoire import Repertoire
from schemas.catalogue import Action
from schemas.plans import ACTIONS_MAX
from schemas.sentences import Interpretation, NotUnderstood, Understood


def interpret(text: str, words: Words, repertoire: Repertoire, setpoints: Mapping[str, float]) -> Interpretation:
    """Read a sentence.

    Args:
        text: As it was written.
        words: Of its language.
        repertoire: Of the cell.
        setpoints: Present values by tag; a change of one that is not there is not understood.
    """
    things = things_of(repertoire, words)
    pieces = pieces_of(tokens_of(text), words, things)
    if (bar := bar_of(pieces, words)) is not None:
        return Interpretation(not_understood=(NotUnderstood(text, bar),), barred=True)
    understood: list[Understood] = []
    missed: list[NotUnderstood] = []
    for part in parts_of(pieces, words, things):
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
    asked = [a for a in plain if _asked(a, part, said, things)]
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


def _asked(action: Action, part: Part, said: set[str], things: Things) -> bool:
    """Whether it is asked for, and not only spoken of: by a whole name, by its first word, or run like a sequence.

    A doing word alone does not: to start the cell is not to hold it.
    """
    if action.name in part.whole or things.starts[action.name] in said:
        return True
    return part.doing and any(len(said & rest) >= min(2, len(rest)) for rest in things.sequences[action.name] if rest)


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
    if len(single) > 1 and _names_the_asset_only(part, single, things):
        return Unclear("it can mean more than one action", tuple(range_text(a) for a in single))
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


def _names_the_asset_only(part: Part, actions: Sequence[Action], things: Things) -> bool:
    """Whether nothing but the equipment is named: then a unit that fits one set-point of it decides nothing."""
    said = {word for phrase, _ in part.things for word in phrase}
    return bool(said) and all(said <= things.assets[action.name] for action in actions)


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
