"""docs/plc-side.md says what the simulated PLC does: the numbers in it are those of the program."""

from __future__ import annotations

import math
import re
from pathlib import Path

from connectors.plant import ledger, packml, verbs
from connectors.plant.codes import MEANING, STATE_NAMES, Code, State
from connectors.plant.plc import AGENT_SILENT_S
from schemas.line import PackMLState

PAGE = (Path(__file__).parents[2] / "docs" / "plc-side.md").read_text(encoding="utf-8")
PROGRAM = "\n".join(re.findall(r"```iecst\n(.*?)```", PAGE, re.DOTALL))


def enumeration(name):
    body = re.search(rf"{name} : \((.*?)\) DINT", PROGRAM, re.DOTALL).group(1)
    return {key: int(number) for key, number in re.findall(r"(\w+) := (\d+)", body)}


def constant(name):
    return float(re.search(rf"{name} : \w+ := (?:T#)?([\d.]+)", PROGRAM).group(1))


def test_table_of_codes_is_the_one_of_the_program():
    rows = re.findall(r"^\| (\d+) \| ([A-Z_]+) \| (.+) \|$", PAGE, re.MULTILINE)
    assert rows == [(str(code.value), code.name, MEANING[code]) for code in Code]


def test_table_of_states_is_the_one_of_the_program():
    rows = re.findall(r"^\| (\d) \| ([a-z ]+) \|", PAGE, re.MULTILINE)
    assert rows == [(str(state.value), STATE_NAMES[state].replace("_", " ")) for state in State]


def test_enumerations_in_structured_text_have_the_same_numbers():
    assert enumeration("E_Code") == {code.name: code.value for code in Code}
    assert enumeration("E_State") == {state.name: state.value for state in State}


def test_limits_in_structured_text_are_those_of_the_program():
    for name in ("GRIP_FORCE_N_MIN", "GRIP_FORCE_N_MAX", "SPEED_PCT_MIN", "SPEED_PCT_MAX"):
        assert constant(name) == getattr(verbs, name)
    assert constant("AGENT_SILENT") == AGENT_SILENT_S
    assert constant("LEDGER_LAST") + 1 == ledger.ENTRIES_MAX


def test_verbs_in_structured_text_are_those_of_the_program():
    assert set(re.findall(r"Name = '(\w+)'", PROGRAM)) == set(verbs.VERBS)


def allowed(label):
    listed = re.search(rf"{label}\s+CASE Mem.PackML OF ([\d, ]+):", PROGRAM).group(1)
    return {PackMLState(int(number)) for number in listed.split(",")}


def test_states_in_which_a_verb_is_allowed_are_those_of_the_program():
    for name, label in (("Hold", "E_Verb#HOLD:"), ("Unhold", "E_Verb#UNHOLD:")):
        verb = verbs.VERBS[name]
        leaving = {state for trigger, state in packml.TRANSITIONS if trigger == verb.trigger}
        assert allowed(label) == leaving | set(verb.already), name
    assert allowed("E_Verb#CHANGE_PADS:") == set(verbs.VERBS["ChangePads"].states)
    assert allowed("ELSE") == set(verbs.VERBS["SetGripForce"].states)


def test_blocks_are_closed():
    for opening, closing in (
        (r"\bMETHOD\b", "END_METHOD"), (r"^FUNCTION_BLOCK\b", "END_FUNCTION_BLOCK"), (r"\bFOR\b", "END_FOR"),
        (r"\bCASE\b", "END_CASE"), (r"(?<!ELS)(?<!END_)\bIF\b", "END_IF"),
    ):  # fmt: skip
        text = re.sub(r"\(\*.*?\*\)", "", PROGRAM, flags=re.DOTALL)
        opened = len(re.findall(rf"(?<!END_){opening}", text, re.MULTILINE))
        assert opened == len(re.findall(rf"\b{closing}\b", text)), closing


def test_false_positives_of_the_documented_filter_are_as_stated():
    bits, hashes = constant("FILTER_BITS"), constant("FILTER_HASHES")
    assert (1 - math.exp(-hashes * 4300 / bits)) ** hashes < 1e-3
