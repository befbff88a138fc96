"""Philox 4x32-10 in native code: dropout, uniform and bernoulli, bit for bit as `ops/random.py`."""

from __future__ import annotations

from noria.ir.program import Operator
from noria.kernels.call import Call
from noria.kernels.numba.launch import float_bits, launch, need
from noria.kernels.registry import BoundOp, Declined, Kernel, Prepared, register

_ROUNDS = """
        x0 = uint64(block)
        x1 = uint64(0)
        x2 = lane
        x3 = high
        k0 = key0
        k1 = key1
""" + 10 * """        p0 = x0 * uint64(0xD2511F53)
        p1 = x2 * uint64(0xCD9E8D57)
        x0 = (p1 >> uint64(32)) ^ x1 ^ k0
        x2 = (p0 >> uint64(32)) ^ x3 ^ k1
        x1 = p1 & low
        x3 = p0 & low
        k0 = (k0 + uint64(0x9E3779B9)) & low
        k1 = (k1 + uint64(0xBB67AE85)) & low
"""

_HEAD = """
def draw(args):
    key = load_int64(args, 0)
    a = load_int64(args, 1)
    b = load_int64(args, 2)
    c = load_int64(args, 3)
    count = load_int64(args, 4)
    lane = uint64(load_int64(args, 5))
    high = uint64(load_int64(args, 6))
    first_number = float32(load_float64(args, 7))
    second_number = float32(load_float64(args, 8))
    low = uint64(0xFFFFFFFF)
    key0 = uint64(load_int64(key, 0)) & low
    key1 = uint64(load_int64(key, 1)) & low
    team = team_size()
    blocks = (count + 3) // 4
    full = count // 4
    begin = blocks * thread_id() // team
    end = blocks * (thread_id() + 1) // team
    whole = min(end, full)
    for block in range(begin, whole):
        independent()
ROUNDS
        i = block * 4
WRITE4
    for block in range(max(begin, whole), end):
ROUNDS
        i = block * 4
        if i < count:
WRITE0
        if i + 1 < count:
WRITE1
        if i + 2 < count:
WRITE2
    return 0
"""

_WRITES = {
    "uniform": "store_float32(a, {i}, unit{k} * first_number + second_number)",
    "bernoulli": "store_bool(a, {i}, unit{k} < first_number)",
    "dropout": "store_bool(c, {i}, unit{k} >= first_number)\n"
    "v = load_float32(a, {i}) / second_number\n"
    "store_float32(b, {i}, where(unit{k} >= first_number, v, float32(0)))",
}


def source(kind: str) -> str:
    """The kernel of one distribution."""

    def write(k: int, indent: int) -> str:
        i = f"i + {k}" if k else "i"
        lines = [f"unit{k} = float32(x{k} >> uint64(8)) * float32({2**-24!r})"]
        lines += _WRITES[kind].replace("{i}", i).replace("{k}", str(k)).split("\n")
        return "\n".join(" " * indent + line for line in lines)

    text = _HEAD.replace("ROUNDS", _ROUNDS.strip("\n"))
    text = text.replace("WRITE4", "\n".join(write(k, 8) for k in range(4)))
    for k in range(3):
        text = text.replace(f"WRITE{k}", write(k, 12))
    return text


class Random(Kernel):
    name = "numba:random"
    ops = tuple(_WRITES)

    def accepts(self, op: Operator) -> None:
        wanted = "bool" if op.type == "bernoulli" else "float32"
        if op.outputs[0].dtype != wanted:
            raise Declined(f"the output is {op.outputs[0].dtype}, not {wanted}")
        if op.type == "dropout":
            need(op, ("float32",), (0,))

    def bind(self, bound: BoundOp) -> Prepared:
        kind, how = bound.op.type, bound.attrs
        numbers = {
            "uniform": lambda: (how["high"] - how["low"], how["low"]),
            "bernoulli": lambda: (how["p"], 0.0),
            "dropout": lambda: (how["p"], 1 - how["p"]),
        }[kind]()
        count = bound.outputs[0].size
        stream = int(how["stream"])
        end = [count, stream & 0xFFFFFFFF, (stream >> 32) & 0xFFFFFFFF]
        end += [float_bits(float(x)) for x in numbers]

        def emit(ins: list[int], outs: list[int], packs: list[int], scratch: int) -> list[Call]:
            table = [ins[1], ins[0], *outs] if kind == "dropout" else [ins[0], outs[0], 0, 0]
            return [
                launch(
                    self.name,
                    source(kind),
                    "draw",
                    [*table, *end],
                    threads=bound.threads,
                    bytes=9 * count,
                    ops=40 * count,
                )
            ]

        return Prepared(emit, in_place=((0, 0),) if kind == "dropout" else ())


register(Random())
