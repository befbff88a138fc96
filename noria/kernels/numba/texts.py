"""Lines that texts of kernels share: how they begin."""

from __future__ import annotations

# Fails (status 1) where `rows` rows of `total` steps are not split in ascending order. SPLITS is
# the dtype of what splits them.
CHECK_SPLITS = """
    if load_SPLITS(splits, 0) != 0 or load_SPLITS(splits, rows) != total:
        return 1
    for n in range(rows):
        if load_SPLITS(splits, n + 1) < load_SPLITS(splits, n):
            return 1
"""


def reading(*names: str, behind: str | None = None) -> str:
    """Lines that read the numbers of a table, in this order; a string may hold several names.

    behind: what the address of the number after the last one is called
    """
    listed = " ".join(names).split()
    lines = [f"    {name} = load_int64(args, {i})" for i, name in enumerate(listed)]
    if behind:
        lines.append(f"    {behind} = args + {8 * len(listed)}")
    return "\n".join(lines)
