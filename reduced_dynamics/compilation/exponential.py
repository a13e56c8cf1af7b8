"""What generated loops over samples, pairs or lanes need: exponentials, several at a time.

``math.exp`` is a call into a library, one number at a time. This one is arithmetic on the number
and its bits, with which loops become vector instructions.
"""

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

#: Samples that go through a loop together: enough to fill vectors, few enough for the cache.
LANES = 32

_LOG2E, _LN2_HIGH, _LN2_LOW = 1.4426950408889634, 0.6931471803691238, 1.9082149292705877e-10
#: Added to a number, it leaves the nearest integer in the low bits.
_SHIFT = 6755399441055744.0


@intrinsic
def bits(typing, x):
    """The 64 bits of a float as an integer."""

    def generate(context, builder, signature, args):
        return builder.bitcast(args[0], ir.IntType(64))

    return types.int64(types.float64), generate


@intrinsic
def from_bits(typing, x):
    """The float that 64 bits stand for."""

    def generate(context, builder, signature, args):
        return builder.bitcast(args[0], ir.DoubleType())

    return types.float64(types.int64), generate


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"}, _nrt=False)
def exponential(x):
    """exp(x) without a branch, to about one unit in the last place, for −708 <= x <= 709.

    x = n ln 2 + r with |r| <= ln 2 / 2; Taylor's polynomial of degree 13 in r; n goes straight to
    the exponent. Beyond the range it is the value at its end.
    """
    x = max(min(x, 709.0), -708.0)
    shifted = x * _LOG2E + _SHIFT
    n = shifted - _SHIFT
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    p = 1.0 / 6227020800.0
    p = p * r + 1.0 / 479001600.0
    p = p * r + 1.0 / 39916800.0
    p = p * r + 1.0 / 3628800.0
    p = p * r + 1.0 / 362880.0
    p = p * r + 1.0 / 40320.0
    p = p * r + 1.0 / 5040.0
    p = p * r + 1.0 / 720.0
    p = p * r + 1.0 / 120.0
    p = p * r + 1.0 / 24.0
    p = p * r + 1.0 / 6.0
    p = p * r + 0.5
    p = (p * r) * r + r
    scale = from_bits((bits(shifted) << 52) + (1023 << 52))
    return p * scale + scale


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract"}, _nrt=False)
def exponentials(row, first, last, top):
    """exp(x − top) in the place of every x of row[first:last], and their sum."""
    part = row[first : max(first, last)]
    total = 0.0
    for k in range(len(part)):
        power = exponential(part[k] - top)
        part[k] = power
        total += power
    return total
