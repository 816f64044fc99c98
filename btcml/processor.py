"""Instruction sets of numerical libraries: limited to those of every x86-64 processor since 2013.

OpenBLAS and NumPy choose their code by the processor, and each rounds differently in the last bit. Under these limits
the same inputs give the same bytes on all processors that have AVX2; elsewhere there is no limit, and a report names
the difference.
"""

from __future__ import annotations

import os
from pathlib import Path
from platform import libc_ver, machine, python_version

_LIMITS = {"OPENBLAS_CORETYPE": "Haswell", "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR"}
_LEVELS = (("x86-64-v4", {"avx512f", "avx512bw", "avx512vl"}), ("x86-64-v3", {"avx2", "fma", "bmi2"}))
"""Names of instruction sets by the flags that Linux shows, as the x86-64 psABI defines them."""

_CPU = Path("/proc/cpuinfo")


def instruction_limits() -> dict[str, str]:
    """Environment variables that limit a process to AVX2; none where the processor lacks it or is unknown."""
    return dict(_LIMITS) if _level() in {"x86-64-v4", "x86-64-v3"} else {}


def limit_instructions() -> None:
    """Limit this process and its children; it must be called before NumPy is loaded. What is set already stays."""
    for name, value in instruction_limits().items():
        os.environ.setdefault(name, value)


def machine_facts() -> dict[str, str]:
    """What a last bit may depend on beside the inputs: Python's patch version, C library, instructions used."""
    used = "x86-64-v3" if instruction_limits() else _level()
    return {"python": python_version(), "libc": " ".join(libc_ver()), "instructions": used}


def _level() -> str:
    try:
        flags = set(_CPU.read_text(encoding="utf-8").partition("flags")[2].split("\n")[0].split())
    except OSError:
        return machine()
    return next((name for name, needed in _LEVELS if needed <= flags), machine())
