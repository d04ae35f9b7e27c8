"""A plain conversion of a Llama's decoding step for ONNX Runtime, a peer in decoder_candidates.py."""

import tempfile
from pathlib import Path

import onnxruntime as ort
import torch
from onnxruntime.quantization import quantize_dynamic
from plain_step import PaddedRows, PlainStep
from transformers import LlamaForCausalLM

from arra_med.tokens.layout import SequenceLayout


class OnnxStep:
    """A session on the CPU; keys and values stay in its memory from token to token.

    Args:
        model: The Llama.
        layout: Of its sequences.
        prompt: Token ids.
        int8: Its layers' weights as int8, activations rounded as they come.
    """

    def __init__(self, model: LlamaForCausalLM, layout: SequenceLayout, prompt: list[int], int8: bool = False) -> None:
        step, self._rows = PlainStep(model, layout), PaddedRows(layout, prompt)
        example = step.example()
        num_pasts = len(example) - 3
        self._pasts, self._presents = ([f"{name}{i}" for i in range(num_pasts)] for name in ("past", "present"))
        axes = {"mask": {1: "all"}, **{name: {2: "read"} for name in self._pasts}}
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "step.onnx"
            torch.onnx.export(
                step.eval(),
                example,
                file,
                input_names=["ids", "positions", "mask", *self._pasts],
                output_names=["logits", *self._presents],
                dynamic_axes=axes,
                dynamo=False,
            )
            if int8:
                rounded = Path(folder) / "int8.onnx"
                quantize_dynamic(file, rounded, op_types_to_quantize=["MatMul"])
                file = rounded
            settings = ort.SessionOptions()
            settings.intra_op_num_threads = torch.get_num_threads()
            self._session = ort.InferenceSession(str(file), settings, providers=["CPUExecutionProvider"])
        shape = (2, example[-1].shape[1], 0, example[-1].shape[3])
        self._state = [ort.OrtValue.ortvalue_from_numpy(torch.zeros(shape).numpy()) for _ in range(num_pasts)]
        for position in range(self._rows.ids.shape[1] - 1):
            self._read(self._rows.ids[:, position : position + 1], position)
        self._after_prompt = self._state

    def _read(self, ids: torch.Tensor, position: int) -> torch.Tensor:
        binding, (positions, mask) = self._session.io_binding(), self._rows.places(position)
        for name, value in (("ids", ids), ("positions", positions), ("mask", mask)):
            binding.bind_cpu_input(name, value.contiguous().numpy())
        for name, value in zip(self._pasts, self._state, strict=True):
            binding.bind_ortvalue_input(name, value)
        for name in ("logits", *self._presents):
            binding.bind_output(name)
        self._session.run_with_iobinding(binding)
        logits, *self._state = binding.get_outputs()
        return torch.from_numpy(logits.numpy())

    def decode(self, num_tokens: int) -> torch.Tensor:
        """Chooses codes greedily, int64 (num_tokens,); the prompt but its last token has been read before, free of charge."""
        self._state = self._after_prompt
        return self._rows.decode(self._read, num_tokens)
