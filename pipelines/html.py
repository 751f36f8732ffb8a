"""The frame of every page that we write: one HTML file that needs nothing else, light or dark as the reader has it."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Final

STYLE: Final = """
:root { color-scheme: light dark; --ink: #1c2330; --soft: #667085; --line: #d5dae3; --bar: #2f6f9f; --other: #b9852c; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ef; --soft: #9aa4b5; --line: #3a4252; --bar: #6aa9d8; --other: #d9ab58; }
  body { background: #14181f; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); max-width: 1180px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
p, figcaption { color: var(--soft); max-width: 80ch; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } th { color: var(--soft); font-weight: 600; }
.wide { overflow-x: auto; } svg text { fill: var(--ink); font: 13px system-ui, sans-serif; }
svg .soft { fill: var(--soft); } svg .bar { fill: var(--bar); } svg .other { fill: var(--other); }
svg .whisker, svg .axis { stroke: var(--ink); stroke-width: 1.5; } svg .axis { stroke: var(--line); }
code { font-size: 12px; overflow-wrap: anywhere; }
"""


def whole_page(title: str, heading: str, about: str, parts: Iterable[str], *, style: str = "") -> str:
    """Return a page without scripts, and without style sheets or pictures from elsewhere.

    Args:
        title: Of the window.
        heading: Over the page.
        about: What must be known to read it; plain text.
        parts: HTML, in order. Whoever made it has escaped what was read from files.
        style: Rules beside those that all pages share.
    """
    return (
        '<!doctype html>\n<html lang="en"><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}{style}</style>\n<h1>{escape(heading)}</h1>\n"
        f"<p>{escape(about, quote=False)}</p>\n" + "\n".join(parts) + "</html>\n"
    )
