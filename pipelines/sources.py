"""Reads what classes and constants say of themselves in their source: the sentence beneath each field.

Python keeps no docstrings of attributes at run time, so they are read from the syntax tree. Used by the generators of
documentation only.
"""

from __future__ import annotations

import ast
import inspect
from types import ModuleType


def attribute_docs(module: ModuleType) -> dict[tuple[str, str], str]:
    """Return (class, field) -> sentence beneath the field; module constants under the class name ``""``.

    A class's own docstring is under the field name ``""``.
    """
    tree = ast.parse(inspect.getsource(module))
    docs = dict(_beneath("", tree.body))
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            docs[node.name, ""] = ast.get_docstring(node) or ""
            docs |= _beneath(node.name, node.body)
    return docs


def _beneath(owner: str, body: list[ast.stmt]) -> dict[tuple[str, str], str]:
    docs: dict[tuple[str, str], str] = {}
    fields: list[str] = []
    for node in body:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            docs |= {(owner, field): inspect.cleandoc(node.value.value) for field in fields}
            fields = []
        else:
            fields = [target.id for target in _targets(node) if isinstance(target, ast.Name)]
    return docs


def _targets(node: ast.stmt) -> list[ast.expr]:
    match node:
        case ast.AnnAssign(target=target):
            return [target]
        case ast.Assign(targets=targets):
            return targets
        case _:
            return []


def one_line(text: str) -> str:
    """Return a docstring on one line, fit for a cell of a table: a pipe would end the cell."""
    return " ".join(text.split()).replace("|", "\\|")
