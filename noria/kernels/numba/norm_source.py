"""Source of batch norm in training, forward and gradient, on memory [rows, channels].

Two passes over memory each: one that sums per channel, one that writes. Sums go over 64 lines in
float32, then into float64, relative to the first row, so that a large mean does not cancel the
variance away. The second pass too subtracts first that row, by an fma, which unlike a difference is
never reordered. Between the passes the team meets at a barrier.

The first pass goes from the last rows to the first, because the operator before has just written
the last ones, and the second pass goes forwards, because the first one ended there: what a cache
keeps of arrays that do not fit is then read from it.

Both walk memory in order, a few hundred numbers at a time, and ask for what comes 2 KB later: four
rows side by side, which need a fourth of the loads and stores of sums, are so many streams that a
prefetcher loses them, unless rows are long. Short rows are taken as one longer line, whose sums
are folded in the end.

One form serves with and without ReLU, residual, second gradient: what is missing is a line of
zeros, or of ones, that stays in the first cache while the other operands move on, and what nobody
wants is written to such a line. Each form of its own would be half a second of compilation.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from noria.core.dtypes import itemsize
from noria.kernels.numba.codegen import Source

LINE, VECTOR = 512, 16  # numbers a line has at least, and those of a vector
WIDE = 2048  # numbers of a line from which four go side by side: their sums fill the first cache
STRIP, AHEAD = 512, 2048  # bytes asked for at once, and how much later they are wanted
EACH, SHARED = 28, 16  # bytes of scratch for each number of a line: of a thread, of all
LIFTED = EACH + 8  # where factors come with the gradient


def width_of(channels: int) -> int:
    """Numbers of a line: whole rows, and if possible whole vectors, in a loop that is worth it."""
    rows = -(-LINE // channels)
    whole = [n for n in range(rows, 1024 // channels + 1) if n * channels % VECTOR == 0]
    return channels * (whole[0] if whole else rows)


def room_of(width: int) -> int:
    """The width in whole vectors."""
    return -(-width // VECTOR) * VECTOR


def scratch_of(width: int, team: int, each: int = EACH, shared: int = SHARED) -> int:
    """Bytes that a team needs."""
    return room_of(width) * (each * team + shared) + 3 * STRIP * team


# `size` numbers lie as lines of `width`, which is some rows at once where rows are short. Scratch,
# per thread space for `room` float64 totals and float32 parts of each of SUMS, the float32 that is
# subtracted from x, and from what goes beside it, and three lines; then what the team shares.
_ACCUMULATE = """
    team = team_size()
    me = thread_id()
    size = rows * channels
    lines = (size + width - 1) // width
    first = lines * me // team
    last = lines * (me + 1) // team
    total = scratch + me * (room * EACH + 3 * STRIP)
    part = total + room * SUMS * 8
    center = part + room * SUMS * 4
    zeros = total + room * EACH
    ones = zeros + STRIP
    spare = ones + STRIP
    shared = scratch + team * (room * EACH + 3 * STRIP)
    fill_bytes(total, 0, room * SUMS * 8)
    fill_bytes(zeros, 0, STRIP)
    LINES
    for at in range(0, width, channels):
        for c in range(channels):
            independent()
            CENTERS
    end = last
    while end > first:
        start = max(first, end - 64)
        fill_bytes(part, 0, room * SUMS * 4)
        line = start
        while width >= WIDE and line + 4 <= end:
            TURN4
            line += 4
        while line < end:
            TURN1
            line += 1
        for c in range(SUMS * room):
            independent()
            store_float64(total, c, load_float64(total, c) + float64(load_float32(part, c)))
        end = start
    barrier()
    for c in range(channels * me // team, channels * (me + 1) // team):
        CLEAR
        for t in range(team):
            found = scratch + t * (room * EACH + 3 * STRIP)
            for at in range(0, width, channels):
                GATHER
"""

_WRITE = """
    barrier()
    line = first
    while width >= WIDE and line + 4 <= last:
        TURN4
        line += 4
    while line < last:
        TURN1
        line += 1
    return 0
"""
_OPERAND = re.compile(r"\b([a-z]+)\[c\]")
_STORE = re.compile(r"^([a-z]+)\[c\] = (.*)$")
OPTIONAL = ("residual", "more", "positive", "masked", "mask")  # which may stay at one line


@dataclass(frozen=True)
class _Walk:
    """What a pass does with each number.

    vectors: lines are whole vectors
    terms: statements, in which `name[c]` is the number of an operand at channel c of a line
    head:  before those of all lines, per channel; end: after them
    signs: write bits that tell where `out` is positive
    """

    dtype: str
    vectors: bool
    terms: Sequence[str]
    head: Sequence[str] = ()
    end: Sequence[str] = ()
    signs: bool = False

    @property
    def reads_bits(self) -> bool:
        return any("BIT" in term for term in self.terms)

    def into(self, template: str) -> str:
        """The pass, in which either four lines are taken at a turn or one."""
        return filled(filled(template, "TURN1", self.turn(1)), "TURN4", self.turn(4))

    def turn(self, rows: int) -> list[str]:
        """Lines side by side, in strips; one line alone is asked for some time before."""
        code, numbers = Source(), STRIP // itemsize(self.dtype)
        code.depth = 0
        code.put("stop = width" if rows > 1 else "stop = min(width, size - line * width)")
        with code.block(f"for c0 in range(0, stop, {numbers}):"):
            code.put(f"count = min({numbers}, stop - c0)", *self.starts(rows))
            if rows == 1:
                steps = range(AHEAD, AHEAD + STRIP, 64)
                code.put(*(f"prefetch({p}0 + {step})" for step in steps for p in self.read()))
            self.numbers(code, rows)
        return code.lines

    def numbers(self, code: Source, rows: int) -> None:
        """The loop over a strip, or over its vectors, each with a word of bits."""
        lines = [self.line(term, r) for r in range(rows) for term in self.terms]
        lines = ["c = c0 + k", *self.head, *lines, *self.end]
        if not self.vectors:
            with code.block("for k in range(count):"):
                code.put("independent()", *lines)
            return
        with code.block(f"for v in range(0, count, {VECTOR}):"):
            if self.reads_bits:
                code.put(*(f"word{r} = load_uint16(mask{r}, v >> 4)" for r in range(rows)))
            with code.block(f"for bit in range({VECTOR}):"):
                code.put("together()", "k = v + bit", *lines)
        if self.signs:
            with code.block("for v in range(count >> 4):"):
                signs = (f"positive_{self.dtype}(out{r}, v << 4)" for r in range(rows))
                code.put(*(f"store_uint16(mask{r}, v, {s})" for r, s in enumerate(signs)))

    def line(self, term: str, r: int) -> str:
        """The statement for line r of those side by side."""
        term = term.replace("BIT", f"has_bit(word{r}, bit)")
        store = _STORE.match(term)
        if store:
            return f"store_{self.dtype}({store[1]}{r}, k, {self.loads(store[2], r)})"
        return self.loads(term, r)

    def loads(self, text: str, r: int) -> str:
        return _OPERAND.sub(lambda m: f"load_{self.dtype}({m[1]}{r}, k)", text)

    def operands(self) -> list[str]:
        found = set(_OPERAND.findall(" ".join(self.terms)))
        return sorted(found | ({"mask"} if self.signs or self.reads_bits else set()))

    def read(self) -> list[str]:
        """The operands asked for ahead."""
        values = [s[2] if (s := _STORE.match(t)) else t for t in self.terms]
        return sorted(set(_OPERAND.findall(" ".join(values))))

    def starts(self, rows: int) -> list[str]:
        """Where the strips of each operand begin."""
        lines = []
        for r in range(rows):
            lines.append(f"at = (line + {r}) * width + c0")
            for p in self.operands():
                step = f"{p}_move" if p in OPTIONAL else "ITEMSIZE"
                lines.append(f"{p}{r} = {p} + {'(at >> 3)' if p == 'mask' else 'at'} * {step}")
        return lines


def filled(template: str, name: str, lines: Sequence[str]) -> str:
    """The template with lines of text in the place of the line `name`, as far to the right."""
    place = re.search(rf"^( *){name}$", template, re.MULTILINE)
    assert place is not None
    text = "\n".join(place[1] + line for line in lines)
    return template[: place.start()] + text + template[place.end() :]


CENTRED = "d = fma(x[c], float32(1), -load_float32(center, c))"


FOLDED = ("bfloat16",)  # dtypes whose second pass subtracts nothing from x


def number(dtype: str, operand: str = "x", centred: str = "d") -> str:
    """What the second pass multiplies, x - center. Of halves x itself: what is subtracted is part
    of what is added, whose rounding is far below that of x."""
    return f"{operand}[c]" if dtype in FOLDED else centred


def accumulate(
    dtype: str, vectors: bool, centers: Sequence[str], terms: Sequence[str], sums: int = 2
) -> str:
    """The first pass: terms add to s1, s2 and so on, which become t1, t2 per channel c.

    centers: per channel c what is subtracted from x, then what from other operands
    """
    places = {f"s{k + 1}": f"part, {k} * room + c" for k in range(sums)}
    load = [f"{s} = load_float32({place})" for s, place in places.items()]
    store = [f"store_float32({place}, {s})" for s, place in places.items()]
    template = _Walk(dtype, vectors, terms, load, store).into(_ACCUMULATE)
    found = [f"load_float64(found, {k} * room + at + c)" for k in range(sums)]
    blocks = {
        "CENTERS": [
            f"store_float32(center, {k} * room + at + c, {v})" for k, v in enumerate(centers)
        ],
        "CLEAR": [f"t{k + 1} = float64(0)" for k in range(sums)],
        "GATHER": [f"t{k + 1} += {v}" for k, v in enumerate(found)],
    }
    for name, lines in blocks.items():
        template = filled(template, name, lines)
    return template.replace("SUMS", str(sums))


def write(dtype: str, vectors: bool, terms: Sequence[str], signs: bool = False) -> str:
    """The second pass."""
    return _Walk(dtype, vectors, terms, signs=signs).into(_WRITE)


def absent(**places: str) -> list[str]:
    """Lines that put those operands that are not there (whose address is 0) at a line."""
    lines = []
    for name, place in places.items():
        lines += [f"{name}_move = {1 if name == 'mask' else 'ITEMSIZE'}", f"if {name} == 0:"]
        lines += [f"    {name} = {place}", f"    {name}_move = 0"]
    return lines


_FORWARD = """
def batch_norm(args):
    x = load_int64(args, 0)
    scale = load_int64(args, 1)
    bias = load_int64(args, 2)
    mean = load_int64(args, 3)
    var = load_int64(args, 4)
    residual = load_int64(args, 5)
    residual_mean = load_int64(args, 6)
    residual_factors = load_int64(args, 7)
    out = load_int64(args, 8)
    batch_mean = load_int64(args, 9)
    inv_std = load_int64(args, 10)
    new_mean = load_int64(args, 11)
    new_var = load_int64(args, 12)
    mask = load_int64(args, 13)
    scratch = load_int64(args, 14)
    rows = load_int64(args, 15)
    channels = load_int64(args, 16)
    width = load_int64(args, 17)
    room = load_int64(args, 18)
    momentum = load_float64(args, 19)
    epsilon = load_float64(args, 20)
    low = float32(load_float64(args, 21))
"""
_STATISTICS = """
        shift = t1 / float64(rows)
        m = shift + float64(load_DTYPE(x, c))
        v = max(t2 / float64(rows) - shift * shift, float64(0))
        inv = float64(1) / sqrt(v + epsilon)
        store_float32(batch_mean, c, float32(m))
        store_float32(inv_std, c, float32(inv))
        unbiased = v * float64(rows) / float64(max(rows - 1, 1))
        old_mean = float64(load_float32(mean, c))
        old_var = float64(load_float32(var, c))
        store_float32(new_mean, c, float32(old_mean + momentum * (m - old_mean)))
        store_float32(new_var, c, float32(old_var + momentum * (unbiased - old_var)))
        factor = load_float32(scale, c) * float32(inv)
"""
_SHARED = """
        offset = float32(float64(load_float32(bias, c)) - ORIGIN * float64(factor))
        for at in range(0, width, channels):
            store_float32(shared, at + c, factor)
            store_float32(shared, room + at + c, offset)
"""
_SCALED = """
        lower = load_float32(residual_mean, c)
        stretch = load_float32(residual_factors, c)
        offset += load_float32(residual_factors, channels + c)
        LOWERED
        for at in range(0, width, channels):
            store_float32(shared, room + at + c, offset)
            store_float32(shared, 2 * room + at + c, stretch)
            store_float32(shared, 3 * room + at + c, lower)
"""
_FACTORS = """
        left = (float64(float32(m)) - m) * float64(factor)
        store_float32(out, c, factor)
        store_float32(out, channels + c, float32(float64(load_float32(bias, c)) + left))
    return 0
"""
_SQUARES = [CENTRED, "s1 += d", "s2 += d * d"]


@cache
def forward(dtype: str, bits: bool, scaled: bool = False) -> str:
    """Source of batch_norm(training=True), also with a ReLU and before it a residual.

    The table: addresses of inputs, outputs, mask and scratch, 0 for what is not there; rows,
    channels, width, room, momentum, epsilon, and the bound below, 0 or -infinity.

    dtype:  of x, residual and out; the vectors of channels are float32
    bits:   channels are whole vectors, and the mask can be written
    scaled: the residual has a mean and factors; a form of its own, since two more operands, though
            they lie in the first cache, take the others up to a tenth longer
    """
    lowered = "fma(residual[c], float32(1), -load_float32(shared, 3 * room + c))"
    more = number(dtype, "residual", lowered)
    terms = [
        CENTRED,
        f"more = {more} * load_float32(shared, 2 * room + c)" if scaled else "more = residual[c]",
        f"y = {number(dtype)} * load_float32(shared, c) + load_float32(shared, room + c) + more",
        "out[c] = where(low > y, low, y)",  # NaN is not below 0
    ]
    shares = _SHARED + _scaled(dtype) if scaled else _SHARED
    return typed(
        dtype,
        _FORWARD,
        filled(
            accumulate(dtype, bits, ["load_DTYPE(x, c)"], _SQUARES),
            "LINES",
            absent(residual="zeros", **({"mask": "spare"} if bits else {})),
        ),
        _STATISTICS,
        shares.replace("ORIGIN", "m" if dtype in FOLDED else "shift"),
        write(dtype, bits, terms, signs=bits),
    )


def _scaled(dtype: str) -> str:
    """What the team shares about the residual's factors."""
    lowered = ["offset -= lower * stretch"] if dtype in FOLDED else []
    return filled(_SCALED[1:], "LOWERED", lowered)


@cache
def factors(dtype: str, vectors: bool) -> str:
    """Source of batch_norm_factors: the first pass of `forward` alone, with the same table, in
    which `out` is where factors and offsets go.

    vectors: channels are whole vectors
    """
    first = accumulate(dtype, vectors, ["load_DTYPE(x, c)"], _SQUARES)
    return typed(dtype, _FORWARD, filled(first, "LINES", []), _STATISTICS, _FACTORS)


_BACKWARD = """
def batch_norm_grad(args):
    x = load_int64(args, 0)
    scale = load_int64(args, 1)
    mean = load_int64(args, 2)
    inv_std = load_int64(args, 3)
    POSITIVE = load_int64(args, 4)
    grad = load_int64(args, 5)
    more = load_int64(args, 6)
    gx = load_int64(args, 7)
    g_scale = load_int64(args, 8)
    g_bias = load_int64(args, 9)
    masked = load_int64(args, 10)
    scratch = load_int64(args, 11)
    rows = load_int64(args, 12)
    channels = load_int64(args, 13)
    width = load_int64(args, 14)
    room = load_int64(args, 15)
"""
MEANS = """
        inv = float64(load_float32(inv_std, c))
        store_float32(g_bias, c, float32(t1))
        store_float32(g_scale, c, float32(t2 * inv))
        level = float32(t1 / float64(rows))
        slope = float32(t2 * inv * inv / float64(rows))
        factor = load_float32(scale, c) * load_float32(inv_std, c)
        for at in range(0, width, channels):
            store_float32(shared, at + c, level)
            store_float32(shared, room + at + c, slope)
            store_float32(shared, 2 * room + at + c, factor)
"""
_FOLDED = """
        level = float32(t1 / float64(rows) - float64(load_float32(mean, c)) * float64(slope))
        for at in range(0, width, channels):
            store_float32(shared, at + c, level)
"""
_MASKED = """
    if masked_move != 0:
        grad = masked
        more = zeros
        more_move = 0
        POSITIVE = ones
        POSITIVE_move = 0
"""


@cache
def backward(dtype: str, vectors: bool, mask: str) -> str:
    """Source of batch_norm_grad, and of batch_norm_relu_grad, whose gradient is that where the
    ReLU's output is positive. Where the masked gradient is wanted, the first pass writes it, and
    the second one reads it.

    The table: addresses of x, scale, mean, inv_std, of what tells what is positive, of gradients,
    outputs and scratch, 0 for what is not there; rows, channels, width, room.

    dtype:   of the gradients, x and out
    vectors: channels are whole vectors
    mask:    what tells what is positive: "mask", bits, for whole vectors; "positive", the ReLU's
             output; both may be missing. Or "factors": what the ReLU took is computed again, for
             one gradient, and the masked one is not given.
    """
    again = mask == "factors"
    centers, total, masked = ["load_float32(mean, c)"], gradient(mask), ["masked[c] = g"]
    lines = [*ones(dtype, mask == "mask"), *absent(more="zeros", masked="spare", **{mask: "ones"})]
    if again:
        centers += [f"load_float32(factors, {k} * channels + c)" for k in range(2)]
        masked, lines = [], []
    sums = [CENTRED, total, "s1 += g", "s2 += g * d", *masked]
    source = typed(
        dtype,
        _BACKWARD,
        filled(accumulate(dtype, vectors, centers, sums), "LINES", lines),
        MEANS + _FOLDED[1:] if dtype in FOLDED else MEANS,
        "" if again else _MASKED,
        write(
            dtype,
            vectors,
            [
                CENTRED,
                total,
                f"rest = {number(dtype)} * load_float32(shared, room + c)",
                "rest += load_float32(shared, c)",
                "gx[c] = (g - rest) * load_float32(shared, 2 * room + c)",
            ],
        ),
        each=LIFTED if again else EACH,
    )
    return source.replace("POSITIVE", mask)


def gradient(mask: str) -> str:
    """The term that gives the gradient g: of the sum, where the ReLU let numbers through. mask: as
    in `backward`; factors lie behind what is subtracted from x."""
    if mask == "factors":
        lifted = ", ".join(f"load_float32(center, {k} * room + c)" for k in (1, 2))
        return f"g = where(fma(d, {lifted}) > float32(0), grad[c], float32(0))"
    where = {"mask": "BIT", "positive": "positive[c] > float32(0)"}[mask]
    return f"g = where({where}, grad[c] + more[c], float32(0))"


def ones(dtype: str, bits: bool) -> list[str]:
    """Lines that fill the line which a ReLU that is not there reads."""
    if bits:
        return ["fill_bytes(ones, 255, STRIP)"]
    numbers = STRIP // itemsize(dtype)
    return [f"for c in range({numbers}):", "    store_DTYPE(ones, c, float32(1))"]


def typed(dtype: str, *parts: str, each: int = EACH) -> str:
    """The parts of a kernel for memory of that dtype.

    each: bytes of scratch for each number of a line, of a thread
    """
    source = "".join(parts).replace("DTYPE", dtype)
    numbers = {"WIDE": WIDE, "ITEMSIZE": itemsize(dtype), "EACH": each, "STRIP": STRIP}
    for name, number in numbers.items():
        source = source.replace(name, str(number))
    return source
