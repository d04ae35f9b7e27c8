"""Decoding one row of image tokens with a Llama on a CPU, as one compiled function that every thread runs.

A step at batch 1 is bound by how fast weights arrive from memory. So each projection walks its weight once for all rows
of the batch, four outputs at a time, and what follows it (rotation, activation, residual) happens while the four are at
hand; the threads share out the outputs and meet at a barrier.

Source: the layer is transformers' `LlamaDecoderLayer`; rotary embedding: Su et al., arXiv 2104.09864.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from arra_med.generate.cpu_arithmetic import BLOCK, FAST, attend, compiled, exp, normalise, project, wait_for_all


class LlamaWeights(NamedTuple):
    """Packed by `cpu_weights`; L layers, q = heads * head size, kv likewise.

    Attributes:
        qkv: (L, q + 2 kv, width).
        out: (L, width, q).
        gate_up: (L, 2 * hidden, width).
        down: (L, width, hidden).
        head: (V and padding, width), the image codes alone.
        embedding: float32 (V, width), of the image codes.
        scales: float32 (L, outputs) of `qkv`, `out`, `gate_up` and `down`, one after the other.
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
        keys: (L, R, kv heads, positions, head size).
        values: Likewise.
        lengths: int64 (R,), tokens read so far.
        x: (R, width), the residual stream.
        normed: (threads, R, width).
        projected: (R, outputs of the largest projection), scratch.
        queries: (R, q).
        attended: (R, q).
        scores: (threads, positions).
        hidden: (R, hidden).
        logits: (R, outputs of the head) of the next token; codes first, then padding.
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
def _share(num_outputs, thread, num_threads):
    """The outputs [start, stop) of a projection that are a thread's, in blocks."""
    blocks = num_outputs // BLOCK
    return blocks * thread // num_threads * BLOCK, blocks * (thread + 1) // num_threads * BLOCK


@compiled
def _read_heads(weight, scale, share, x, lengths, cos, sin, found, queries, keys, values):
    """Queries, keys and values of x; four outputs are two pairs (d, d + half) of one head, or four values of one."""
    size, half = keys.shape[3], keys.shape[3] // 2
    q_size, kv_size = queries.shape[1], keys.shape[1] * size
    root = np.float32(1) / np.sqrt(np.float32(size))
    for first in range(share[0], share[1], BLOCK):
        project(weight, first, x, found)
        for row in range(x.shape[0]):
            here = lengths[row]
            if first >= q_size + kv_size:
                for at in range(first, first + BLOCK):
                    value = at - q_size - kv_size
                    values[row, value // size, here, value % size] = found[row, at] * scale[at]
                continue
            for at in range(first, first + BLOCK, 2):
                d = at % size // 2
                a, b = found[row, at] * scale[at], found[row, at + 1] * scale[at + 1]
                low, high = a * cos[here, d] - b * sin[here, d], b * cos[here, d] + a * sin[here, d]
                if first < q_size:
                    queries[row, first // size * size + d] = low * root
                    queries[row, first // size * size + d + half] = high * root
                else:
                    keys[row, (first - q_size) // size, here, d] = low
                    keys[row, (first - q_size) // size, here, d + half] = high


@compiled
def _attend_all(queries, keys, values, lengths, scores, attended, thread, num_threads):
    size = keys.shape[3]
    heads = queries.shape[1] // size
    group = heads // keys.shape[1]
    tasks = queries.shape[0] * heads
    for task in range(tasks * thread // num_threads, tasks * (thread + 1) // num_threads):
        row, head = task // heads, task % heads
        attend(queries, keys, values, row, head // group, head * size, lengths[row] + 1, scores, attended)


@compiled
def _activate(weight, scale, share, x, found, hidden):
    """silu(gate) * up of x; four outputs are gate, gate + 1, up and up + 1."""
    for first in range(share[0], share[1], BLOCK):
        project(weight, first, x, found)
        for row in range(x.shape[0]):
            for i in range(first, first + 2):
                gate, up = found[row, i] * scale[i], found[row, i + 2] * scale[i + 2]
                hidden[row, i - first // 2] = gate / (np.float32(1) + exp(-gate)) * up


@compiled
def _add_projection(weight, scale, share, x, found, residual):
    for first in range(share[0], share[1], BLOCK):
        project(weight, first, x, found)
        for row in range(x.shape[0]):
            for i in range(first, first + BLOCK):
                residual[row, i] += found[row, i] * scale[i]


@compiled
def _read_layer(weights, state, layer, thread, num_threads):
    qkv, out, gate_up, down = weights.qkv[layer], weights.out[layer], weights.gate_up[layer], weights.down[layer]
    keys, values, scores = state.keys[layer], state.values[layer], state.scores[thread]
    normed, found, scale, epsilon = state.normed[thread], state.projected, weights.scales[layer], weights.epsilon[0]
    share = _share(qkv.shape[0], thread, num_threads)
    normalise(state.x, weights.gains[2 * layer], epsilon, normed)
    _read_heads(qkv, scale, share, normed, state.lengths, weights.cos, weights.sin, found, state.queries, keys, values)
    scale = scale[qkv.shape[0] :]
    wait_for_all(state.barrier, num_threads)
    _attend_all(state.queries, keys, values, state.lengths, scores, state.attended, thread, num_threads)
    wait_for_all(state.barrier, num_threads)
    share = _share(out.shape[0], thread, num_threads)
    _add_projection(out, scale, share, state.attended, found, state.x)
    scale = scale[out.shape[0] :]
    wait_for_all(state.barrier, num_threads)
    normalise(state.x, weights.gains[2 * layer + 1], epsilon, normed)
    _activate(gate_up, scale, _share(gate_up.shape[0], thread, num_threads), normed, found, state.hidden)
    wait_for_all(state.barrier, num_threads)
    _add_projection(down, scale[gate_up.shape[0] :], share, state.hidden, found, state.x)
    wait_for_all(state.barrier, num_threads)


@compiled
def _read_codes(weights, state, thread, num_threads):
    """Reads the last codes and writes the logits of the next ones."""
    num_images = state.codes.shape[0]
    if thread == 0:
        for row in range(state.x.shape[0]):
            state.x[row] = weights.embedding[state.codes[row % num_images]]
    wait_for_all(state.barrier, num_threads)
    for layer in range(weights.qkv.shape[0]):
        _read_layer(weights, state, layer, thread, num_threads)
    normalise(state.x, weights.gains[2 * weights.qkv.shape[0]], weights.epsilon[0], state.normed[thread])
    head, normed, logits = weights.head, state.normed[thread], state.logits
    share = _share(head.shape[0], thread, num_threads)
    for first in range(share[0], share[1], BLOCK):
        project(head, first, normed, logits)
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


@njit(fastmath=FAST, error_model="numpy", cache=True, nogil=True)
def decode_row(weights, state, noise, rules, is_started, codes, thread, num_threads):
    """Decodes one row of every image; each of `num_threads` threads calls it with the same arrays.

    Args:
        weights: Of the model.
        state: Of the batch; unconditional rows follow the conditional ones, if there are any.
        noise: float32 (width, B, V), standard Gumbel.
        rules: float64 (4,): guidance scale, temperature, top_k (V for all), top_p (1 for all).
        is_started: Whether `state.codes` have been chosen but not read; if not, `state.logits` are of the first token.
        codes: int64 (B, width), written.
        thread: Number of this thread, from 0.
        num_threads: Threads.
    """
    num_images = codes.shape[0]
    guidance, temperature = np.float32(rules[0]), np.float32(rules[1])
    for column in range(codes.shape[1]):
        if column or is_started:
            _read_codes(weights, state, thread, num_threads)
        for image in range(num_images * thread // num_threads, num_images * (thread + 1) // num_threads):
            logits = state.guided[image]
            logits[:] = state.logits[image, : logits.shape[0]]
            if guidance != 1:
                plain = state.logits[num_images + image, : logits.shape[0]]
                logits[:] = plain + guidance * (logits - plain)
            code = _choose(logits, noise[column, image], temperature, np.int64(rules[2]), rules[3])
            codes[image, column] = code
            state.codes[image] = code
        wait_for_all(state.barrier, num_threads)
