"""Arithmetic of the CPU decoder that Numba compiles: products with stored weights, norms, attention, a barrier.

Weights are float32, bfloat16 (as uint16: the upper half of a float32, so that widening loses nothing) or int8; sums are
float32. Every function is compiled when its first caller is, and kept on disk.
"""

from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import njit, types
from numba.extending import intrinsic

BLOCK = 32
"""Outputs of a projection that are computed together: two vectors of `_LANES` that lie side by side for each input."""

_LANES = 16
_FLOAT, _INT32, _INT64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
_FLOATS, _INTS = ir.VectorType(_FLOAT, _LANES), ir.VectorType(_INT32, _LANES)

FAST = {"reassoc", "contract", "nsz", "arcp"}
"""Sums in any order; NaN and infinity stay what they are."""

compiled = njit(fastmath=FAST, error_model="numpy", cache=True)

_SPINS = 1_000_000  # about a millisecond; then the processor is offered to others: they may hold the thread that is waited for
_sched_yield = types.ExternalFunction("sched_yield", types.int32())


def _widened(builder: Any, stored: Any, loaded: Any) -> Any:
    """A vector of stored weights as float32."""
    if stored == types.uint16:
        return builder.bitcast(builder.shl(builder.zext(loaded, _INTS), ir.Constant(_INTS, [16] * _LANES)), _FLOATS)
    return loaded if stored == types.float32 else builder.sitofp(loaded, _FLOATS)


def _prefetch(builder: Any, address: Any, num_bytes: int) -> None:
    """Asks for what lies at an address, which need not be valid, to be brought into the second-level cache."""
    byte = ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [byte, _INT32, _INT32, _INT32])
    function = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
    for line in range(0, num_bytes, 64):
        place = builder.gep(builder.bitcast(address, byte), [ir.Constant(_INT64, line)])
        builder.call(function, [place, *(ir.Constant(_INT32, value) for value in (0, 2, 1))])  # read, level 2, data


def _multiplication(num_rows: int) -> Any:
    """Makes the product of a block of weights (n or more, BLOCK) with x[row : row + num_rows, :n], into out[to : ], BLOCK wide.

    The sums stay in vector registers over outputs, so that a weight is loaded once, in the order of memory, for all of
    the rows, and no vector is ever summed up. (Dot products, which leave that to the compiler, reach half the speed.)
    """

    @intrinsic
    def multiply(typing_context: Any, weight: Any, n: Any, x: Any, row: Any, out: Any, to: Any, ahead: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            weights, inputs, outputs = (
                context.make_array(signature.args[at])(context, builder, args[at]) for at in (0, 2, 4)
            )
            stored, size = signature.args[0].dtype, builder.extract_value(inputs.shape, 1)
            vector = ir.VectorType(context.get_data_type(stored), _LANES).as_pointer()
            rows = [builder.add(args[3], ir.Constant(_INT64, at)) for at in range(num_rows)]
            columns = [ir.Constant(_INT64, at) for at in range(0, BLOCK, _LANES)]
            starts = [builder.gep(inputs.data, [builder.mul(at, size)]) for at in rows]
            before, loop, after = (
                builder.block, builder.append_basic_block("inputs"), builder.append_basic_block("summed")
            )  # fmt: skip
            builder.branch(loop)
            builder.position_at_end(loop)
            place = builder.phi(_INT64)
            place.add_incoming(ir.Constant(_INT64, 0), before)
            sums = [[builder.phi(_FLOATS) for _ in columns] for _ in rows]
            first = builder.mul(place, ir.Constant(_INT64, BLOCK))
            _prefetch(builder, builder.gep(weights.data, [builder.add(first, args[6])]), stored.bitwidth * BLOCK // 8)
            parts = []
            for column in columns:
                address = builder.bitcast(builder.gep(weights.data, [builder.add(first, column)]), vector)
                parts.append(_widened(builder, stored, builder.load(address, align=stored.bitwidth // 8)))
            nothing, lane = ir.Constant(_FLOATS, ir.Undefined), ir.Constant(_INT32, 0)
            totals = []
            for start, its in zip(starts, sums, strict=True):
                one = builder.insert_element(nothing, builder.load(builder.gep(start, [place])), lane)
                spread = builder.shuffle_vector(one, nothing, ir.Constant(_INTS, [0] * _LANES))
                products = [builder.fmul(part, spread, flags=("contract",)) for part in parts]
                totals.append([builder.fadd(*both, flags=("contract",)) for both in zip(products, its, strict=True)])
            following = builder.add(place, ir.Constant(_INT64, 1))
            place.add_incoming(following, loop)
            for its, theirs in zip(sums, totals, strict=True):
                for phi, total in zip(its, theirs, strict=True):
                    phi.add_incoming(ir.Constant(_FLOATS, [0.0] * _LANES), before)
                    phi.add_incoming(total, loop)
            builder.cbranch(builder.icmp_signed("<", following, args[1]), loop, after)
            builder.position_at_end(after)
            for number, theirs in enumerate(totals):
                target = builder.mul(builder.add(args[5], ir.Constant(_INT64, number)), ir.Constant(_INT64, BLOCK))
                for column, total in zip(columns, theirs, strict=True):
                    at = builder.add(target, column)
                    builder.store(
                        total, builder.bitcast(builder.gep(outputs.data, [at]), _FLOATS.as_pointer()), align=4
                    )
            return context.get_dummy_value()

        return types.none(weight, types.int64, x, types.int64, out, types.int64, types.int64), generate

    return multiply


_multiply_one, _multiply_two, _multiply_eight = _multiplication(1), _multiplication(2), _multiplication(8)
_HAS_WIDE_REGISTERS = bool(binding.get_host_cpu_features().get("avx512f"))  # else eight rows' sums would not fit


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
def project(weight, n, x, first, stop, out, ahead):
    """One block of outputs of x[first:stop, :n].

    Args:
        weight: (n or more, BLOCK).
        n: Inputs.
        x: (R, n or more).
        first: Row to begin with.
        stop: Behind the last row.
        out: (stop - first or more, BLOCK).
        ahead: Numbers from this block to the one that is read next, which is fetched meanwhile.
    """
    row = first
    if _HAS_WIDE_REGISTERS:
        while row + 8 <= stop:
            _multiply_eight(weight, n, x, row, out, row - first, ahead)
            row += 8
    while row + 2 <= stop:
        _multiply_two(weight, n, x, row, out, row - first, ahead)
        row += 2
    if row < stop:
        _multiply_one(weight, n, x, row, out, row - first, ahead)


@compiled
def normalise(x, gain, epsilon, out):
    """RMS norm of each row of x (R, width and padding), into out."""
    width = gain.shape[0]
    for row in range(x.shape[0]):
        total = np.float32(0)
        for j in range(width):
            total += x[row, j] * x[row, j]
        factor = np.float32(1) / np.sqrt(total / np.float32(width) + epsilon)
        for j in range(width):
            out[row, j] = x[row, j] * factor * gain[j]


@compiled
def attend(queries, keys, values, first, stop, length, scores, found, out):
    """The queries first..stop - 1, which share one head's keys and values, over its first `length` positions.

    Args:
        queries: (rows * heads, size), divided by the root of the size.
        keys: (blocks, size, BLOCK), BLOCK positions side by side.
        values: (blocks, positions, BLOCK), BLOCK numbers of a value side by side.
        first: Of the queries.
        stop: Behind the last.
        length: Positions to look at.
        scores: (queries or more, positions and padding to blocks), scratch.
        found: (queries or more, BLOCK), scratch.
        out: (rows * heads, size).
    """
    size = queries.shape[1]
    for block in range((length + BLOCK - 1) // BLOCK):
        project(keys[block], size, queries, first, stop, found, keys.size)
        for query in range(stop - first):
            for t in range(BLOCK):  # what lies behind `length` is not looked at
                scores[query, block * BLOCK + t] = found[query, t]
    for query in range(stop - first):
        largest, total = np.float32(-np.inf), np.float32(0)
        for t in range(length):
            largest = max(largest, scores[query, t])
        for t in range(length):
            scores[query, t] = exp(scores[query, t] - largest)
            total += scores[query, t]
        for t in range(length):
            scores[query, t] /= total
    for block in range(values.shape[0]):
        project(values[block], length, scores, 0, stop - first, found, values.size)
        here = min(BLOCK, size - block * BLOCK)
        for query in range(stop - first):
            out[first + query, block * BLOCK : block * BLOCK + here] = found[query, :here]
