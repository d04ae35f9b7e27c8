"""Decoding one row of image tokens with a Llama on a CPU, as one compiled function that every thread runs.

A step at batch 1 is bound by how fast weights arrive from memory. So each projection walks its weight once for all rows
of the batch, one block of outputs at a time, and what follows it (rotation, activation, residual) happens while the
block is at hand; the threads share out the blocks and meet at a barrier.

Source: the layer is transformers' `LlamaDecoderLayer`; rotary embedding: Su et al., arXiv 2104.09864.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from arra_med.generate.cpu_arithmetic import BLOCK, FAST, attend, compiled, exp, normalise, project, wait_for_all

ARITHMETIC_SHA256 = "9fde301383ea3b54560e8cef0d9fb73a95f30e4a3b78af66d4071750e73876c8"
"""Of cpu_arithmetic.py, kept by a test: what Numba keeps on disk is known by this file's content alone."""


class LlamaWeights(NamedTuple):
    """Packed by `cpu_packing`; L layers, q = heads * head size, kv likewise.

    A projection is an array of blocks, each (inputs, BLOCK); the last one's outputs are padded with zeros.

    Attributes:
        qkv: (L, blocks, width, BLOCK) of q + 2 kv outputs.
        out: (L, blocks, q, BLOCK) of width.
        gate_up: (L, blocks, width, BLOCK) of 2 * hidden; in a block BLOCK / 2 gates, then what they gate.
        down: (L, blocks, hidden, BLOCK) of width.
        head: (blocks, width, BLOCK) of V, the image codes alone.
        embedding: float32 (V, width), of the image codes.
        scales: float32 (L, outputs and padding) of `qkv`, `out`, `gate_up` and `down`, one after the other.
        gains: float32 (2 * L + 1, width): before attention and MLP of each layer, and before the head.
        cos: float32 (positions, head size / 2).
        sin: Likewise.
        epsilon: float32 (1,), of the norms.
    """

    qkv: np.ndarray
    out: np.ndarray
    gate_up: np.ndarray
    down: np.ndarray
    head: np.ndarray
    embedding: np.ndarray
    scales: np.ndarray
    gains: np.ndarray
    cos: np.ndarray
    sin: np.ndarray
    epsilon: np.ndarray


class DecodingState(NamedTuple):
    """What a batch of R rows (an even number) carries from token to token; float32 unless said.

    Attributes:
        keys: (L, R, kv heads, positions / BLOCK, head size, BLOCK).
        values: (L, R, kv heads, head size / BLOCK, positions, BLOCK).
        lengths: int64 (R,), tokens read so far.
        x: (R, width and padding), the residual stream.
        normed: (threads, R, width).
        projected: (threads, R or heads that share keys, BLOCK), scratch.
        queries: (R, q).
        attended: (R, q).
        scores: (threads, heads that share keys, positions and padding), scratch.
        hidden: (R, hidden and padding).
        logits: (R, V) of the next token.
        guided: (B, V), what is drawn from.
        codes: int64 (B,), the last codes.
        barrier: int64 (16,), zeros: arrivals and, on another cache line, rounds.
    """

    keys: np.ndarray
    values: np.ndarray
    lengths: np.ndarray
    x: np.ndarray
    normed: np.ndarray
    projected: np.ndarray
    queries: np.ndarray
    attended: np.ndarray
    scores: np.ndarray
    hidden: np.ndarray
    logits: np.ndarray
    guided: np.ndarray
    codes: np.ndarray
    barrier: np.ndarray


@compiled
def _read_heads(weight, scale, x, lengths, cos, sin, found, queries, keys, values, thread, num_threads):
    """Queries, keys and values of x; neighbours are a pair (d, d + half) of one head, or two values of one."""
    size, half = keys.shape[3], keys.shape[3] // 2
    heads, kv_heads = queries.shape[1] // size, keys.shape[1]
    q_size, kv_size = heads * size, kv_heads * size
    root = np.float32(1) / np.sqrt(np.float32(size))
    for block in range(weight.shape[0] * thread // num_threads, weight.shape[0] * (thread + 1) // num_threads):
        project(weight[block], weight.shape[1], x, 0, x.shape[0], found, weight[block].size)
        for at in range(block * BLOCK, min((block + 1) * BLOCK, q_size + 2 * kv_size), 2):
            head, i = at // size, at % BLOCK
            d = at % size if at >= q_size + kv_size else at % size // 2
            for row in range(x.shape[0]):
                here = lengths[row]
                a, b = found[row, i] * scale[at], found[row, i + 1] * scale[at + 1]
                if at >= q_size + kv_size:
                    values[row, head - heads - kv_heads, d // BLOCK, here, d % BLOCK] = a
                    values[row, head - heads - kv_heads, d // BLOCK, here, d % BLOCK + 1] = b
                    continue
                low, high = a * cos[here, d] - b * sin[here, d], b * cos[here, d] + a * sin[here, d]
                if at < q_size:
                    queries[row, head * size + d] = low * root
                    queries[row, head * size + d + half] = high * root
                else:
                    keys[row, head - heads, here // BLOCK, d, here % BLOCK] = low
                    keys[row, head - heads, here // BLOCK, d + half, here % BLOCK] = high


@compiled
def _attend_all(queries, keys, values, lengths, scores, found, attended, thread, num_threads):
    size, kv_heads = keys.shape[3], keys.shape[1]
    group = queries.shape[1] // size // kv_heads
    by_head, to = queries.reshape(-1, size), attended.reshape(-1, size)
    tasks = queries.shape[0] * kv_heads
    for task in range(tasks * thread // num_threads, tasks * (thread + 1) // num_threads):
        row, head = task // kv_heads, task % kv_heads
        first = task * group
        attend(by_head, keys[row, head], values[row, head], first, first + group, lengths[row] + 1, scores, found, to)


@compiled
def _activate(weight, scale, x, found, hidden, thread, num_threads):
    """silu(gate) * up of x."""
    part = BLOCK // 2
    for block in range(weight.shape[0] * thread // num_threads, weight.shape[0] * (thread + 1) // num_threads):
        project(weight[block], weight.shape[1], x, 0, x.shape[0], found, weight[block].size)
        first = block * BLOCK
        for row in range(x.shape[0]):
            for i in range(part):
                gate, up = found[row, i] * scale[first + i], found[row, part + i] * scale[first + part + i]
                hidden[row, block * part + i] = gate / (np.float32(1) + exp(-gate)) * up


@compiled
def _add_projection(weight, scale, x, found, residual, thread, num_threads):
    for block in range(weight.shape[0] * thread // num_threads, weight.shape[0] * (thread + 1) // num_threads):
        project(weight[block], weight.shape[1], x, 0, x.shape[0], found, weight[block].size)
        first = block * BLOCK
        for row in range(x.shape[0]):
            for i in range(BLOCK):
                residual[row, first + i] += found[row, i] * scale[first + i]


@compiled
def _read_layer(weights, state, layer, thread, num_threads):
    qkv, out, gate_up, down = weights.qkv[layer], weights.out[layer], weights.gate_up[layer], weights.down[layer]
    keys, values, scores = state.keys[layer], state.values[layer], state.scores[thread]
    normed, found, scale, epsilon = (
        state.normed[thread],
        state.projected[thread],
        weights.scales[layer],
        weights.epsilon[0],
    )
    cos, sin, threads = weights.cos, weights.sin, (thread, num_threads)
    normalise(state.x, weights.gains[2 * layer], epsilon, normed)
    _read_heads(qkv, scale, normed, state.lengths, cos, sin, found, state.queries, keys, values, *threads)
    scale = scale[BLOCK * qkv.shape[0] :]
    wait_for_all(state.barrier, num_threads)
    _attend_all(state.queries, keys, values, state.lengths, scores, found, state.attended, *threads)
    wait_for_all(state.barrier, num_threads)
    _add_projection(out, scale, state.attended, found, state.x, *threads)
    scale = scale[BLOCK * out.shape[0] :]
    wait_for_all(state.barrier, num_threads)
    normalise(state.x, weights.gains[2 * layer + 1], epsilon, normed)
    _activate(gate_up, scale, normed, found, state.hidden, *threads)
    wait_for_all(state.barrier, num_threads)
    _add_projection(down, scale[BLOCK * gate_up.shape[0] :], state.hidden, found, state.x, *threads)
    wait_for_all(state.barrier, num_threads)


@compiled
def _read_codes(weights, state, thread, num_threads):
    """Reads the last codes and writes the logits of the next ones."""
    num_images = state.codes.shape[0]
    if thread == 0:
        for row in range(state.x.shape[0]):
            state.x[row, : weights.embedding.shape[1]] = weights.embedding[state.codes[row % num_images]]
    wait_for_all(state.barrier, num_threads)
    for layer in range(weights.qkv.shape[0]):
        _read_layer(weights, state, layer, thread, num_threads)
    head, normed, found, logits = weights.head, state.normed[thread], state.projected[thread], state.logits
    normalise(state.x, weights.gains[2 * weights.qkv.shape[0]], weights.epsilon[0], normed)
    for block in range(head.shape[0] * thread // num_threads, head.shape[0] * (thread + 1) // num_threads):
        project(head[block], head.shape[1], normed, 0, normed.shape[0], found, head[block].size)
        last = min((block + 1) * BLOCK, logits.shape[1])
        for row in range(normed.shape[0]):
            logits[row, block * BLOCK : last] = found[row, : last - block * BLOCK]
    if thread == 0:
        for row in range(state.lengths.shape[0]):
            state.lengths[row] += 1
    wait_for_all(state.barrier, num_threads)


@compiled
def _choose(logits, noise, temperature, top_k, top_p):
    """The code with the largest noisy logit of those that may be drawn; see `sampling.filtered_logits`.

    In place of sorting, the best code is asked whether fewer than top_k others are more probable, and whether these
    hold less than top_p; if not, the next best is asked.
    """
    if temperature == 0:
        return np.argmax(logits)
    scores = logits / temperature + noise
    kept = -np.inf
    if top_p < 1 and top_k < logits.shape[0]:
        kept = np.partition(logits, logits.shape[0] - top_k)[logits.shape[0] - top_k]
    largest = np.max(logits)
    total = 0.0
    if top_p < 1:
        for logit in logits:
            if logit >= kept:
                total += np.exp((logit - largest) / temperature)
    while True:
        best = np.argmax(scores)
        logit, above, mass = logits[best], 0, 0.0
        for j in range(logits.shape[0]):
            above += logits[j] > logit
        if above < top_k and top_p < 1:
            for j in range(logits.shape[0]):
                if logits[j] > logit:
                    mass += np.exp((logits[j] - largest) / temperature)
        if above == 0 or (above < top_k and (top_p >= 1 or mass < top_p * total)):
            return best
        scores[best] = -np.inf


@compiled
def _all_finite(logits):
    total = np.float32(0)
    for logit in logits:
        total += logit * np.float32(0)  # NaN for NaN and infinity, which `FAST` keeps; a sum is quick
    return total == 0


@njit(fastmath=FAST, error_model="numpy", cache=True, nogil=True)
def decode_row(weights, state, noise, guidance, rules, is_started, codes, finite, thread, num_threads):
    """Decodes one row of every image; each of `num_threads` threads calls it with the same arrays.

    Args:
        weights: Of the model.
        state: Of the batch; unconditional rows follow the conditional ones, if there are any.
        noise: float32 (width, B, V), standard Gumbel.
        guidance: float32 (width,), the scale of each token; 1 all along where there are no unconditional rows.
        rules: float64 (3,): temperature, top_k (V for all), top_p (1 for all).
        is_started: Whether `state.codes` have been chosen but not read; if not, `state.logits` are of the first token.
        codes: int64 (B, width): what is negative is chosen and written, the others are kept as they are.
        finite: bool (width, B), written: whether what each code was chosen from are numbers.
        thread: Number of this thread, from 0.
        num_threads: Threads.
    """
    num_images = codes.shape[0]
    temperature = np.float32(rules[0])
    for column in range(codes.shape[1]):
        if column or is_started:
            _read_codes(weights, state, thread, num_threads)
        for image in range(num_images * thread // num_threads, num_images * (thread + 1) // num_threads):
            logits = state.guided[image]
            logits[:] = state.logits[image]
            if guidance[column] != 1:
                plain = state.logits[num_images + image]
                logits[:] = plain + guidance[column] * (logits - plain)
            finite[column, image] = _all_finite(logits)
            code = codes[image, column]
            if code < 0:
                code = _choose(logits, noise[column, image], temperature, np.int64(rules[1]), rules[2])
                codes[image, column] = code
            state.codes[image] = code
        wait_for_all(state.barrier, num_threads)
