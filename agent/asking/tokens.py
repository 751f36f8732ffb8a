"""A text as words, numbers and signs, in order, with nothing left out. Pure.

Digits are 0 to 9 and the decimal sign is a point: `1,5` and digits of other scripts are signs that nobody understands,
never numbers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

TOKEN: Final = re.compile(
    r"(?P<number>(?:(?<=\s)|^|(?<=\=))[+-]?[0-9]+(?:[.,:][0-9]+)*)"
    r"|(?P<word>[^\W\d_]+(?:['’][^\W\d_]+)*|_[0-9]+)"
    r"|(?P<unit>%|°[A-Za-z]?)"
    r"|(?P<end>[.;!,\n])"
    r"|(?P<ask>[?])"
    r"|(?P<glue>[_-](?=[^\W_]))"
    r"|(?P<sign>\S)"
)
PLAIN: Final = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?")
DIGITS_MAX: Final = 12
"""Of one number: more is no value of a machine."""

Kind = Literal["number", "word", "unit", "end", "ask", "sign"]


@dataclass(frozen=True, slots=True)
class Token:
    """One piece of a text."""

    kind: Kind
    text: str
    """In lower case."""
    start: int
    stop: int
    value: float = 0.0
    """Of a number."""


def tokens_of(text: str) -> tuple[Token, ...]:
    """Cut a text.

    >>> [t.text for t in tokens_of("Slow conveyor 2 to 60%, set grip_force_n = 1,5")]
    ['slow', 'conveyor', '2', 'to', '60', '%', ',', 'set', 'grip', 'force', 'n', '=', '1,5']
    """
    found: list[Token] = []
    for match in TOKEN.finditer(text):
        kind, said = str(match.lastgroup), match.group().casefold()
        if kind == "glue":
            continue
        if kind == "number":
            found.append(_number(said, match.start(), match.end()))
        else:
            found.append(Token(_kind(kind), said.lstrip("_"), match.start(), match.end()))
    return tuple(found)


def words_of(name: str) -> tuple[str, ...]:
    """Return the words of an identifier, a title or an alias.

    >>> words_of("conveyor_speed_sp_pct"), words_of("Conveyor 2")
    (('conveyor', 'speed', 'sp', 'pct'), ('conveyor', '2'))
    """
    return tuple(token.text for token in tokens_of(name) if token.kind in ("word", "number", "unit", "sign"))


def _number(said: str, start: int, stop: int) -> Token:
    if PLAIN.fullmatch(said) and len(said) <= DIGITS_MAX:
        return Token("number", said, start, stop, float(said))
    return Token("sign", said, start, stop)


def _kind(name: str) -> Kind:
    match name:
        case "word" | "unit" | "end" | "ask":
            return name
        case _:
            return "sign"
