"""Whatever is written: no value that the sentence does not say, nothing lost, and nothing sent without an approval."""

import re

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.asking.english import ENGLISH
from agent.asking.following import problem_of
from agent.asking.interpreting import interpret
from agent.asking.named import values_named
from agent.effects import Dispatch
from agent.guard.check import RULES
from schemas import facts
from tests.support.asking import Asking, heard
from tests.support.builders import SETPOINTS
from tests.support.demo import demo_rules, with_policy
from tests.support.incidents import HOSTILE, demo_repertoire

RELAXED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=200)
NAMES = [asset.id for asset in demo_rules().cell.assets] + [
    name for action in demo_rules().catalogue.actions for name in (action.name, action.title, *action.name.split("_"))
]
PIECES = [*ENGLISH.verbs, *ENGLISH.joints, *ENGLISH.doing, *ENGLISH.to, *ENGLISH.by, *ENGLISH.since, *ENGLISH.fillers,
          *ENGLISH.fractions, *ENGLISH.units, *ENGLISH.points, *ENGLISH.ways, *NAMES, "%", "N", ".", ",", "conveyor",
          "grip force", "lift", "pads", "xyzzy", "1,5", "４０", "١٢"]  # fmt: skip
NUMBERS = st.one_of(
    st.integers(-200, 500).map(str),
    st.floats(0, 200, width=32).map(lambda x: f"{x:.3f}"),
    st.sampled_from(["60", "40"]),
)
BARRING = sorted(ENGLISH.denying | ENGLISH.conditional | ENGLISH.undecided)
WISHES = st.lists(st.one_of(st.sampled_from(PIECES), NUMBERS), max_size=14).map(" ".join)
LIKELY = st.builds(
    "{} the {} {} {} {}".format,
    st.sampled_from(["set", "reduce", "slow", "raise", "increase"]),
    st.sampled_from(["conveyor", "grip force", "lift", "gripper", "drive"]),
    st.sampled_from(["to", "by", ""]),
    NUMBERS,
    st.sampled_from(["%", "N", "", "points"]),
)
TEXTS = st.one_of(LIKELY, st.lists(LIKELY, min_size=2, max_size=4).map(" and ".join), WISHES, st.text(max_size=80))
PRESENT = st.floats(0, 120, allow_nan=False).map(lambda x: round(x, 2))


@RELAXED
@given(text=TEXTS, present=PRESENT)
def test_a_value_is_in_the_sentence_or_follows_from_a_number_in_it(text, present):
    setpoints = dict.fromkeys(SETPOINTS, present)
    found = interpret(text, ENGLISH, demo_repertoire(), setpoints)
    said = {float(number) for number in re.findall(r"[+-]?[0-9]+(?:\.[0-9]+)?", text)}
    for part in found.understood:
        for value in part.args.values():
            assert value in values_named(part.words, ENGLISH, present)
            assert said or any(word in part.words.casefold() for word in (*ENGLISH.fractions, "halve", "double"))


@RELAXED
@given(text=TEXTS)
def test_reading_never_fails_and_every_part_is_cut_from_the_text(text):
    found = heard(text)
    for part in (*found.understood, *found.not_understood):
        assert part.words in text
    actions = [part.action for part in found.understood]
    assert len(actions) == len(set(actions)) <= 4


@RELAXED
@given(before=LIKELY, word=st.sampled_from(BARRING), after=LIKELY)
def test_nothing_follows_from_a_text_with_a_word_that_bars_it_wherever_it_stands(before, word, after):
    for text in (f"{word} {before}", f"{before} {word}", f"{before} {word} {after}", f"{before}. {word}, {after}"):
        assert heard(text).understood == ()


@RELAXED
@given(text=TEXTS)
def test_an_unknown_word_in_every_part_leaves_nothing(text):
    spoilt = " and ".join(f"xyzzy {part}" for part in re.split(r"\band\b|\bthen\b|\bplus\b|[&.,;!]", text))
    assert heard(spoilt).understood == ()


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(texts=st.lists(st.one_of(TEXTS, st.sampled_from(HOSTILE)), min_size=1, max_size=3))
def test_nothing_is_sent_by_texts_alone_and_what_waits_is_within_every_rule(texts):
    auto = [{"action": a.name, "autonomy": "auto", "raised_by": "test", "reason": "test"}
            for a in demo_rules().catalogue.actions if a.risk_class == "B"]  # fmt: skip
    story = Asking(with_policy(demo_rules(), actions=auto))
    for number, text in enumerate(texts):
        story.asks(text, f"ask{number}")
    assert not story.wished(Dispatch)
    assert not story.of(facts.CommandIntended)
    for judged in story.of(facts.GuardJudged):
        assert judged.decision in ("needs_approval", "refused")
        assert len(judged.verdicts) == len(RULES)
    refused = {f.request_id for f in story.of(facts.RequestRefused)}
    proposed = {f.request_id for f in story.of(facts.PlanProposed)}
    assert refused | proposed == {f"ask{n}" for n in range(len(texts))}
    assert not refused & proposed
    assert not (story.state.requests or story.state.asks)  # noqa: PT018 - both are bounds of one thing


@RELAXED
@given(text=st.text(max_size=600))
def test_only_what_is_shown_and_short_is_read(text):
    read = problem_of(text, "") is None
    assert read == (0 < len(text.strip()) and len(text) <= 500 and text.isprintable())
