"""The settings of a training: what a config for `arra-med train` may say."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from arra_med.config import Device, StrictModel
from arra_med.corpus.expectation import CorpusExpectation
from arra_med.corpus.folds import PatientFold
from arra_med.models.start import RandomStart, StartConfig
from arra_med.training.alignment import AlignmentConfig
from arra_med.training.consistency import ConsistencyConfig
from arra_med.training.lora import LoraSettings
from arra_med.training.samples import SampleGridConfig


def _listed(blocks: Any) -> Any:
    """One block of settings, or none, as the list that it stands for."""
    if blocks is None:
        return ()
    return blocks if isinstance(blocks, list | tuple) else (blocks,)


class TrainConfig(StrictModel):
    """Settings of one training; the baseline and ARRA differ by `alignment` alone.

    Attributes:
        name: Of the bundle.
        corpus: Folder of the corpus.
        image_tokenizer: Folder of the image tokenizer that made it.
        expected: What corpus and teacher must be of, so that another size is an error; `null` takes any.
        start: What to start from.
        alignment: ARRA's block, or a list of them, one for each teacher; absent for direct fine-tuning.
        consistency: reAR's regulariser towards the image tokenizer's own embeddings, or `null`.
        sources: Only images of these sources train; empty takes all.
        held_out_sources: Only images of these give the held-out loss; `null` takes `sources`, empty takes all.
        fold: Only these patients of the train split train; a judge of another fold has then seen none of them.
        max_text_tokens: Longest prompt.
        prompt_dropout: Share of sequences without prompt, which trains the unconditional branch of guidance.
        token_noise: Chance of an image token to be replaced where it stands as context, against learning by heart.
        repeat_threshold: Share of the training images below which a finding counts as rare: its images come up to six
            times an epoch (repeat factor sampling); 0 shows every image once.
        z_loss_weight: Weight of the z-loss, in the baseline and in ARRA alike.
        steps: Optimiser steps.
        batch_size: Sequences a step and process.
        accumulation: Batches of each process for each optimiser step.
        global_batch: Sequences of an optimiser step over all processes, in place of `accumulation`: the same training
            by any number of processes that divides it into whole batches.
        learning_rate: Peak rate of AdamW.
        schedule: After warm-up: constant, or a cosine to zero.
        warmup_steps: Steps of linear warm-up.
        weight_decay: Of matrices; vectors have none.
        betas: Of AdamW.
        max_norm: Largest gradient norm, of the language model and of the projectors each.
        gradient_checkpointing: Recompute blocks in the backward pass, to save memory.
        compile: Compile the decoder blocks; a step is faster, the first ones take minutes.
        lora: Train low-rank additions and the image rows instead of all weights; `null` trains all.
        seed: Of order, wordings, augmented views and prompt dropout.
        log_every: Steps between lines of the log.
        evaluate_every: Steps between held-out losses.
        checkpoint_every: Steps between checkpoints; the newest two are kept.
        samples: Prompts whose images are drawn at each checkpoint, or `null`.
        device: `auto`, `cpu`, `cuda` or `mps`.
        bf16: Autocast to bfloat16; weights and optimiser stay float32.
        sharding: `fsdp2` cuts weights, gradients and optimiser over the GPUs; `none` gives each process all of them.
        process_timeout_s: Seconds after which a process that does not answer the others ends all.
    """

    name: str
    corpus: Path
    image_tokenizer: Path
    expected: CorpusExpectation | None = None
    start: StartConfig = RandomStart()
    alignment: Annotated[tuple[AlignmentConfig, ...], BeforeValidator(_listed)] = ()
    consistency: ConsistencyConfig | None = None
    sources: tuple[str, ...] = ()
    held_out_sources: tuple[str, ...] | None = None
    fold: PatientFold = PatientFold()
    max_text_tokens: int = Field(default=64, gt=0)
    prompt_dropout: float = Field(default=0.1, ge=0, lt=1)
    token_noise: float = Field(default=0.0, ge=0, lt=1)
    repeat_threshold: float = Field(default=0.0, ge=0, le=1)
    z_loss_weight: float = Field(default=1e-5, ge=0)
    steps: int = Field(gt=0)
    batch_size: int = Field(default=16, gt=0)
    accumulation: int = Field(default=1, gt=0)
    global_batch: int | None = Field(default=None, gt=0)
    learning_rate: float = Field(default=2e-5, gt=0)
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_steps: int = Field(default=100, ge=0)
    weight_decay: float = Field(default=0.05, ge=0)
    betas: tuple[float, float] = (0.9, 0.95)
    max_norm: float = Field(default=4.0, gt=0)
    gradient_checkpointing: bool = False
    compile: bool = False
    lora: LoraSettings | None = None
    seed: int = 0
    log_every: int = Field(default=20, gt=0)
    evaluate_every: int = Field(default=200, gt=0)
    checkpoint_every: int = Field(default=200, gt=0)
    samples: SampleGridConfig | None = None
    device: Device = "auto"
    bf16: bool = True
    sharding: Literal["none", "fsdp2"] = "none"
    process_timeout_s: int = Field(default=60, gt=0)
