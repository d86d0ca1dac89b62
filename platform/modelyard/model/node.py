"""The kind of machine that a process runs on: which variant of a model is best differs between them."""

from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
VNNI = frozenset({"avx512_vnni", "avx_vnni", "asimddp"})
"""Instructions for products of 8-bit numbers, on x86 and Arm. Without them int8 is slower and, on x86, may saturate."""


def node_type(cpuinfo: str | None = None) -> str:
    """`cpu-vnni`, or `cpu` where there are no instructions for int8 or none are known.

    Args:
        cpuinfo: text of /proc/cpuinfo, of this machine when absent.

    >>> node_type("flags : fpu avx512_vnni"), node_type("flags : fpu avx2")
    ('cpu-vnni', 'cpu')
    """
    try:
        text = CPUINFO.read_text() if cpuinfo is None else cpuinfo
    except OSError:
        text = ""
    return "cpu-vnni" if VNNI & set(text.split()) else "cpu"
