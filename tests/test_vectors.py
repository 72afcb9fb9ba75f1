"""The hot loops as the compiler made them: in vectors, and without a call inside."""

from __future__ import annotations

import re

import numba
import numpy as np
import pytest

from mcsim.engine.candidates import find_rare, screen
from mcsim.engine.compile import SeparateArrays
from mcsim.engine.draws import complete

WORD = np.uint32(1)
COUNTS = (np.empty((4, 8), np.int64), np.zeros(4, np.int64))
CALLS = {
    "find_rare": (
        find_rare,
        (
            np.arange(3, dtype=np.uint32),
            np.zeros(300, np.uint16),
            np.zeros(1),
            0,
            4,
            *(WORD,) * 4,
            0,
            *COUNTS,
        ),
    ),
    "screen": (screen, (*(np.arange(3, dtype=np.uint32),) * 2, 0, 4, *(WORD,) * 4, 0, *COUNTS)),
    "complete": (complete, (np.arange(3), np.arange(3, dtype=np.uint32), *(WORD,) * 4)),
}


def blocks(listing: str) -> list[str]:
    """The basic blocks of an assembly listing."""
    return re.split(r"\n\.L\w+:", listing)


@pytest.mark.parametrize("name", CALLS)
def test_words_are_made_in_vectors(name):
    from llvmlite import binding

    if not binding.get_host_cpu_features().get("avx2"):
        pytest.skip("a processor without AVX2: its vectors are too short to tell")
    function, arguments = CALLS[name]
    # Compiled anew: of what comes from the cache there is no listing.
    again = numba.njit(nogil=True, error_model="numpy", pipeline_class=SeparateArrays)(
        function.py_func
    )
    again(*arguments)
    products = [
        len(re.findall(r"vpmuludq\s.*%[yz]mm", block))
        for block in blocks(again.inspect_asm(again.signatures[0]))
    ]
    # Nine rounds of two products in one block without a jump; of the first one is the same for
    # all lanes.
    assert max(products) >= 18
    for block in blocks(again.inspect_asm(again.signatures[0])):
        if len(re.findall(r"vpmuludq\s.*%[yz]mm", block)) >= 18:
            assert "call" not in block
