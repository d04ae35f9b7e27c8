"""One step of decoding on buffers that never move, so that a GPU can replay it: read a token, choose the next code.

All that changes from step to step lies on the device: the ids, the place in the cache, the column of the grid row, the
noise of the row. The step reads and advances them itself, so that one CUDA graph serves all steps of a batch shape and
the host neither waits nor sends anything between the tokens of a row. On another device the same step is called as it
is. What a captured step must not do: draw random numbers (they come as noise), copy from the host (the ids of the image
codes are a table on the device), read a value back (no `.item()`), or keep a Python number that changes (transformers'
own sliding-window layers count in one, hence `_FixedLayer`).

Source: docs.pytorch.org/docs/stable/notes/cuda.html, section CUDA Graphs; `StaticCache` of transformers 5.17 to 5.23,
whose layers return their length as a tensor since cache positions left the models.
"""

from contextlib import nullcontext

import torch
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache, StaticLayer

from arra_med.errors import GenerationError
from arra_med.generate.sampling import SamplingRules, choose_with_noise, guided_logits
from arra_med.generate.transformers_backend import ImageHead, PaddedPrompts, without_adapter
from arra_med.tokens.layout import SequenceLayout

_WARM_UPS = 2


class _FixedLayer(StaticLayer):
    """A layer of a static cache that is written where one shared tensor says, whatever window its layer looks through.

    Args:
        max_cache_len: Tokens that it holds.
        place: Of the next token, int64 (1,), on the model's device; the step advances it.
    """

    def __init__(self, max_cache_len: int, place: torch.Tensor) -> None:
        super().__init__(max_cache_len=max_cache_len)
        self._place = place

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_args: object, **_kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Writes keys and values (rows, heads, 1, size) of one token; returns all, (rows, heads, length, size)."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self.keys.index_copy_(2, self._place, key_states)
        self.values.index_copy_(2, self._place, value_states)
        return self.keys, self.values

    def get_seq_length(self) -> torch.Tensor:
        """The place as a scalar on the device, from which transformers builds its masks."""
        return self._place[0]


class StaticStep:
    """The buffers of one batch shape and, on a GPU, the captured step.

    Args:
        model: In evaluation mode.
        layout: Of its sequences.
        head: Of the model and layout.
        num_images: Images of the batch; with guidance it has twice as many rows.
        rules: Part of what is captured; see `prepare`.
        cache_length: Tokens that the cache holds.

    Raises:
        GenerationError: If the step cannot be captured.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        layout: SequenceLayout,
        head: ImageHead,
        num_images: int,
        rules: SamplingRules,
        cache_length: int,
    ) -> None:
        self.shape = num_images, rules.is_guided, cache_length
        self._base_model, self._head, self._device = without_adapter(model).base_model, head, model.device
        codebook_size, width = layout.vocabulary.codebook_size, layout.grid[1]
        self._image_ids = layout.vocabulary.image_ids(torch.arange(codebook_size)).to(self._device)
        self._copies = 2 if rules.is_guided else 1
        num_rows = self._copies * num_images
        self._ids = self._zeros(num_rows, 1)
        self._offsets = self._zeros(num_rows, 1)  # a row's position id is its place in the cache plus this
        self._place, self._column = self._zeros(1), self._zeros(1)
        self._mask = self._zeros(num_rows, cache_length) + 1
        self._guidance = torch.ones(width, device=self._device)
        self._noise = torch.zeros(width, num_images, codebook_size, device=self._device)
        self._codes = self._zeros(num_images, width)
        self._kept = self._zeros(width, num_images) - 1
        self._finite = torch.ones(width, dtype=torch.bool, device=self._device)
        num_layers = model.config.get_text_config(decoder=True).num_hidden_layers
        self._layers = [_FixedLayer(cache_length, self._place) for _ in range(num_layers)]
        self._cache = Cache(layers=self._layers)
        self.prepare(rules)

    def _zeros(self, *shape: int) -> torch.Tensor:
        return torch.zeros(shape, dtype=torch.long, device=self._device)

    def prepare(self, rules: SamplingRules) -> None:
        """Takes other rules of the same guided or unguided shape, and captures the step with them on a GPU.

        Raises:
            GenerationError: If the step cannot be captured.
        """
        self.rules = rules
        self._graph: torch.cuda.CUDAGraph | None = None
        with self._on_device():
            self._first_step()  # on the caller's stream, to which the cache that it allocates then belongs
            if self._device.type == "cuda":
                self._graph = self._capture()

    def _first_step(self) -> None:
        self._place.zero_()
        self._column.zero_()
        self._step()

    def _capture(self) -> torch.cuda.CUDAGraph:
        stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
        stream.wait_stream(torch.cuda.current_stream())
        try:
            with torch.cuda.stream(stream):
                for _ in range(_WARM_UPS):
                    self._first_step()
            torch.cuda.current_stream().wait_stream(stream)
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):  # others may be at work
                self._step()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise GenerationError(
                f"a step of {type(self._base_model).__name__} cannot be captured in a CUDA graph "
                f"({type(error).__name__}): choose the transformers backend"
            ) from error
        return graph

    @torch.no_grad()
    def read_prompts(self, padded: PaddedPrompts, row_of: torch.Tensor) -> None:
        """Reads different prompts, all but their last tokens, and gives each row its own.

        Args:
            padded: The different prompts, on the CPU.
            row_of: For each row of the batch its prompt's number, int64 (rows,).
        """
        ids, mask, positions = (part.to(self._device) for part in padded)
        row_of, last = row_of.to(self._device), ids.shape[1] - 1
        self._ids.copy_(ids[row_of, last:])
        self._offsets.copy_(positions[row_of, last : last + 1] - last)
        self._place.fill_(last)
        self._mask.fill_(1)
        self._mask[:, : last + 1] = mask[row_of, : last + 1]
        cache = DynamicCache()  # without a configuration its layers keep all tokens, windows or not
        if last:
            self._base_model(
                input_ids=ids[:, :last],
                attention_mask=mask[:, :last],
                position_ids=positions[:, :last],
                past_key_values=cache,
                use_cache=True,
            )
        for layer in self._layers:  # a hidden place weighs nothing, but nothing times NaN would be NaN
            layer.keys.zero_()
            layer.values.zero_()
        for layer, read in zip(self._layers, cache.layers, strict=False):  # none if nothing had to be read
            layer.keys[:, :, :last] = read.keys[row_of]
            layer.values[:, :, :last] = read.values[row_of]

    def write(self, token: int) -> None:
        """Puts a token that was not chosen behind the one that was."""
        self._column.zero_()
        self._run()
        self._ids.fill_(token)

    def choose_row(self, noise: torch.Tensor, guidance: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        """Chooses a row of codes, int64 (B, n) on the device, with Gumbel noise float32 (n, B, V), n at most a row.

        Guidance is float32 (n,), the scale of each token; without an unconditional branch nobody looks at it. Codes of
        `kept`, int64 (B, n), that are not negative are taken as they are.
        """
        self._noise[: len(noise)].copy_(noise)
        self._guidance[: len(noise)].copy_(guidance)
        self._kept.fill_(-1)
        if kept is not None:
            self._kept[: len(noise)].copy_(kept.T)
        self._column.zero_()
        self._finite.fill_(True)
        for _ in range(len(noise)):
            self._run()
        return self._codes[:, : len(noise)].clone()

    @property
    def finite(self) -> torch.Tensor:
        """For each column of the last row, whether all its logits are numbers; bool (width,) on the device."""
        return self._finite

    def _run(self) -> None:
        if self._graph is None:
            self._step()
        else:
            with self._on_device():
                self._graph.replay()

    @torch.no_grad()
    def _step(self) -> None:
        """Reads one token of each row and chooses the next code of each image; all of it can be captured."""
        hidden_states = self._base_model(
            input_ids=self._ids,
            attention_mask=self._mask,
            position_ids=self._offsets + self._place,
            past_key_values=self._cache,
            use_cache=True,
        ).last_hidden_state
        logits = self._head(hidden_states[:, -1])
        if self.rules.is_guided:
            conditional, unconditional = logits.chunk(2)
            logits = guided_logits(conditional, unconditional, self._guidance.index_select(0, self._column))
        self._finite.index_copy_(0, self._column, logits.isfinite().all()[None])
        codes = choose_with_noise(logits, self.rules, self._noise.index_select(0, self._column)[0])
        kept = self._kept.index_select(0, self._column)[0]
        codes = torch.where(kept < 0, codes, kept)
        self._codes.index_copy_(1, self._column, codes[:, None])
        self._ids.copy_(self._image_ids.index_select(0, codes).repeat(self._copies)[:, None])
        self._place.add_(1)
        self._column.add_(1)

    def _on_device(self) -> torch.cuda.device | nullcontext[None]:
        return torch.cuda.device(self._device) if self._device.type == "cuda" else nullcontext()
