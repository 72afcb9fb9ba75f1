"""The CUDA kernels compiled for a compute capability, without a GPU: `python compiled.py 9.0`.

In a process of its own, as compiled lanes are kept for one capability. Prints, of each kernel, what
its PTX and its machine code use.
"""

from __future__ import annotations

import json
import re
import sys
from types import SimpleNamespace

import numba.cuda.dispatcher
from cuda.bindings import nvjitlink
from numba import boolean, cuda, float32, int32, int64, uint16, uint32, uint64

from mcsim.engine import cuda as kernels


def row(kind):
    return kind[::1]


def table(kind):
    return kind[:, ::1]


LAW = (row(float32), row(int32), float32, float32)
BOUNDS = (row(uint16), row(uint64), row(uint64))
ADDRESS = (uint32,) * 4
SIGNATURES = {
    "find_rare": (
        row(uint32), row(uint16), row(uint64), uint32, uint32, *ADDRESS, uint32,
        table(uint32), row(int32),
    ),
    "screen": (
        row(uint32), row(uint32), uint32, uint32, *ADDRESS, uint32, table(uint32), row(int32),
    ),
    "score": (
        table(uint32), row(int32), uint32, uint32, *ADDRESS, row(float32), row(float32),
        *BOUNDS, *LAW, boolean, *BOUNDS, *LAW, float32, float32,
        table(float32), row(int32), row(int64),
    ),
    "hand_back": (
        table(uint32), row(int32), table(float32), row(int32), row(float32),
        float32, float32, float32, table(uint32), row(int32),
    ),
    "count_devices": (
        row(float32), *LAW, boolean, *LAW, uint32, uint32, uint32, row(float32), uint32,
        *ADDRESS, int32, int32, row(int64), row(int64), table(uint32), row(int64),
    ),
}  # fmt: skip


def compiled(name: str, capability: tuple[int, int]) -> dict[str, object]:
    """What a kernel uses: places in its PTX, registers and bytes a thread; and its types."""
    function = getattr(kernels, name).py_func
    ptx, _ = cuda.compile_ptx(function, SIGNATURES[name], cc=capability)
    code = ptx.encode()
    linker = nvjitlink.create(3, ["-arch=sm_{}{}".format(*capability), "-O3", "-verbose"])
    nvjitlink.add_data(linker, nvjitlink.InputType.PTX, code, len(code), name)
    nvjitlink.complete(linker)
    log = bytearray(nvjitlink.get_info_log_size(linker))
    nvjitlink.get_info_log(linker, log)
    said = log.decode()

    def number(pattern: str) -> int:
        (found,) = re.findall(pattern, said)
        return int(found)

    return {
        "local": ptx.count(".local"),
        "double": len(re.findall(r"\.f64\b", ptx)),
        "calls": len(re.findall(r"^\s*call", ptx, re.MULTILINE)),
        "stack": number(r"(\d+) bytes stack frame"),
        "spilled": number(r"(\d+) bytes spill stores"),
        "registers": number(r"Used (\d+) registers"),
        "types": [str(kind) for kind in SIGNATURES[name]],
    }


if __name__ == "__main__":
    major, minor = map(int, sys.argv[1].split("."))
    # Lanes ask the current device for its capability, and there is none.
    target = SimpleNamespace(compute_capability=(major, minor))
    numba.cuda.dispatcher.get_current_device = lambda: target
    sys.stdout.write(json.dumps({name: compiled(name, (major, minor)) for name in SIGNATURES}))
