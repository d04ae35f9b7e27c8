"""How likely a model finds the codes of an image, code by code, given a prompt: what decoding would have drawn from.

Unlike the losses of training, it is over the image codes alone, as decoding is, and without guidance, so that it is the
likelihood of one model, not of a mixture of two.
"""

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from arra_med.errors import GenerationError
from arra_med.generate.transformers_backend import ImageHead, without_adapter
from arra_med.tokens.layout import SequenceLayout


@torch.no_grad()
def code_log_likelihoods(
    model: PreTrainedModel, layout: SequenceLayout, prompt: Sequence[int], codes: torch.Tensor
) -> torch.Tensor:
    """Computes the log-likelihood of each code given the prompt and all codes before it in raster order.

    One image is read at a time, so that no other changes its numbers.

    Args:
        model: Any Hugging Face causal language model with an image vocabulary, in eval mode.
        layout: Of its sequences.
        prompt: Token ids from `layout.prompt_ids`.
        codes: int64 (n, h, w).

    Returns:
        float64 (n, h, w) on the CPU, in nats, none positive; over the codebook, at temperature 1 and without guidance.

    Raises:
        GenerationError: If the codes are not of the layout's grid or codebook, or a number is not finite.
    """
    grid, codebook_size = tuple(layout.grid), layout.vocabulary.codebook_size
    if codes.ndim != 3 or tuple(codes.shape[1:]) != grid or codes.min() < 0 or codes.max() >= codebook_size:
        raise GenerationError(
            f"codes of shape {tuple(codes.shape)} are no images of {grid[0]} x {grid[1]} codes below {codebook_size}: "
            "encode the image with the bundle's own image tokenizer"
        )
    head, base_model = ImageHead(model, layout), without_adapter(model).base_model
    predicting = torch.tensor(layout.image_offsets, device=model.device) + len(prompt) - 1
    found = []
    for image in codes:
        rows = layout.vocabulary.image_ids(image).tolist()
        ids = [*prompt, *(token for row in rows for token in (*row, *layout.row_end_ids))]
        positions = torch.arange(len(ids), device=model.device) + layout.first_position(len(prompt))
        output = base_model(
            input_ids=torch.tensor([ids], device=model.device), position_ids=positions[None], use_cache=False
        )
        log_likelihoods = head(output.last_hidden_state[0, predicting]).double().log_softmax(dim=-1)
        found.append(log_likelihoods.gather(1, image.to(model.device).reshape(-1, 1)).view(grid).cpu())
    likelihoods = torch.stack(found)
    if not likelihoods.isfinite().all():
        raise GenerationError("the model's logits are not finite: its weights are damaged, copy the bundle again")
    return likelihoods
