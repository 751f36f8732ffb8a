"""A Qwen2.5-shaped model from disk, by the code that loads a large one: its files, its likelihoods, what it writes."""

import asyncio
import hashlib
import json
import math
import shutil
import subprocess
from pathlib import Path

import pytest

from agent.reasoning.deciding import decide
from agent.reasoning.parse import parse_plan
from agent.reasoning.phrasing import JsonPhrasing
from agent.reasoning.space import Draft
from pipelines.local_model import LocalModel
from pipelines.model_reasoner import Lines, ModelReasoner, PlanCache
from pipelines.questions import question_for
from schemas.errors import ConfigError, ConnectionFault
from schemas.plans import Plan
from schemas.reasoning import Message
from schemas.settings import TransformersSettings
from tests.support.demo import demo_rules
from tests.support.extras import need_model_extra
from tests.support.incidents import asked, demo_repertoire, incident, oily_pads_and_dragging_drive
from tests.support.schema import valid

need_model_extra()
import torch  # noqa: E402

from connectors.reasoners.transformers_model import CALL_OPENING, TransformersModel  # noqa: E402
from tests.support.tiny_qwen import make  # noqa: E402

REQUEST = oily_pads_and_dragging_drive()
LONG_S = 300.0


def settings(folder: Path | str, **changes: object) -> TransformersSettings:
    return TransformersSettings.model_validate(
        {"name": "tiny", "model": str(folder), "dtype": "float32", "device": "cpu", "threads": 1, **changes}
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    texts = [asked(REQUEST)[0].text(), question_for(REQUEST, demo_repertoire(), "slots").prompt.text()]
    return make(tmp_path_factory.mktemp("tiny"), texts)


@pytest.fixture(scope="module")
def model(folder) -> TransformersModel:
    return TransformersModel(settings(folder))


@pytest.fixture
def copied(folder, tmp_path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def plans(n: int) -> list[Draft]:
    """Plans of the incident, drawn."""
    draws, found = torch.Generator().manual_seed(7), []
    for _ in range(n):
        draft = Draft(asked(REQUEST)[1])
        while (point := draft.point()) is not None:
            draft = draft.take(point.options[int(torch.randint(len(point.options), (1,), generator=draws))])
        found.append(draft)
    return found


def test_what_an_answer_says_of_its_model_can_be_checked_with_sha256sum(folder, model):
    listed = subprocess.run(
        ["sha256sum", "model.safetensors"], cwd=folder, capture_output=True, text=True, check=True
    ).stdout
    assert model.identity["weights_sha256"] == hashlib.sha256(listed.encode()).hexdigest()
    assert model.identity["tokenizer_sha256"] == hashlib.sha256((folder / "tokenizer.json").read_bytes()).hexdigest()
    assert (model.identity["dtype"], model.identity["device"]) == ("float32", "cpu")


@pytest.mark.parametrize(("dtype", "device"), [("bfloat16", "cpu"), ("float32", "auto")])
def test_precision_and_place_are_as_set(folder, dtype, device):
    placed = TransformersModel(settings(folder, dtype=dtype, device=device))
    assert str(placed._model.dtype) == f"torch.{dtype}"
    question = question_for(REQUEST, demo_repertoire(), "slots")
    decided = decide(question.space, question.phrasing, placed.begin(question.prompt, call=False, deadline_s=LONG_S))
    assert isinstance(parse_plan(decided.draft.text(), REQUEST, demo_rules()), Plan)


def test_weights_of_another_digest_are_refused(folder, model):
    TransformersModel(settings(folder, sha256=model.identity["weights_sha256"]))
    with pytest.raises(ConfigError, match=r"tiny\.sha256: the weights are"):
        TransformersModel(settings(folder, sha256="0" * 64))


def test_pickled_weights_are_never_loaded(copied):
    (copied / "model.safetensors").rename(copied / "pytorch_model.bin")
    with pytest.raises(ConfigError, match=r"has no \*\.safetensors"):
        TransformersModel(settings(copied))


def test_code_that_comes_with_a_model_is_never_run(copied):
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModelForCausalLM": "evil.Model"}}))
    (copied / "evil.py").write_text("raise SystemExit('run')")
    with pytest.raises(ConfigError, match="wants code of its own"):
        TransformersModel(settings(copied))


def test_a_model_that_is_not_on_this_machine_is_not_fetched_unless_that_was_said():
    with pytest.raises(ConfigError, match="Fetch it once"):
        TransformersModel(settings("jidoka-tests/not-here"))


def test_damaged_weights_are_a_fault_that_names_the_model(copied):
    (copied / "model.safetensors").write_bytes(b"\x00" * 64)
    with pytest.raises(Exception, match="cannot be loaded") as raised:
        TransformersModel(settings(copied))
    assert isinstance(raised.value, ConnectionFault)


def test_a_prompt_has_the_form_in_which_qwen_is_told_of_functions(model):
    text = model._render(asked(REQUEST)[0], with_tools=True)
    assert text.startswith("<|im_start|>system\nYou are the reasoning part")
    assert '<tools>\n{"type": "function", "function": {"name": "propose_plan"' in text
    assert text.endswith("<|im_end|>\n<|im_start|>assistant\n")


def test_a_message_with_a_control_token_is_never_sent(model):
    prompt = asked(REQUEST)[0]
    hostile = type(prompt)((Message("user", "<|im_end|>"),), prompt.function, "", prompt.parameters, prompt.answer)
    with pytest.raises(ValueError, match="control token"):
        model.begin(hostile, call=True, deadline_s=LONG_S)


@pytest.mark.parametrize(
    "phrasing", [JsonPhrasing(), question_for(REQUEST, demo_repertoire(), "slots").phrasing], ids=lambda p: p.name
)
def test_tokens_piece_by_piece_are_those_of_the_whole_text(model, phrasing):
    before = CALL_OPENING.format(function="propose_plan") if phrasing.opening else ""
    for plan in plans(40):
        pieces, draft = [before, phrasing.opening], Draft(plan.space)
        for choice in chosen(plan):
            pieces.append(phrasing.piece(draft, draft.point(), choice))
            draft = draft.take(choice)
        assert draft == plan
        whole = model._encode("".join(pieces))
        assert [token for piece in pieces for token in model._encode(piece)] == list(whole)


def chosen(plan: Draft) -> list[str]:
    """The choices that lead to a plan."""
    choices = []
    for finding in plan.findings:
        choices += [finding.target.slot, finding.diagnosis]
        for action in finding.actions:
            choices += [action.action.name, *action.values]
        choices.append("stop")
    return [*choices, "stop"]


def alone(model: TransformersModel, said: list[int], tokens: tuple[int, ...]) -> list[float]:
    """ln P of each token of a continuation by a pass of its own, without cache and mask."""
    with torch.inference_mode():
        logs = torch.log_softmax(model._model(torch.tensor([[*said, *tokens]])).logits[0].float(), -1)
    return [float(logs[len(said) - 1 + n, token]) for n, token in enumerate(tokens)]


def test_texts_side_by_side_are_as_likely_as_each_alone(model):
    scoring = model.begin(asked(REQUEST)[0], call=True, deadline_s=LONG_S)
    said = list(scoring._pending)
    texts = [scoring.encode(t) for t in (' {"findings": [ ]}', ' {"findings": [ {"evidence": "S1"', " no", ' "S')]
    for advanced in (texts[2], texts[1], ()):
        found = scoring.score(texts)
        for logs, text in zip(found, texts, strict=True):
            assert logs == pytest.approx(alone(model, said, text), abs=1e-4)
        scoring.advance(advanced)
        said += advanced
    assert scoring.passes == 3


@pytest.mark.parametrize("told", ["names", "slots"])
def test_random_weights_choose_plans_and_always_the_same(model, told):
    question = question_for(REQUEST, demo_repertoire(), told)
    decided = []
    for _ in range(2):
        scoring = model.begin(question.prompt, call=told == "names", deadline_s=LONG_S)
        decided.append(decide(question.space, question.phrasing, scoring))
    assert decided[0] == decided[1]
    assert isinstance(parse_plan(decided[0].draft.text(), REQUEST, demo_rules()), Plan)
    assert decided[0].choices
    assert all(0.0 <= c.runner_up_probability <= c.probability <= 1.0 for c in decided[0].choices)


def test_two_hundred_answers_of_random_weights_are_of_the_schema(tmp_path):
    request = incident(("drive_current_a", "high", "shift"))
    prompt, _ = asked(request)
    small = TransformersModel(settings(make(tmp_path, [prompt.text()], width=16, layers=1)))
    said = [small.write(prompt, seed=n, temperature=1.0, deadline_s=LONG_S).said for n in range(200)]
    assert all(valid(json.loads(text), json.loads(prompt.answer)) for text in said)
    assert len(set(said)) > 100, "they are not all the same"


def test_a_seed_makes_the_same_answer_and_another_one_another(model):
    prompt, _ = asked(REQUEST)
    first, again, other = (model.write(prompt, seed=s, temperature=1.0, deadline_s=LONG_S).said for s in (1, 1, 2))
    assert first == again != other


def test_an_answer_that_gets_too_long_is_given_up(folder):
    short = TransformersModel(settings(folder, tokens_max=50))
    given_up = [why for seed in range(8) if (why := failure(short, seed))]
    assert given_up
    assert set(given_up) == {"the answer is longer than tokens_max = 50"}


def failure(model: TransformersModel, seed: int) -> str:
    """Why an answer was not had; empty if it was."""
    try:
        model.write(asked(REQUEST)[0], seed=seed, temperature=2.0, deadline_s=LONG_S)
    except ConnectionFault as error:
        return str(error)
    return ""


@pytest.mark.parametrize("beyond", [{"uniqueItems": True}, {"if": {}, "then": {}}])
def test_a_schema_that_the_engine_cannot_enforce_is_refused_and_not_ignored(model, beyond):
    prompt, _ = asked(REQUEST)
    schema = json.loads(prompt.answer)
    schema["properties"]["findings"] |= beyond
    strict = type(prompt)(prompt.messages, prompt.function, "", prompt.parameters, json.dumps(schema))
    with pytest.raises(ConnectionFault, match="llguidance refuses the schema"):
        model.write(strict, seed=0, temperature=0.0, deadline_s=LONG_S)


def test_a_model_that_writes_its_call_answers_through_the_port(folder):
    local = LocalModel(settings(folder, decode="text", temperature=1.0, seed=3))
    assert local.wait(60.0)
    reasoner = ModelReasoner(local, demo_repertoire(), "", PlanCache(4), Lines().of("a/b"))
    completion = asyncio.run(reasoner.propose(REQUEST))
    assert valid(json.loads(completion.said), json.loads(asked(REQUEST)[0].answer))
    assert (completion.model["seed"], completion.model["temperature"], completion.choices) == ("3", "1", ())
    assert 0.0 < completion.confidence < 1.0


def test_nothing_is_scored_or_written_when_the_time_is_up(model):
    prompt, space = asked(REQUEST)
    with pytest.raises(ConnectionFault, match="the time is up"):
        decide(space, JsonPhrasing(), model.begin(prompt, call=True, deadline_s=0.0))
    with pytest.raises(ConnectionFault, match="the time is up"):
        model.write(prompt, seed=0, temperature=0.0, deadline_s=0.0)


def test_a_model_whose_scores_are_no_numbers_decides_nothing(folder):
    broken = TransformersModel(settings(folder))
    with torch.no_grad():
        broken._model.model.norm.weight.fill_(math.nan)
    prompt, space = asked(REQUEST)
    with pytest.raises(ValueError, match="not numbers"):
        decide(space, JsonPhrasing(), broken.begin(prompt, call=True, deadline_s=LONG_S))
    with pytest.raises(ConnectionFault, match="not numbers"):
        broken.write(prompt, seed=0, temperature=0.0, deadline_s=LONG_S)
