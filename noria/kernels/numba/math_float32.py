"""float32 elementary functions without branches or tables, for loops that LLVM vectorises.

Each takes and returns `expr.Value`s of float32. Errors stay within a few units in the last place
over the whole range; infinities, NaN, signed zeros, denormals and overflow come out as in C99
(measured in the tests). Polynomials are minimax fits (Remez exchange) made for this file. Range
reduction follows Cody and Waite, "Software Manual for the Elementary Functions" (1980), and for the
circular functions Payne and Hanek, "Radian Reduction for Trigonometric Functions" (1983).
"""

from __future__ import annotations

import itertools
import math

from noria.kernels.numba.expr import (
    F32,
    F64,
    I32,
    I64,
    Value,
    absolute,
    as_float,
    bits,
    call,
    clamp,
    copysign,
    extend,
    fma,
    polynomial,
    select,
    to_float,
    truncate,
)

LOG2_E, LN2 = 1.4426950408889634, 0.6931471805599453
LN2_HIGH, LN2_LOW = 0.693145751953125, 1.4286068203094173e-06  # n * LN2_HIGH is exact, |n| < 2^8
ROUNDER = 12582912.0  # 1.5 * 2^23: adding it rounds to an integer, found in the low bits
ROUNDER_BITS = 0x4B400000
SMALLEST_NORMAL = 1.1754943508222875e-38
TINY = 2.0**-25  # below it f(x) = x for the odd functions and their like
TWO_THIRDS_BITS, SQRT_HALF_BITS = 0x3F2AAAAB, 0x3FE6A09E667F3BCD  # float32, float64

# (e^r - 1 - r) / r^2 on |r| <= ln(2)/2, error 2^-26 of e^r - 1
EXP = (0.5, 0.1666654348373413, 0.04166628047823906, 0.00836661085486412, 0.0013946497347205877)
# (log(1+f) - f + f^2/2) / f^3 on |f| <= 1/3, error 2^-27 of f
LOG = (
    0.33333224058151245,
    -0.24999688565731049,
    0.20010043680667877,
    -0.16685466468334198,
    0.14010927081108093,
    -0.12115105986595154,
    0.13962416350841522,
    -0.13191749155521393,
)
# erf(x)/x - 1 in x^2 on |x| <= 0.93, error 2^-31
ERF_SMALL = (
    0.12837916612625122,
    -0.37612634897232056,
    0.11283694207668304,
    -0.02685927040874958,
    0.005200634244829416,
    -0.0008137438562698662,
    8.345228707185015e-05,
)
ERF_SPLIT, ERF_ONE = 0.92, 4.0  # at ERF_ONE erf rounds to 1
# log(erfc(t)) on [0.92, 4], error 2^-34 of erf
ERF_LARGE = (
    0.0001746831985656172,
    -1.1295149326324463,
    -0.6333469152450562,
    -0.10828007012605667,
    0.025119416415691376,
    -0.004171058535575867,
    0.00043446169001981616,
    -2.1094963813084178e-05,
)
GELU_END = 5.25  # from here on the normal distribution is 0 or 1
# (Phi(x) - 1/2)/x in 2 x^2/GELU_END^2 - 1 on |x| <= GELU_END, error 2^-25 of Phi
GELU = (
    0.13465934991836548,
    -0.0671268180012703,
    0.04964578524231911,
    -0.03976341336965561,
    0.03203143924474716,
    -0.025041932240128517,
    0.018538648262619972,
    -0.01277525071054697,
    0.008417871780693531,
    -0.005448519717901945,
    0.0028923600912094116,
    -0.0010395345743745565,
    0.0006647331756539643,
    -0.0006565838120877743,
    0.00023994981893338263,
)
# (sin(r)/r - 1) / r^2 and (cos(r) - 1 + r^2/2) / r^4, in r^2 on |r| <= pi/4, error 2^-28, 2^-33
SIN = (-0.16666655242443085, 0.008332177996635437, -0.00019517235341481864)
COS = (0.04166664555668831, -0.0013887366512790322, 2.4438379114144482e-05)
# 2/pi in binary: 7 words of 32 bits after the point, and a word of zeros in front
TWO_OVER_PI = (
    0x00000000,
    0xA2F9836E,
    0x4E441529,
    0xFC2757D1,
    0xF534DDC0,
    0xDB629599,
    0x3C439041,
    0xFE5163AB,
)
FIRST_EXPONENT = 120  # the biased exponent whose window starts at the first bit above
# float64, for pow: log2(m) / s in s^2 with s = (m-1)/(m+1), and (2^f - 1)/f on |f| <= 1/2
LOG2_F64 = (
    2.8853900817778486,
    0.9617966941158762,
    0.5770779415926364,
    0.4122093337795279,
    0.3199022282961509,
    0.2829514754778905,
)
EXP2_F64 = (
    0.6931471807045319,
    0.2402265106656079,
    0.05550410365992505,
    0.009618038132088317,
    0.0013333935054427144,
    0.00015466756311726033,
    1.5196156854873974e-05,
)


def exp(x: Value) -> Value:
    n, r = _reduce(clamp(x, -104.0, 89.0))
    return _scaled(_exp_less_one(r) + 1.0, n)


def exp2(x: Value) -> Value:
    x = clamp(x, -151.0, 129.0)
    shifted = x + ROUNDER
    r = (x - (shifted - ROUNDER)) * LN2
    return _scaled(_exp_less_one(r) + 1.0, bits(shifted) - ROUNDER_BITS)


def expm1(x: Value) -> Value:
    n, r = _reduce(clamp(x, -30.0, 89.0))
    scale = _power_of_two(n - 1)  # half of 2^n, as 2^128 is no float32
    y = fma(_exp_less_one(r), scale, scale - 0.5) * 2.0
    return select(absolute(x) < TINY, x, y)


def log(x: Value) -> Value:
    denormal = x < SMALLEST_NORMAL
    e, m = _split(select(denormal, x * 2.0**25, x))
    e = to_float(e, F32) - select(denormal, x.like(25.0), 0.0)
    return _log_special(x, x, _log_reduced(e, m - 1.0))


def log1p(x: Value) -> Value:
    u = x + 1.0
    e, m = _split(u)
    lost = select(x > 1.0, 1.0 - (u - x), x - (u - 1.0))  # what rounding 1 + x lost
    f = fma(lost, _power_of_two(clamp(0 - e, -126, None)), m - 1.0)
    y = _log_reduced(to_float(e, F32), f)
    return select(absolute(x) < TINY, x, _log_special(x, u, y))


def tanh(x: Value) -> Value:
    """By E = exp(2|x|) - 1: tanh|x| = E / (E + 2); from |x| = 10 on it is 1 long since."""
    n, r = _reduce(clamp(absolute(x), None, 10.0) * 2.0)
    scale = _power_of_two(n)
    e = fma(_exp_less_one(r), scale, scale - 1.0)
    return copysign(e / (e + 2.0), x)


def gate(x: Value) -> Value:
    """The sigmoid where it is a normal number (|x| <= 87), held there outside, in half the
    instructions of one that is exact down to the denormals."""
    n, r = _reduce(clamp(-x, -87.0, 87.0))
    scale = _power_of_two(n)
    return 1.0 / fma(_exp_less_one(r), scale, scale + 1.0)


def erf(x: Value) -> Value:
    t = absolute(x)
    small = fma(polynomial(x * x, ERF_SMALL), x, x)
    n, r = _reduce(polynomial(clamp(t, None, ERF_ONE), ERF_LARGE))
    large = 1.0 - (_exp_less_one(r) + 1.0) * _power_of_two(n)
    return select(t < ERF_SPLIT, small, copysign(large, x))


def gelu(x: Value) -> Value:
    """x Phi(x), exact relative to x: Phi by one polynomial, in half the instructions of `erf`."""
    phi = fma(x, polynomial(fma(x * x, 2.0 / GELU_END**2, -1.0), GELU), 0.5)
    phi = select(x > GELU_END, 1.0, phi)
    return x * select(x < -GELU_END, 0.0, phi)


def sin(x: Value) -> Value:
    quadrant, r = _reduce_circle(x)
    y = _negate_if(quadrant >> 1, _circular(quadrant, r))
    return select(absolute(x) < TINY, x, y)


def cos(x: Value) -> Value:
    quadrant, r = _reduce_circle(x)
    quadrant = quadrant + 1
    return _negate_if(quadrant >> 1, _circular(quadrant, r))


def pow(x: Value, y: Value) -> Value:
    """x^y as 2^(y log2|x|) in float64, with the special cases of C99 (annex F)."""
    a, b = absolute(x), extend(y, F64)
    power = truncate(_exp2_f64(clamp(b * _log2_f64(extend(a, F64)), -160.0, 160.0)), F32)
    whole = call("llvm.rint", y).equals(y)
    half = y * 0.5
    odd = whole & call("llvm.rint", half).differs(half)
    negative = bits(x) < 0
    power = select(negative & odd, -power, power)
    undefined = (x < 0.0) & (x > -math.inf) & ~whole
    power = select(undefined | x.is_nan(), math.nan, power)
    one = x.equals(1.0) | y.equals(0.0) | (x.equals(-1.0) & absolute(y).equals(math.inf))
    return select(one, 1.0, power)


def _reduce(x: Value) -> tuple[Value, Value]:
    """x = n ln 2 + r with |r| <= ln(2)/2: (n as int32, r). For |x| up to some hundreds."""
    shifted = fma(x, LOG2_E, ROUNDER)
    n = shifted - ROUNDER
    r = fma(n, -LN2_LOW, fma(n, -LN2_HIGH, x))
    return bits(shifted) - ROUNDER_BITS, r


def _exp_less_one(r: Value) -> Value:
    return fma(polynomial(r, EXP), r * r, r)


def _scaled(x: Value, n: Value) -> Value:
    """x 2^n in two steps: 2^128 is no float32, and a denormal result is to be rounded once."""
    half = n >> 1
    return x * _power_of_two(half) * _power_of_two(n - half)


def _power_of_two(n: Value) -> Value:
    """2^n for int32 -127 < n < 128."""
    return as_float((n + 127) << 23)


def _split(x: Value) -> tuple[Value, Value]:
    """x = 2^e m with m in [2/3, 4/3), for positive normal x: (e as int32, m)."""
    e = (bits(x) - TWO_THIRDS_BITS) >> 23
    return e, as_float(bits(x) - (e << 23))


def _log_reduced(e: Value, f: Value) -> Value:
    """e ln 2 + log(1 + f)."""
    f2 = f * f
    tail = fma(f2 * f, polynomial(f, LOG), e * LN2_LOW)
    return fma(e, LN2_HIGH, f + fma(f2, -0.5, tail))


def _log_special(x: Value, argument: Value, y: Value) -> Value:
    """`y` where log(argument) is an ordinary number; x itself is infinite or NaN elsewhere."""
    y = select(argument < math.inf, y, x)
    y = select(argument < 0.0, math.nan, y)
    return select(argument.equals(0.0), -math.inf, y)


def _negate_if(flag: Value, y: Value) -> Value:
    """-y where bit 0 of `flag` is set."""
    return as_float(bits(y) ^ (flag << 31))


def _circular(quadrant: Value, r: Value) -> Value:
    """sin(r) where the quadrant is even, cos(r) where it is odd."""
    r2 = r * r
    sine = fma(polynomial(r2, SIN), r2 * r, r)
    cosine = fma(polynomial(r2, COS), r2 * r2, fma(r2, -0.5, 1.0))
    return select((quadrant & 1).equals(0), sine, cosine)


def _reduce_circle(x: Value) -> tuple[Value, Value]:
    """x = quadrant pi/2 + r with |r| <= pi/4: (quadrant as int32, r), for every finite float32.

    |x| is an integer of 24 bits times 2^E. Only the bits of 2/pi that weigh less than 4 after
    scaling by 2^E matter: a window of 96 of them, times the integer, is the angle in quarter turns.
    """
    pattern = bits(x)
    exponent = (pattern & 0x7FFFFFFF).logical_shift(23)
    mantissa = extend((pattern & 0x7FFFFF) | 0x800000, I64)
    first, second, third = _window(clamp(exponent, FIRST_EXPONENT, None) - FIRST_EXPONENT)
    angle = ((mantissa * first) << 32) + mantissa * second + (mantissa * third).logical_shift(32)
    quarter = (angle + (1 << 61)).logical_shift(62)
    rest = angle - (quarter << 62)  # 2^62 is a quarter turn
    high = to_float(truncate(rest.logical_shift(32), I32), F64)
    low = to_float(truncate((rest & 0xFFFFFFFF).logical_shift(1), I32), F64)
    r = bits(truncate(fma(high, 2.0**32, low * 2.0) * (math.pi / 2 * 2.0**-62), F32))
    r = as_float(r ^ (pattern & -0x80000000))
    quadrant = truncate(quarter, I32)
    quadrant = select(pattern < 0, 0 - quadrant, quadrant)
    small = absolute(x) < 0.5
    r = select(absolute(x) < math.inf, r, math.nan)
    return select(small, 0, quadrant), select(small, x, r)


def _window(position: Value) -> list[Value]:
    """Three words of 32 bits, as int64, that start at a bit of TWO_OVER_PI."""
    word, bit = position >> 5, position & 31
    words = []
    for j in range(4):
        chosen = position.like(TWO_OVER_PI[j])
        for k in range(1, len(TWO_OVER_PI) - 3):
            chosen = select(word.equals(k), TWO_OVER_PI[j + k], chosen)
        words.append(chosen)
    return [extend(call("llvm.fshl", a, b, bit), I64) for a, b in itertools.pairwise(words)]


def _log2_f64(x: Value) -> Value:
    """log2 of a float64 to 2^-43, relatively: of 0, positive normal numbers and infinity."""
    pattern = bits(x)
    e = (pattern - SQRT_HALF_BITS) >> 52
    m = as_float(pattern - (e << 52))
    s = (m - 1.0) / (m + 1.0)
    y = fma(polynomial(s * s, LOG2_F64), s, to_float(truncate(e, I32), F64))
    return select(x.equals(0.0), -math.inf, select(x.equals(math.inf), x, y))


def _exp2_f64(x: Value) -> Value:
    """2^x of a float64 to 2^-34, relatively, for |x| < 1000."""
    rounder = 1.5 * 2.0**52
    shifted = x + rounder
    f = x - (shifted - rounder)
    scale = as_float((bits(shifted) + 1023) << 52)
    return fma(polynomial(f, EXP2_F64), f, 1.0) * scale
