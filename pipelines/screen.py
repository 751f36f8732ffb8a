"""What the terminal shows: a table per cell with what needs a person on top, and the handover summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from pipelines.log_view import clock_text

View = Mapping[str, Any]
"""`pipelines.status.CellView` as plain values."""

DID = {
    "needs_approval": "proposed; it waits for approval",
    "permitted": "permitted and on its way",
    "approve": "approved; it is judged once more on fresh readings before it is sent",
    "deny": "denied; its plan is dropped",
    "off": "automation is OFF: nothing more is sent",
    "on": "automation is on",
    "resolve": "written down; its robot is free again",
    "rebaseline": "written down; the normal of these tags is learnt anew",
    "note": "written to the log",
}
"""What the operator socket says was done, for people."""


def answer_text(answer: Mapping[str, Any]) -> str:
    """Return the operator socket's answer in words.

    >>> answer_text({"ok": False, "error": "range: 400 is outside 10..50"})
    'refused: range: 400 is outside 10..50'
    """
    if not answer["ok"]:
        return f"refused: {answer['error']}"
    command = f" ({answer['command_id'][:8]})" if "command_id" in answer else ""
    return DID.get(answer["did"], f"done: {answer['did']}") + command


def asked_text(answer: Mapping[str, Any]) -> str:
    """Return what became of a sentence: each step with its range, what was not understood, and what to do next."""
    lines = []
    if answer.get("steps"):
        lines.append(f"understood ({answer['reader']}):")
        lines += [f"  {n}. {_step(step)}" for n, step in enumerate(answer["steps"], start=1)]
    if answer.get("not_understood"):
        by_tables = answer.get("reader", "phrasebook") == "phrasebook"
        lines.append(
            "not understood:" if by_tables else "not understood by the phrasebook; see what the model made of it:"
        )
        lines += [f"  {_missed(part)}" for part in answer["not_understood"]]
    lines.append(answer_text(answer))
    if answer["ok"] and answer["did"] == "needs_approval":
        lines.append(
            f"jidoka approve {answer['command_id'][:8]}, or jidoka deny {answer['command_id'][:8]} --reason ..."
        )
    return "\n".join(lines)


def _step(step: Mapping[str, Any]) -> str:
    allowed = f"   allowed {step['allowed']}" if step["allowed"] else ""
    return f"{step['change']} on {step['asset']} ({step['action']}, {step['command_id'][:8]}){allowed}"


def _missed(part: Mapping[str, Any]) -> str:
    could = f": {', '.join(part['candidates'])}" if part["candidates"] else ""
    return f'"{part["words"]}": {part["reason"]}{could}'


def status_table(cells: Sequence[View]) -> Group:
    """Return all cells."""
    return Group(*(_cell(view) for view in cells))


def _cell(view: View) -> Panel:
    parts: list[Any] = [_line(view)]
    if view["needs_you"]:
        parts += [_decisions(view), Text("jidoka approve COMMAND, or jidoka deny COMMAND --reason ...", "dim")]
    if view["unresolved"]:
        waiting = ", ".join(c[:8] for c in view["unresolved"])
        parts.append(
            Text(f"■ NOBODY CAN TELL whether {waiting} was done: look at the machine, then jidoka resolve", "bold")
        )
    parts.append(_incidents(view) if view["incidents"] else Text("no open incident", "dim"))
    last = f"last fact {clock_text(view['at'])[:19]} UTC"
    return Panel(Group(*parts), title=view["cell"], title_align="left", subtitle=last, subtitle_align="left")


def _line(view: View) -> Text:
    """One line of words, not of colour alone."""
    automation = "automation on" if view["automation_on"] else "■ AUTOMATION OFF"
    source = "data live" if view["source_alive"] else "■ DATA LOST"
    text = Text(f"{view['packml_state']}   {source}   {automation}   mode {view['mode']}")
    if not (view["automation_on"] and view["source_alive"]):
        text.stylize("bold")
    return text


def _decisions(view: View) -> Table:
    table = _plain(f"NEEDS YOU ({len(view['needs_you'])})", "bold")
    # No column has a fixed part: a narrow terminal then folds the widest, and none of them vanishes.
    table.add_column("command", no_wrap=True)
    for column in ("asset", "change", "because", "approvals", "decide by"):
        table.add_column(column, overflow="fold")
    for waiting in view["needs_you"]:
        table.add_row(
            waiting["command_id"][:8],
            waiting["asset"],
            waiting["change"],
            waiting["diagnosis"],
            waiting["approvals"],
            clock_text(waiting["decide_by_at"])[11:19],
        )
    return table


def _incidents(view: View) -> Table:
    table = _plain("incidents", "dim")
    table.add_column("incident", no_wrap=True)
    for column in ("asset", "since", "what is being done", "found"):
        table.add_column(column, overflow="fold")
    for incident in view["incidents"]:
        table.add_row(
            incident["incident_id"][:8],
            ", ".join(incident["assets"]),
            clock_text(incident["opened_at"])[11:19],
            incident["stage"],
            "\n".join(incident["findings"]),
        )
    return table


def _plain(title: str, style: str) -> Table:
    """Return an empty table without frames, as wide as there is room."""
    return Table(title=title, title_style=style, title_justify="left", expand=True, box=box.SIMPLE_HEAD, pad_edge=False)


def handover_text(cells: Sequence[View]) -> str:
    """Return what the next shift must know, as plain text."""
    lines = []
    for view in cells:
        state = "automation on" if view["automation_on"] else "AUTOMATION OFF"
        lines.append(
            f"{view['cell']}: {view['packml_state']}, {state}, {view['sent_last_hour']} commands in the last hour"
        )
        lines += [
            f"  decide by {clock_text(w['decide_by_at'])}: {w['change']} ({w['diagnosis']})" for w in view["needs_you"]
        ]
        lines += [f"  command {c[:8]}: outcome unknown, look at the machine" for c in view["unresolved"]]
        for incident in view["incidents"]:
            assets = ", ".join(incident["assets"])
            lines.append(f"  incident {incident['incident_id'][:8]} on {assets}: {incident['stage']}")
            lines += [f"    {finding}" for finding in incident["findings"]]
        if not (view["needs_you"] or view["unresolved"] or view["incidents"]):
            lines.append("  nothing open")
    return "\n".join(lines)
