"""What generated loops over many samples, or pairs, need: their exponentials, several at a time.

``math.exp`` is a call into a library, one number at a time. This one is arithmetic on the number
and its bits, with which loops over samples become vector instructions: exp(x) = 2^n exp(r),
|r| ≤ ln(2)/2, by a polynomial. It agrees with ``math.exp`` to 4e-16 in relative size; arguments
below -708 count as -708, those above 709 as 709.
"""

from __future__ import annotations

import math

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

#: Samples that go through a loop together: enough to fill vectors, few enough for the cache.
LANES = 32


@intrinsic
def _as_float(typingctx, bits):
    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.DoubleType())

    return types.float64(types.int64), generate


@intrinsic
def _as_bits(typingctx, number):
    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.IntType(64))

    return types.int64(types.float64), generate


#: Adding it leaves the nearest whole number in the lowest bits of the sum.
_ROUND = 1.5 * 2.0**52
_PER_LN2 = 1.0 / math.log(2.0)
#: ln 2 in two parts, of which the first times any n is exact.
_LN2, _LN2_REST = 0.693147180369123816490, 1.90821492927058770002e-10
(_C2, _C3, _C4, _C5, _C6, _C7, _C8, _C9, _C10, _C11, _C12) = (
    1.0 / math.factorial(k) for k in range(2, 13)
)


@njit(inline="always", error_model="numpy")
def exponential(x):
    """exp(x), in arithmetic alone."""
    x = min(max(x, -708.0), 709.0)
    shifted = x * _PER_LN2 + _ROUND
    n = shifted - _ROUND
    r = (x - n * _LN2) - n * _LN2_REST
    p = _C12
    p = p * r + _C11
    p = p * r + _C10
    p = p * r + _C9
    p = p * r + _C8
    p = p * r + _C7
    p = p * r + _C6
    p = p * r + _C5
    p = p * r + _C4
    p = p * r + _C3
    p = p * r + _C2
    p = p * r + 1.0
    p = p * r + 1.0
    return p * _as_float((_as_bits(shifted) + 1023) << 52)


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
