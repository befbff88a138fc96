"""Lines that the texts of kernels begin with."""

from __future__ import annotations


def reading(*names: str, behind: str | None = None) -> str:
    """Lines that read the numbers of a table, in this order; a string may hold several names.

    behind: what the address of the number after the last one is called
    """
    listed = " ".join(names).split()
    lines = [f"    {name} = load_int64(args, {i})" for i, name in enumerate(listed)]
    if behind:
        lines.append(f"    {behind} = args + {8 * len(listed)}")
    return "\n".join(lines)
