"""Eigenvalues of a symmetric matrix by Jacobi rotations, for a calibration: elementwise arithmetic alone.

LAPACK would be faster and gives other last bits on another machine. Disjoint pairs are rotated at once, in the order of
a round-robin tournament (Brent and Luk, SIAM J. Sci. Stat. Comput. 6, 1985): n - 1 rounds meet every pair.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from pipelines.features.packed import Counts, Floats

SWEEPS_MAX: Final = 30
"""Convergence is quadratic: 50 x 50 needs about 10."""
NEGLIGIBLE: Final = 1e-100
"""As a part of the diagonal: an element that is left alone, as its rotation would overflow."""
OFF_DIAGONAL_MAX: Final = 1e-12
"""Largest element besides the diagonal at the end, as a part of the largest on it."""


def eigen(symmetric: Floats) -> tuple[Floats, Floats]:
    """Return eigenvalues, falling, shape `(n,)`, and eigenvectors as columns, shape `(n, n)`.

    Args:
        symmetric: Shape `(n, n)`; only this is used as it is, nothing is checked.
    """
    n = len(symmetric)
    a, vectors = symmetric.astype(np.float64), np.eye(n)
    rounds = _tournament(n)
    for _ in range(SWEEPS_MAX):
        off = np.abs(a)
        off[np.arange(n), np.arange(n)] = 0.0
        if off.max() <= OFF_DIAGONAL_MAX * np.abs(np.diagonal(a)).max():
            break
        for p, q in rounds:
            c, s = _rotations(a, p, q)
            a[p], a[q] = c[:, None] * a[p] - s[:, None] * a[q], s[:, None] * a[p] + c[:, None] * a[q]
            a[:, p], a[:, q] = c * a[:, p] - s * a[:, q], s * a[:, p] + c * a[:, q]
            vectors[:, p], vectors[:, q] = c * vectors[:, p] - s * vectors[:, q], s * vectors[:, p] + c * vectors[:, q]
    values = np.diagonal(a)
    order = np.argsort(-values, kind="stable")
    return values[order].copy(), vectors[:, order]


def _rotations(a: Floats, p: Counts, q: Counts) -> tuple[Floats, Floats]:
    """Return cosines and sines that make `a[p, q]` zero; Golub and Van Loan, Matrix Computations, 8.4.2."""
    apq = a[p, q]
    wanted = np.abs(apq) > NEGLIGIBLE * (np.abs(a[p, p]) + np.abs(a[q, q]))
    theta = (a[q, q] - a[p, p]) / np.where(wanted, 2 * apq, 1.0)
    t = np.where(theta < 0, -1.0, 1.0) / (np.abs(theta) + np.sqrt(1 + theta * theta))
    t = np.where(wanted, t, 0.0)
    c = 1 / np.sqrt(1 + t * t)
    return c, t * c


def _tournament(n: int) -> list[tuple[Counts, Counts]]:
    players = [*range(n)] + [-1] * (n % 2)
    half = len(players) // 2
    rounds = []
    for _ in range(len(players) - 1):
        pairs = [(min(x, y), max(x, y)) for x, y in zip(players[:half], players[: half - 1 : -1], strict=True)]
        pairs = [(x, y) for x, y in pairs if x >= 0]
        rounds.append(
            (np.array([x for x, _ in pairs], dtype=np.int64), np.array([y for _, y in pairs], dtype=np.int64))
        )
        players = [players[0], players[-1], *players[1:-1]]
    return rounds
