"""A plain stateful OpenVINO conversion of a Llama's decoding step with both rows of guidance, the peer of generate.py."""

import openvino as ov
import torch
from plain_step import PaddedRows, PlainStep
from transformers import LlamaForCausalLM

from arra_med.tokens.layout import SequenceLayout


class OpenVinoStep:
    """Compiled for the CPU with a state for keys and values.

    Args:
        model: The Llama.
        layout: Of its sequences.
        prompt: Token ids.
        dtype: `f32` or `bf16`, of the arithmetic.
        weights: `int8` or `int4` for weights that nncf has rounded; by default they are as they were.
    """

    def __init__(
        self, model: LlamaForCausalLM, layout: SequenceLayout, prompt: list[int], dtype: str, weights: str | None = None
    ) -> None:
        step, self._rows = PlainStep(model, layout), PaddedRows(layout, prompt)
        example = step.example()
        layers, (_, heads, _, size) = model.config.num_hidden_layers, example[-1].shape
        with torch.no_grad():
            converted = ov.convert_model(step, example_input=example)
        names = {}
        for number in range(2 * layers):
            entry, leaving = converted.inputs[3 + number], converted.outputs[1 + number]
            entry.get_tensor().set_names({f"past{number}"})
            leaving.get_tensor().set_names({f"present{number}"})
            entry.get_node().set_partial_shape(ov.PartialShape([2, heads, -1, size]))
            names[f"past{number}"] = f"present{number}"
        for entry, shape in zip(converted.inputs[:3], ([2, 1], [2, 1], [2, -1]), strict=True):
            entry.get_node().set_partial_shape(ov.PartialShape(shape))
        converted.validate_nodes_and_infer_types()
        ov._offline_transformations.apply_make_stateful_transformation(converted, names)
        if weights is not None:
            import nncf

            kind = {"int8": nncf.CompressWeightsMode.INT8_SYM, "int4": nncf.CompressWeightsMode.INT4_SYM}[weights]
            how = {"ratio": 1.0, "group_size": 32, "all_layers": True} if weights == "int4" else {}
            converted = nncf.compress_weights(converted, mode=kind, **how)
        hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": dtype}
        self._request = ov.Core().compile_model(converted, "CPU", hints).create_infer_request()
        self._request.reset_state()
        for position in range(self._rows.ids.shape[1] - 1):
            self._read(self._rows.ids[:, position : position + 1], position)
        self._after_prompt = [(state, ov.Tensor(state.state.data.copy())) for state in self._request.query_state()]

    def _read(self, ids: torch.Tensor, position: int) -> torch.Tensor:
        positions, mask = self._rows.places(position)
        return torch.from_numpy(self._request.infer([ids.numpy(), positions.numpy(), mask.numpy()])[0])

    def decode(self, num_tokens: int) -> torch.Tensor:
        """Chooses codes greedily, int64 (num_tokens,); the prompt but its last token has been read before, free of charge."""
        for state, kept in self._after_prompt:
            state.state = kept
        return self._rows.decode(self._read, num_tokens)
