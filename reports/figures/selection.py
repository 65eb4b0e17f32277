"""Which objects a figure shows: chosen by a rule that is printed under it, never by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from core.errors import UserError

QUANTILES = (0.1, 0.3, 0.5, 0.7, 0.9)


def at_quantiles(scores: Mapping[str, float], quantiles: Sequence[float]) -> list[str]:
    """The object at each quantile of the scores: number floor(q (n - 1) + 1/2) of the sorted list, from 0.

    Equal scores are ordered by name. Where there are fewer objects than quantiles, none is shown twice.
    """
    if not scores:
        raise UserError("no object was scored, so none can be chosen for the figure; score again")
    ordered = sorted(scores, key=lambda name: (scores[name], name))
    places = [int(q * (len(ordered) - 1) + 0.5) for q in quantiles]
    return [ordered[place] for place in dict.fromkeys(places)]


def in_words(quantiles: Sequence[float]) -> str:
    """`quantiles 0.1, 0.5 and 0.9`."""
    words = [f"{q:g}" for q in quantiles]
    return f"quantile {words[0]}" if len(words) == 1 else f"quantiles {', '.join(words[:-1])} and {words[-1]}"
