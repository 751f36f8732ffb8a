"""English, as it is spoken beside a machine."""

from __future__ import annotations

from typing import Final

from agent.asking.words import Verb, Words

DOWN, UP, SET = Verb("down"), Verb("up"), Verb()
SPEEDS: Final = ("speed", "rate", "velocity", "pace")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


ENGLISH: Final = Words(
    fillers=_words("also an it its just kindly me now of our please pls the this your"),
    small=_words("a on"),
    joints=_words("and then & plus"),
    verbs={
        **dict.fromkeys(("set", "put", "bring", "turn", "change", "adjust", "move", "run"), SET),
        **dict.fromkeys(("reduce", "lower", "decrease", "drop", "cut", "lessen", "ease", "weaken", "loosen"), DOWN),
        **dict.fromkeys(("raise", "increase", "boost", "strengthen", "tighten"), UP),
        **dict.fromkeys(("slow", "slow down", "decelerate"), Verb("down", SPEEDS)),
        **dict.fromkeys(("speed up", "accelerate", "quicken"), Verb("up", SPEEDS)),
        "halve": Verb("down", factor=0.5),
        "double": Verb("up", factor=2.0),
    },
    doing=_words("run start do perform execute"),
    ways={"down": "down", "up": "up"},
    to=frozenset({"to", "at", "=", "onto"}),
    by=frozenset({"by"}),
    since=frozenset({"from"}),
    of_present=frozenset({"present"}),
    fractions={"half": 0.5, "a half": 0.5, "third": 1 / 3, "a third": 1 / 3, "quarter": 0.25, "a quarter": 0.25},
    numerals=_words("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
                    "sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred "
                    "thousand dozen twice thrice"),
    units={
        "percent": "%", "per cent": "%", "pct": "%", "newton": "N", "newtons": "N", "amp": "A", "amps": "A",
        "ampere": "A", "amperes": "A", "volt": "V", "volts": "V", "millimetre": "mm", "millimetres": "mm",
        "millimeter": "mm", "millimeters": "mm", "second": "s", "seconds": "s", "degree": "degC", "degrees": "degC",
        "°c": "degC", "hertz": "Hz",
    },
    points=frozenset({"points", "percentage points", "percent points", "% points"}),
    denying=_words(
        "not no never none nothing nor neither without except avoid instead cannot dont don't doesn't didn't can't "
        "won't wouldn't shouldn't mustn't isn't aren't wasn't haven't hasn't don’t doesn’t didn’t can’t won’t wouldn’t "
        "shouldn’t mustn’t isn’t aren’t cancel undo revert scratch disregard forget nope nay cease refrain rather but"
    ),
    asking=_words("what why how where who whom whose which is are was were can could should would will may might shall "
                  "does did has have"),
    conditional=_words("if unless when whenever until till while after before once provided assuming later tomorrow "
                       "tonight soon case otherwise else during every"),
    undecided=_words("or either whether maybe perhaps probably possibly approximately about around roughly nearly "
                     "almost"),
)  # fmt: skip
