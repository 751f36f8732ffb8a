"""The soak harness: bounds of rates, resuming, and that a failure is counted and said."""

from __future__ import annotations

import json
import logging
import math
from types import SimpleNamespace

import pytest

from pipelines import soak, soak_reasoning
from pipelines.soak_runs import RUNS
from pipelines.soak_units import Outcome, Unit
from schemas.errors import ConnectionFault


@pytest.mark.parametrize(
    ("failures_n", "trials_n", "bound"),
    [
        (0, 1, 0.95),
        (0, 3000, 0.000998),
        (0, 100_000, 0.00002996),
        (1, 100, 0.046560),  # Clopper and Pearson, one-sided 95 %
        (3, 3, 1.0),
        (0, 0, 1.0),
    ],
)
def test_upper_bound_of_a_rate(failures_n, trials_n, bound):
    assert soak.upper_bound(failures_n, trials_n) == pytest.approx(bound, rel=1e-3)


@pytest.mark.parametrize(("failures_n", "trials_n"), [(2, 40), (5, 50), (30, 90)])
def test_bound_is_where_so_few_failures_have_a_chance_of_five_percent(failures_n, trials_n):
    p = soak.upper_bound(failures_n, trials_n)
    chance = sum(math.comb(trials_n, k) * p**k * (1 - p) ** (trials_n - k) for k in range(failures_n + 1))
    assert chance == pytest.approx(0.05, rel=1e-6)


def counted(calls, stop_at=None):
    def work(number):
        calls.append(number)
        if number == stop_at:
            raise KeyboardInterrupt
        return Outcome(10, ("it broke",) if number == 1 else (), {"size": float(number)})

    return lambda seed: [Unit(f"{seed}-{n}", lambda n=n: work(n)) for n in range(4)]


def soaked(monkeypatch, tmp_path, units, *options):
    monkeypatch.setattr(soak, "RUNS", {"counted": units})
    out = tmp_path / "soak" / "results.json"
    code = soak.main(["--out", str(out), *options])
    return code, json.loads(out.read_text())["runs"]["counted"]


@pytest.fixture(autouse=True)
def _logging_again():
    yield
    logging.disable(logging.NOTSET)


def test_an_interrupted_soak_goes_on_where_it_was(monkeypatch, tmp_path):
    calls = []
    code, result = soaked(monkeypatch, tmp_path, counted(calls, stop_at=2))
    assert (code, result["complete"], result["units"]) == (130, False, 2)
    code, result = soaked(monkeypatch, tmp_path, counted(calls))
    assert (code, result["complete"], result["trials"], result["failures"]) == (1, True, 40, 1)
    assert calls == [0, 1, 2, 2, 3]
    assert result["failed"] == ["1-1: it broke"]
    assert result["figures"]["size"] == {"min": 0.0, "median": 2.0, "max": 3.0, "sum": 6.0}


def test_another_seed_and_fresh_begin_again(monkeypatch, tmp_path):
    calls = []
    soaked(monkeypatch, tmp_path, counted(calls))
    soaked(monkeypatch, tmp_path, counted(calls), "--seed", "2")
    soaked(monkeypatch, tmp_path, counted(calls), "--fresh")
    soaked(monkeypatch, tmp_path, counted(calls))
    assert len(calls) == 12


def test_a_torn_line_of_progress_is_done_again(monkeypatch, tmp_path):
    calls = []
    soaked(monkeypatch, tmp_path, counted(calls))
    (path,) = (tmp_path / "soak" / "progress").iterdir()
    path.write_text(path.read_text()[:-20])
    for _ in range(2):
        _, result = soaked(monkeypatch, tmp_path, counted(calls))
        assert (result["complete"], calls) == (True, [0, 1, 2, 3, 3])


def test_every_run_names_its_units_the_same_at_every_start():
    for name, units in RUNS.items():
        names = [unit.name for unit in units(1)]
        assert names == [unit.name for unit in units(1)], name
        assert len(set(names)) == len(names), name


class Mute:
    """A model whose time is up at the second answer."""

    def write(self, prompt, *, seed, temperature, deadline_s):
        if seed == 1:
            raise ConnectionFault("no answer within 300 s")
        return SimpleNamespace(said="no JSON" if seed == 2 else json.dumps({}))


def test_an_answer_that_does_not_come_is_counted_and_the_others_are_asked(monkeypatch):
    monkeypatch.setattr(soak_reasoning, "_model", lambda seed: SimpleNamespace(engine=Mute()))
    outcome = soak_reasoning._answers(1, 0)
    assert outcome.trials_n == len(outcome.failures) == soak_reasoning.ANSWERS_UNIT_N
    assert outcome.failures[1] == "answer 1 did not come: no answer within 300 s"
    assert outcome.failures[2].startswith("answer 2 is no JSON")
