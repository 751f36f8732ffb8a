"""What the words of a cell mean: phrases of ids, titles and aliases, with the actions that they can be about."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from agent.asking.tokens import words_of
from agent.asking.words import Words
from agent.reasoning.repertoire import Repertoire
from schemas.catalogue import Action
from schemas.plant import Tag

Phrase = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Things:
    """The names in one cell, in one language."""

    phrases: Mapping[Phrase, frozenset[str]]
    """Action names by phrase; a single word of a longer phrase stands for every action whose phrases have it."""
    starts: Mapping[str, str]
    """By action: the first word of its name, by which one without a value is asked for: to clean, of `clean_pads`."""
    sequences: Mapping[str, tuple[frozenset[str], ...]]
    """By action: the words of its names that begin with a doing word, without it: run the *pad cleaning sequence*."""
    assets: Mapping[str, frozenset[str]]
    """By action: the words by which its asset is called."""
    whole: Mapping[Phrase, frozenset[str]]
    """Phrases that are an action's own name, title or alias as a whole."""
    words: Mapping[str, frozenset[str]]
    """All words by action."""
    units: Mapping[str, str]
    """Units of the arguments, by their pieces in lower case with spaces between; those that look alike are left out."""
    longer: Mapping[str, tuple[Phrase, ...]]
    """Phrases of two words or more by their first word, the longest first."""

    def match(self, texts: Phrase, at: int, fillers: frozenset[str]) -> tuple[Phrase, int]:
        """Return the longest phrase that stands from `at` on, and over how many words; none is `(), 0`.

        Between its words the text may have fillers; a filler that the phrase has must be in the text.
        """
        for phrase in self.longer.get(texts[at], ()):
            if (width := _width(phrase, texts[at:], fillers)) > 0:
                return phrase, width
        return (), 0


def _width(phrase: Phrase, texts: Phrase, fillers: frozenset[str]) -> int:
    """Return how many words of a text a phrase takes from its beginning; 0: it does not stand there."""
    at = 0
    for word in phrase:
        while at < len(texts) and texts[at] != word and texts[at] in fillers:
            at += 1
        if at == len(texts) or texts[at] != word:
            return 0
        at += 1
    return at


@dataclass(slots=True)
class _Index:
    phrases: dict[Phrase, set[str]] = field(default_factory=dict)
    words: dict[str, set[str]] = field(default_factory=dict)

    def add(self, phrase: Phrase, action: str) -> None:
        if not phrase:
            return
        self.phrases.setdefault(phrase, set()).add(action)
        self.words.setdefault(action, set()).update(phrase)


def things_of(repertoire: Repertoire, words: Words) -> Things:
    """Return what can be named in a cell."""
    index, starts = _Index(), dict[str, str]()
    sequences: dict[str, tuple[frozenset[str], ...]] = {}
    assets: dict[str, frozenset[str]] = {}
    whole: dict[Phrase, set[str]] = {}
    for action in repertoire.actions:
        own = [phrase for name in _own_names(action) if (phrase := _phrase(name))]
        starts[action.name] = words_of(action.name)[0]
        sequences[action.name] = tuple(frozenset(phrase[1:]) for phrase in own if phrase[0] in words.doing)
        assets[action.name] = frozenset(word for name in _asset_names(action, repertoire) for word in _phrase(name))
        for phrase in own:
            whole.setdefault(phrase, set()).add(action.name)
        for phrase in [*own, *(_phrase(name) for name in _other_names(action, repertoire))]:
            index.add(phrase, action.name)
        for phrase in _bare(action):
            index.add(phrase, action.name)
    singles: dict[str, set[str]] = {}
    for action_name, its in index.words.items():
        for word in its:
            singles.setdefault(word, set()).add(action_name)
    phrases: dict[Phrase, frozenset[str]] = {
        (w,): frozenset(names) for w, names in singles.items() if _telling(w, words)
    }
    phrases |= {p: frozenset(names) for p, names in index.phrases.items() if len(p) > 1}
    return Things(
        phrases,
        starts,
        sequences,
        assets,
        {p: frozenset(names) for p, names in whole.items()},
        {name: frozenset(its) for name, its in index.words.items()},
        _units(repertoire),
        _longer(phrases),
    )


def _units(repertoire: Repertoire) -> dict[str, str]:
    units = {x.unit for action in repertoire.actions for x in action.args if x.unit != "1"}
    said = [" ".join(words_of(unit)) for unit in sorted(units)]
    return {text: unit for text, unit in zip(said, sorted(units), strict=True) if said.count(text) == 1}


def _own_names(action: Action) -> Iterator[str]:
    yield from (action.name, action.title, *action.aliases)


def _asset_names(action: Action, repertoire: Repertoire) -> Iterator[str]:
    asset_id = repertoire.asset_of(action)
    for asset in repertoire.rules.cell.assets:
        if asset.id == asset_id:
            yield from (asset.id, asset.title, *asset.aliases)


def _other_names(action: Action, repertoire: Repertoire) -> Iterator[str]:
    yield from _asset_names(action, repertoire)
    for argument in action.args:
        yield argument.name
        for tag in _tags(argument.tag, repertoire):
            yield from (tag.name, tag.title, *tag.aliases)


def _bare(action: Action) -> Iterator[Phrase]:
    """Names of arguments and set-points without their unit: `conveyor_speed_pct` is said conveyor speed."""
    for argument in action.args:
        name = _phrase(argument.name)
        if len(name) > 1:
            yield name[:-1]


def _tags(name: str, repertoire: Repertoire) -> list[Tag]:
    return [tag for tag in repertoire.rules.cell.tags if tag.name == name]


def _phrase(name: str) -> Phrase:
    """Return the words of a name, all of them: `clean_pads_a` and *Vacuum on* mean something by the last."""
    return words_of(name.replace("_", " "))


def _longer(phrases: Iterable[Phrase]) -> dict[str, tuple[Phrase, ...]]:
    found: dict[str, list[Phrase]] = {}
    for phrase in sorted(phrases, key=lambda phrase: (-len(phrase), phrase)):
        if len(phrase) > 1:
            found.setdefault(phrase[0], []).append(phrase)
    return {first: tuple(those) for first, those in found.items()}


def _telling(word: str, words: Words) -> bool:
    """Whether a word by itself names something: not a filler, an article, a joint, a preposition or a number."""
    small = words.fillers | words.small | words.joints | words.to | words.by | words.since | words.of_present
    return word not in small and not word[0].isdigit() and word.isalnum()
