"""Arithmetic of the CPU decoder that Numba compiles: products with stored weights, norms, attention, a barrier.

Weights are float32, bfloat16 (as uint16: the upper half of a float32, so that widening loses nothing) or int8; sums are
float32. Every function is compiled when its first caller is, and kept on disk.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

BLOCK = 4
"""Outputs of a projection that are computed together; every packed weight has a multiple of them."""

FAST = {"reassoc", "contract", "nsz", "arcp"}
"""Sums in any order; NaN and infinity stay what they are."""

compiled = njit(fastmath=FAST, error_model="numpy", cache=True)

_SPINS = 1_000_000  # about a millisecond; then the processor is offered to others: they may hold the thread that is waited for
_sched_yield = types.ExternalFunction("sched_yield", types.int32())


@intrinsic
def _widen(typing_context: Any, stored: Any) -> Any:
    """A stored weight as float32."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if stored == types.uint16:
            bits = builder.shl(builder.zext(args[0], ir.IntType(32)), ir.Constant(ir.IntType(32), 16))
            return builder.bitcast(bits, ir.FloatType())
        return args[0] if stored == types.float32 else builder.sitofp(args[0], ir.FloatType())

    return types.float32(stored), generate


@intrinsic
def _power_of_two(typing_context: Any, exponent: Any) -> Any:
    """2 to an int32 power of -126 to 127."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        biased = builder.add(args[0], ir.Constant(ir.IntType(32), 127))
        return builder.bitcast(builder.shl(biased, ir.Constant(ir.IntType(32), 23)), ir.FloatType())

    return types.float32(types.int32), generate


@intrinsic
def _atomic_add(typing_context: Any, array: Any, index: Any, amount: Any) -> Any:
    """Adds to an int64 array's element and returns what was there before, in one indivisible step."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.atomic_rmw("add", builder.gep(data, [args[1]]), args[2], "seq_cst")

    return types.int64(array, types.int64, types.int64), generate


@intrinsic
def _atomic_read(typing_context: Any, array: Any, index: Any) -> Any:
    """An int64 array's element as other threads left it."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.load_atomic(builder.gep(data, [args[1]]), "seq_cst", 8)

    return types.int64(array, types.int64), generate


@compiled
def wait_for_all(barrier, num_threads):
    """Returns when all threads have called it; barrier is int64 (16,), zeros at first."""
    if num_threads == 1:
        return
    rounds = _atomic_read(barrier, 8)
    if _atomic_add(barrier, 0, 1) == num_threads - 1:
        _atomic_add(barrier, 0, -num_threads)
        _atomic_add(barrier, 8, 1)
        return
    spins = 0
    while _atomic_read(barrier, 8) == rounds:
        spins += 1
        if spins > _SPINS:
            _sched_yield()


@compiled
def exp(x):
    """The exponential function to 2e-7 of itself, without a call, so that loops over it become vector instructions."""
    x = min(max(x, np.float32(-87)), np.float32(88))
    power = np.floor(x * np.float32(1.4426950408889634) + np.float32(0.5))
    r = x - power * np.float32(0.693359375) + power * np.float32(2.12194440e-4)
    series = np.float32(1.9875691500e-4)
    series = series * r + np.float32(1.3981999507e-3)
    series = series * r + np.float32(8.3334519073e-3)
    series = series * r + np.float32(4.1665795894e-2)
    series = series * r + np.float32(1.6666665459e-1)
    series = series * r + np.float32(5.0000001201e-1)
    return (series * r * r + r + np.float32(1)) * _power_of_two(np.int32(power))


@compiled
def _dot_4_by_2(weight, first, x, row, out):
    a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = np.float32(0)
    for j in range(x.shape[1]):
        a, b = x[row, j], x[row + 1, j]
        w0, w1 = _widen(weight[first, j]), _widen(weight[first + 1, j])
        w2, w3 = _widen(weight[first + 2, j]), _widen(weight[first + 3, j])
        a0 += w0 * a
        a1 += w1 * a
        a2 += w2 * a
        a3 += w3 * a
        b0 += w0 * b
        b1 += w1 * b
        b2 += w2 * b
        b3 += w3 * b
    out[row, first], out[row, first + 1], out[row, first + 2], out[row, first + 3] = a0, a1, a2, a3
    out[row + 1, first], out[row + 1, first + 1], out[row + 1, first + 2], out[row + 1, first + 3] = b0, b1, b2, b3


@compiled
def project(weight, first, x, out):
    """Outputs first..first+3 for all rows of x, whose number is even."""
    for row in range(0, x.shape[0], 2):
        _dot_4_by_2(weight, first, x, row, out)


@compiled
def normalise(x, gain, epsilon, out):
    """RMS norm of each row of x (R, width), into out."""
    for row in range(x.shape[0]):
        total = np.float32(0)
        for j in range(x.shape[1]):
            total += x[row, j] * x[row, j]
        factor = np.float32(1) / np.sqrt(total / np.float32(x.shape[1]) + epsilon)
        for j in range(x.shape[1]):
            out[row, j] = x[row, j] * factor * gain[j]


@compiled
def attend(queries, keys, values, row, kv, first, length, scores, out):
    """One query, at `first` of its row, over the keys and values (R, kv heads, positions, size) of its head."""
    size, whole = keys.shape[3], length // 4 * 4
    largest = np.float32(-np.inf)
    for t in range(0, whole, 4):
        a = b = c = d = np.float32(0)
        for j in range(size):
            q = queries[row, first + j]
            a += q * keys[row, kv, t, j]
            b += q * keys[row, kv, t + 1, j]
            c += q * keys[row, kv, t + 2, j]
            d += q * keys[row, kv, t + 3, j]
        scores[t], scores[t + 1], scores[t + 2], scores[t + 3] = a, b, c, d
        largest = max(largest, max(max(a, b), max(c, d)))
    for t in range(whole, length):
        a = np.float32(0)
        for j in range(size):
            a += queries[row, first + j] * keys[row, kv, t, j]
        scores[t] = a
        largest = max(largest, a)
    total = np.float32(0)
    for t in range(length):
        scores[t] = exp(scores[t] - largest)
        total += scores[t]
    for j in range(size):
        out[row, first + j] = 0
    for t in range(0, whole, 4):
        a, b, c, d = scores[t] / total, scores[t + 1] / total, scores[t + 2] / total, scores[t + 3] / total
        for j in range(size):
            out[row, first + j] += (
                a * values[row, kv, t, j]
                + b * values[row, kv, t + 1, j]
                + c * values[row, kv, t + 2, j]
                + d * values[row, kv, t + 3, j]
            )
    for t in range(whole, length):
        for j in range(size):
            out[row, first + j] += scores[t] / total * values[row, kv, t, j]
