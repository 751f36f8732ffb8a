"""For the shift operator: what needs me, and my decisions. Everything goes through the agent's local socket."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from agent.asking.following import problem_of
from agent.asking.languages import DEFAULT_LANGUAGE
from pipelines.commands.options import HERE, CellOption, Config, Data, folders
from pipelines.operator_socket import call
from pipelines.screen import answer_text, asked_text, handover_text, status_table
from schemas.sentences import SENTENCE_CHARS_MAX

Reason = Annotated[str, typer.Option("--reason", help="Why; written to the log.")]
SENT_CHARS_MAX = 8 * SENTENCE_CHARS_MAX
"""Of a sentence: a longer one is refused all the same, and so much of it fits the socket's line."""
LANGUAGE_CHARS_MAX = 40
Command = Annotated[str, typer.Argument(help="Command id, or its first eight characters or more.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (status, approve, deny, request, ask, hold, off, on, resolve, rebaseline, note, handover):
        app.command()(command)


def status(
    config: Config = HERE,
    data: Data = None,
    as_json: Annotated[bool, typer.Option("--json", help="Plain values.")] = False,
) -> None:
    """Show every cell, its incidents and what needs a person."""
    answer = call(folders(config, data).socket, {"kind": "status"})
    if as_json:
        print(json.dumps(answer["cells"], indent=2))
        return
    Console().print(status_table(answer["cells"]))


def approve(
    command: Command, config: Config = HERE, data: Data = None, cell: CellOption = "", reason: Reason = ""
) -> None:
    """Approve exactly the command that waits under this id."""
    _ask(config, data, kind="approve", cell=cell, target=command, reason=reason)


def deny(
    command: Command, config: Config = HERE, data: Data = None, cell: CellOption = "", reason: Reason = ""
) -> None:
    """Refuse the command; its plan is dropped."""
    _ask(config, data, kind="deny", cell=cell, target=command, reason=reason)


def request(
    action: Annotated[str, typer.Argument(help="An action of the catalogue.")],
    values: Annotated[list[str] | None, typer.Argument(help="argument=value, in the catalogue's units.")] = None,
    config: Config = HERE,
    data: Data = None,
    cell: CellOption = "",
    reason: Reason = "",
) -> None:
    """Ask for an action. It passes the guard and needs its approvals like any other."""
    _ask(config, data, kind="request", cell=cell, target=action, reason=reason, args=_values(values or []))


def ask(
    sentence: Annotated[
        list[str], typer.Argument(help='What you want: "slow the conveyor to 60 % and clean the pads".')
    ],
    config: Config = HERE,
    data: Data = None,
    cell: CellOption = "",
    language: Annotated[str, typer.Option("--language", help="Of the sentence.")] = DEFAULT_LANGUAGE,
    as_json: Annotated[bool, typer.Option("--json", help="Plain values.")] = False,
) -> None:
    """Ask in plain language. What is understood becomes a proposal that you approve; nothing runs by the text alone."""
    text, language = " ".join(sentence)[:SENT_CHARS_MAX], language[:LANGUAGE_CHARS_MAX]
    answer = _unsendable(text, language) or call(
        folders(config, data).socket, {"kind": "ask", "cell": cell, "target": language, "reason": text}
    )
    print(json.dumps(answer, indent=2) if as_json else asked_text(answer))
    if not answer["ok"]:
        raise typer.Exit(1)


def _unsendable(text: str, language: str) -> dict[str, Any] | None:
    """Refuse here only what no message can hold, bytes that are no text; all else the service refuses, on record."""
    try:
        (text + language).encode()
    except UnicodeEncodeError:
        problem = problem_of(text, language)
        assert problem is not None, "half a character is never one that is shown"
        return {"ok": False, "error": f"{problem.rule}: {problem.reason}"}
    return None


def hold(config: Config = HERE, data: Data = None, cell: CellOption = "", reason: Reason = "") -> None:
    """Hold the cell: the policy's hold action, now."""
    _ask(config, data, kind="hold", cell=cell, reason=reason)


def off(config: Config = HERE, data: Data = None, cell: CellOption = "", reason: Reason = "") -> None:
    """Switch automation off: nothing is sent any more. Without --cell every cell, even if the agent hangs."""
    where = folders(config, data)
    if not cell:
        where.off_file.touch()
        print(f"{where.off_file} is there: from now on nothing is sent")
    _ask(config, data, kind="off", cell=cell, reason=reason)


def on(config: Config = HERE, data: Data = None, cell: CellOption = "", reason: Reason = "") -> None:
    """Switch automation of a cell on again. With one cell the off-switch file goes too, once the agent has agreed."""
    where = folders(config, data)
    _ask(config, data, kind="on", cell=cell, reason=reason)
    if not where.off_file.exists():
        return
    if len(call(where.socket, {"kind": "status"})["cells"]) > 1:
        print(f"{where.off_file} still stops every cell: remove it when all of them may go on")
        return
    where.off_file.unlink(missing_ok=True)
    print(f"{where.off_file} is taken away")


def resolve(
    command: Command, config: Config = HERE, data: Data = None, cell: CellOption = "", reason: Reason = ""
) -> None:
    """Say that you looked at a command whose outcome nobody could tell; its robot is free again."""
    _ask(config, data, kind="resolve", cell=cell, target=command, reason=reason)


def rebaseline(
    tags: Annotated[list[str] | None, typer.Argument(help="Tag names; none means all.")] = None,
    config: Config = HERE,
    data: Data = None,
    cell: CellOption = "",
    reason: Reason = "",
) -> None:
    """Say that tags moved for good, e.g. after maintenance: their normal is learnt anew."""
    _ask(config, data, kind="rebaseline", cell=cell, target=",".join(tags or []), reason=reason)


def note(
    text: Annotated[str, typer.Argument(help="What the next reader should know.")],
    about: Annotated[str, typer.Option("--about", help="A position, an incident, a command.")] = "",
    config: Config = HERE,
    data: Data = None,
    cell: CellOption = "",
) -> None:
    """Write a note into the log."""
    _ask(config, data, kind="note", cell=cell, target=about, reason=text)


def handover(config: Config = HERE, data: Data = None) -> None:
    """Print the summary for the next shift."""
    answer = call(folders(config, data).socket, {"kind": "status"})
    print(handover_text(answer["cells"]))


def _values(words: list[str]) -> dict[str, float]:
    values = {}
    for word in words:
        name, _, value = word.partition("=")
        try:
            values[name] = float(value)
        except ValueError as error:
            raise typer.BadParameter(f"{word!r}: write argument=value, e.g. grip_force_n=40") from error
        if not (name and math.isfinite(values[name])):
            raise typer.BadParameter(f"{word!r}: write argument=value with a finite number, e.g. grip_force_n=40")
    return values


def _ask(config: Path, data: Path | None, **wanted: Any) -> None:
    answer = call(folders(config, data).socket, wanted)
    print(answer_text(answer))
    if not answer["ok"]:
        raise typer.Exit(1)
