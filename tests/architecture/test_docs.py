"""What the documentation says is held against the code: names, commands, rules, links, and generated pages."""

from __future__ import annotations

import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import typer.main

from agent.guard.check import RULES
from agent.guard.interactions import PASSES_BY_ITSELF
from agent.guard.question import ATTEMPTS_MAX
from agent.incident import Phase
from pipelines import configbook, factbook
from pipelines.cli import app
from pipelines.sources import attribute_docs
from schemas import facts

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("deploy/**/*.md")])
FACTS = [str(kind.__struct_config__.tag) for union in (facts.External, facts.Detected, facts.Concluded)
         for kind in get_args(union)]  # fmt: skip
COMMON_WORDS = frozenset(["is"])
"""After the program's name in a sentence."""


def page(name: str) -> str:
    return (ROOT / name).read_text()


def tracked_files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.split("\0") if name]


def commands() -> set[str]:
    """Return every command of the command line, as it is typed."""
    names = set()
    for name, command in typer.main.get_command(app).commands.items():
        names.add(name)
        names |= {f"{name} {inner}" for inner in getattr(command, "commands", {})}
    return names


@pytest.mark.parametrize("book", [factbook, configbook], ids=lambda book: book.__name__)
def test_a_generated_page_is_what_the_code_says_now(book):
    name = {factbook: "facts.md", configbook: "configuration.md"}[book]
    assert page(f"docs/{name}") == book.page(), f"run {book.COMMAND}"


def test_a_stale_page_is_told_and_left_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("pipelines.pages.DOCS", tmp_path)
    (tmp_path / "facts.md").write_text("old")
    from pipelines.pages import settle

    assert settle("facts.md", "new", ["--check"], "x") == 1
    assert "stale" in capsys.readouterr().err
    assert (tmp_path / "facts.md").read_text() == "old"


def test_every_configuration_field_has_its_sentence():
    rows = [line for line in page("docs/configuration.md").splitlines() if line.startswith("| `")]
    assert len(rows) > 80
    assert [row for row in rows if re.search(r"\|\s*\|$", row)] == []


def test_a_sentence_beneath_a_field_is_read_from_the_source():
    docs = attribute_docs(facts)
    assert docs["SnapshotTaken", "readings"] == "By tag name."
    assert docs["SnapshotTaken", ""].startswith("Fresh readings")
    assert ("SnapshotTaken", "subject_id") not in docs


def test_every_fact_stands_in_the_fact_book():
    missing = [name for name in FACTS if f"### {name}\n" not in page("docs/facts.md")]
    assert missing == []


def test_the_glossary_holds_the_noun_of_every_fact_and_every_phase():
    words = set(re.findall(r"^\*\*(.+?)\*\*", page("docs/glossary.md"), re.MULTILINE))
    named = {word.strip() for entry in words for word in entry.split(",")}
    nouns = {name.split(".")[0].replace("_", " ") for name in FACTS}
    assert nouns - named == set()
    assert {f"`{phase}`" for phase in get_args(Phase)} - named == set()


def test_the_glossary_holds_the_words_of_the_field():
    wanted = (
        "action, alarm, anomaly, asset, bundle, cell, checkpoint, command, compensation, diagnosis, effect, epoch, "
        "episode, escalation, evidence, fact, finding, gap, head, incident, interlock, line, PackML state, permissive, "
        "plan, position, quality, read-back, regime, replay, row, sample, setpoint, soak, stream, tag, tick"
    )
    entries = re.findall(r"^\*\*(.+?)\*\*", page("docs/glossary.md"), re.MULTILINE)
    named = {word.strip() for entry in entries for word in entry.split(",")}
    assert {word.strip() for word in wanted.split(",")} - named == set()


def test_no_word_of_the_glossary_has_two_entries():
    entries = re.findall(r"^\*\*(.+?)\*\*", page("docs/glossary.md"), re.MULTILINE)
    named = [word.strip() for entry in entries for word in entry.split(",")]
    assert sorted({word for word in named if named.count(word) > 1}) == []


def test_the_safety_page_has_every_rule_of_the_guard_in_order_with_its_sentence():
    said = re.findall(r"^\| \d+ \| `([\w.]+)` \| (.+?) \|", page("docs/safety.md"), re.MULTILINE)
    wanted = [(rule_name(rule), (rule.__doc__ or "").strip().splitlines()[0]) for rule in RULES]
    assert said == wanted


def named_between(text: str, start: str, end: str) -> set[str]:
    """Return the words in code spans from one word of a page to another."""
    return set(re.findall(r"`([\w.]+)`", text[text.index(start) : text.index(end, text.index(start))]))


def test_the_safety_page_names_the_rules_that_pass_by_themselves():
    """Was: by numbers, which went wrong when a rule was put in between."""
    said = named_between(
        page("docs/safety.md"), "those that pass by themselves", "A command refused only by these four"
    )
    assert said == PASSES_BY_ITSELF | {"freshness.source"}


def test_the_safety_page_names_what_a_way_back_to_safe_is_exempt_from():
    """Was: `interlock.preconditions`, by a number, which nothing is exempt from."""
    said = named_between(page("docs/safety.md"), "is exempt from", "and from nothing")
    asking = {rule_name(rule) for rule in RULES if "towards_safe()" in inspect.getsource(rule)}
    assert said == asking - {"risk_class"} | {"approvals"}


def test_the_safety_page_says_how_often_a_command_is_sent():
    words = {1: "one send", 2: "two sends", 3: "three sends"}
    assert f"{words[ATTEMPTS_MAX]} in all" in page("docs/safety.md")


def rule_name(rule) -> str:
    """Return the name under which a rule's verdicts stand in the log, from its own source."""
    source = inspect.getsource(rule)
    match = re.search(r'rule(?:, \w+)? = "([\w.]+)"|(?:passed|refused)\("([\w.]+)"', source)
    assert match is not None, rule
    return match.group(1) or match.group(2)


def test_the_state_table_has_every_phase_of_a_command():
    rows = re.findall(r"^\| `(\w+)` \|", page("docs/architecture.md"), re.MULTILINE)
    assert [phase for phase in get_args(Phase) if phase not in rows] == []


def test_every_bound_in_the_architecture_page_is_the_one_in_the_code():
    rows = re.findall(r"^\| `([A-Z_]+)` \| ([\d.]+) \| `([\w.]+)` \|", page("docs/architecture.md"), re.MULTILINE)
    assert len(rows) > 30
    wrong = [row for row in rows if str(getattr(importlib.import_module(row[2]), row[0])) != row[1]]
    assert wrong == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(path):
    broken = []
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", path.read_text()):
        name, _, anchor = target.partition("#")
        there = (path.parent / name).resolve() if name else path
        if not there.exists() or (anchor and anchor not in anchors(there)):
            broken.append(target)
    assert broken == []


def anchors(path: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


DEFAULTED = {"export": "record"}
"""Groups with the command that is meant where none of theirs is named."""


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_in_the_pages_exist(path):
    groups = {name.split()[0] for name in commands() if " " in name}
    unknown = []
    for first, second in re.findall(r"(?:^|[\s`/])jidoka ([a-z]+)(?: ([a-z]+))?", code_of(path)):
        name = f"{first} {second}" if first in groups else first
        if name not in commands() and first not in {*COMMON_WORDS, *DEFAULTED}:
            unknown.append(name)
    assert unknown == []


def code_of(path: Path) -> str:
    """Return what stands in code spans and blocks."""
    text = path.read_text()
    blocks = re.findall(r"^```.*?\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))
    return "\n".join([*blocks, *spans])


def test_the_readme_names_every_command():
    shown = {f"{group} {default}": group for group, default in DEFAULTED.items()}
    named = {shown.get(name, name) for name in commands() - {"log", "replay"}}
    missing = [name for name in named if f"jidoka {name}" not in page("README.md")]
    assert missing == []


def test_make_targets_named_in_the_readme_exist():
    targets = set(re.findall(r"^([a-z]+):", page("Makefile"), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z]+)", page("README.md"))) <= targets


def test_no_file_names_a_machine_or_a_registry():
    forbidden = re.compile(r"(?<![\w.])/(?:work|farm|home/\w+)/|pypi\.org/simple|[\w.-]+\.internal\b")
    found = []
    for path in tracked_files():
        if path == Path(__file__):
            continue
        try:
            text = path.read_text()
        except (UnicodeDecodeError, FileNotFoundError):
            continue
        found += [f"{path.relative_to(ROOT)}: {match.group()}" for match in forbidden.finditer(text)]
    assert found == []


def test_a_machine_path_would_be_found():
    """The check above can fail: its pattern takes the paths that it is for."""
    pattern = r"(?<![\w.])/(?:work|farm|home/\w+)/"
    assert re.search(pattern, "see /" + "work/notes") is not None


def test_the_generators_run_as_the_pages_say():
    for book in (factbook, configbook):
        done = subprocess.run([sys.executable, "-m", book.__name__, "--check"], cwd=ROOT, check=False, timeout=60)
        assert done.returncode == 0
