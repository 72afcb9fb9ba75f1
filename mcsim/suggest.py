"""What a misspelt word was probably meant to be."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` (did you mean "delay"?)`, or nothing where no known word is near."""
    words = list(known)
    # What begins alike is meant before what looks alike: h100 is h100-sxm rather than h200.
    near = [w for w in words if w.startswith(word.lower())] if len(word) > 2 else []
    near.sort(key=len)
    near = near or difflib.get_close_matches(word.lower(), words, n=1, cutoff=0.6)
    return f' (did you mean "{near[0]}"?)' if near else ""
