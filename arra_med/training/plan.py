"""`arra-med plan`: what a training costs, from its configuration alone; no weights, no images, no GPU.

Operations of a training step count two for each multiplication with an addition: 6 for each parameter of a matrix and
token (2 forward, 4 backward), 6 x tokens^2 x width for the causal half of each block's attention, and the blocks'
forward pass once more where they are computed again; LoRA is counted as if all were trained. Only positions with labels have logits. The forward pass of a
frozen text encoder over its few tokens is not counted.
"""

from arra_med.config import StrictModel
from arra_med.corpus.description import read_description
from arra_med.corpus.expectation import CorpusExpectation
from arra_med.corpus.tokenize import DESCRIPTION_FILE, FORMAT_VERSION, CorpusInfo
from arra_med.errors import ConfigError, CorpusError
from arra_med.models.llamagen_start import LlamaGenStart
from arra_med.models.published_shapes import is_chameleon, meta_language_model
from arra_med.models.start import PretrainedStart
from arra_med.training.alignment import AlignmentConfig
from arra_med.training.gpus import GPUS, GpuName
from arra_med.training.lora import lora_parameters
from arra_med.training.plan_activations import Precision
from arra_med.training.plan_memory import MemoryPlan, ProjectorShape, StepShape, plan_memory
from arra_med.training.plan_shapes import ModelShape, model_shape
from arra_med.training.processes import accumulation_for
from arra_med.training.settings import TrainConfig

DEFAULT_MFU = 0.4
_MARKS_AROUND_TEXT, _END_OF_IMAGE = 2, 1  # bos and boi
_CHAMELEON_MARKS, _LUMINA_MARKS = 3, 5  # bos, end of turn, boi; height and width
_MARKS_AROUND_IMAGE = 2  # boi and eoi
_CODE_CHANNELS = 8  # of a code in the image tokenizer: 4 to 8 with most, and it weighs nothing
_LARGEST_BATCH = 4096


class Plan(StrictModel):
    """What a training costs.

    Attributes:
        name: Of the bundle that the configuration makes.
        model: Counts of the language model.
        projector_parameters: Of ARRA's projector; 0 for fine-tuning.
        trained_parameters: What the optimiser changes.
        tokens_per_sequence: The longest sequence, which memory and operations are counted for.
        image_tokens: Of these.
        sequences: In the whole training, over all processes.
        tokens: In the whole training, at most.
        epochs: Sequences a training image, where the number of images is known.
        gpu: Name of the accelerator.
        num_gpus: How many.
        precision: Way of computing.
        flops_per_sequence: Operations of forward and backward pass.
        recomputed_flops_per_sequence: Operations that gradient checkpointing repeats.
        mfu: Share of the peak that is assumed to be reached over all operations, the repeated ones included.
        hours: Of all GPUs together from first to last step.
        checkpointing: Whether the configuration computes blocks again.
        memory: One process's, as configured.
        memory_without_checkpointing: The same, keeping everything.
        memory_with_checkpointing: The same, computing blocks again.
        largest_batch: Sequences a process that fit, as configured otherwise; None for a CPU.
        gpu_memory_gib: Of the accelerator; None for a CPU.
    """

    name: str
    model: ModelShape
    projector_parameters: int
    trained_parameters: int
    tokens_per_sequence: int
    image_tokens: int
    sequences: int
    tokens: int
    epochs: float | None
    gpu: GpuName
    num_gpus: int
    precision: Precision
    flops_per_sequence: float
    recomputed_flops_per_sequence: float
    mfu: float
    hours: float
    checkpointing: bool
    memory: MemoryPlan
    memory_without_checkpointing: MemoryPlan
    memory_with_checkpointing: MemoryPlan
    largest_batch: int | None
    gpu_memory_gib: float | None


def make_plan(config: TrainConfig, gpu: GpuName = "h100", num_gpus: int = 1, mfu: float = DEFAULT_MFU) -> Plan:
    """Plans a training.

    Args:
        config: The training's configuration.
        gpu: Which accelerator.
        num_gpus: How many; from two on FSDP2 shards over them, and each trains `batch_size` sequences a step.
        mfu: Share of the accelerator's peak that is assumed to be reached, in (0, 1].

    Raises:
        ConfigError: If the model's shape, the grid or the codebook is not known, or the GPUs cannot share
            `global_batch` equally.
        CorpusError: If the corpus is there but damaged, or not the expected one.
        BundleError: If a bundle to start from is missing, or a sequence does not fit into the model.
    """
    expected = _expectation(config)
    if expected.grid is None or expected.codebook_size is None:
        raise ConfigError(
            "neither the corpus nor the configuration tells the image tokens: run arra-med tokenize first, or give "
            "--set expected.grid=[32,32] --set expected.codebook_size=8192"
        )
    image_tokens = expected.grid[0] * expected.grid[1]
    accumulation = accumulation_for(config.batch_size, config.accumulation, config.global_batch, num_gpus)
    marks, row_ends = _marks(config, expected.grid[0])
    num_predicted = image_tokens + row_ends + _END_OF_IMAGE
    num_tokens = _text_tokens(config) + marks + num_predicted
    language_model = meta_language_model(config.start, expected.grid, expected.codebook_size, num_tokens)
    model, adapter = model_shape(language_model), 0
    if config.lora is not None:
        adapter = lora_parameters(language_model, config.lora, expected.codebook_size + _MARKS_AROUND_IMAGE)
        model = model.model_copy(update={"frozen_parameters": model.parameters})
    projectors = _projectors(config, model, expected.teacher_width, image_tokens)
    step = StepShape(
        model=model,
        projectors=projectors,
        adapter_parameters=adapter,
        batch_size=config.batch_size,
        num_tokens=num_tokens,
        num_predicted=num_predicted,
        accumulation=accumulation,
        precision=_precision(config, gpu, num_gpus),
        checkpointing=config.gradient_checkpointing,
        num_gpus=num_gpus,
        on_cpu=gpu == "cpu",
    )
    sequences = config.steps * config.batch_size * accumulation * num_gpus
    flops, repeated = step_flops(step)
    seconds = (flops + repeated) * sequences / (mfu * GPUS[gpu].peak_tflops * 1e12 * num_gpus)
    return Plan(
        name=config.name,
        model=model,
        projector_parameters=sum(projector.parameters for projector in projectors),
        trained_parameters=step.parameters,
        tokens_per_sequence=num_tokens,
        image_tokens=image_tokens,
        sequences=sequences,
        tokens=sequences * num_tokens,
        epochs=sequences / expected.num_images if expected.num_images else None,
        gpu=gpu,
        num_gpus=num_gpus,
        precision=step.precision,
        flops_per_sequence=flops,
        recomputed_flops_per_sequence=repeated,
        mfu=mfu,
        hours=seconds / 3600,
        checkpointing=step.checkpointing,
        memory=plan_memory(step),
        memory_without_checkpointing=plan_memory(step.model_copy(update={"checkpointing": False})),
        memory_with_checkpointing=plan_memory(step.model_copy(update={"checkpointing": True})),
        largest_batch=largest_batch(step, GPUS[gpu].memory_gib),
        gpu_memory_gib=GPUS[gpu].memory_gib,
    )


def step_flops(step: StepShape) -> tuple[float, float]:
    """Operations of one sequence: of its forward and backward pass, and those that checkpointing repeats."""
    model, tokens = step.model, step.num_tokens
    attention = 2 * tokens**2 * model.block.query_width  # scores and weighted values, the causal half of both
    blocks = model.num_blocks * (2 * model.block_matrix_parameters * tokens + attention)
    head = 2 * model.head_parameters * step.num_predicted
    projectors = sum(2 * projector.parameters * projector.num_positions for projector in step.projectors)
    return float(3 * (blocks + head + projectors)), float(blocks if step.checkpointing else 0)


def largest_batch(step: StepShape, memory_gib: float | None) -> int | None:
    """Sequences a process that fit into a memory; 0 if not even one does, None without a limit."""
    if memory_gib is None:
        return None
    fits, too_many = 0, _LARGEST_BATCH + 1
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        if plan_memory(step.model_copy(update={"batch_size": middle})).total <= memory_gib * 2**30:
            fits = middle
        else:
            too_many = middle
    return fits


def _text_tokens(config: TrainConfig) -> int:
    if isinstance(config.start, LlamaGenStart) and not config.start.text_encoder:
        return 1  # the class
    return config.max_text_tokens


def _marks(config: TrainConfig, num_rows: int) -> tuple[int, int]:
    """Returns the tokens of a prompt that are no text, and the marks at the ends of rows of image tokens."""
    if isinstance(config.start, LlamaGenStart):
        return 0, 0
    is_rep = any(block.target == "rep" for block in config.alignment)
    if not isinstance(config.start, PretrainedStart) or not is_chameleon(config.start):
        return _MARKS_AROUND_TEXT + is_rep, 0
    if config.start.image_layout == "plain":
        return _CHAMELEON_MARKS + is_rep, 0
    return _LUMINA_MARKS + is_rep, num_rows


def _expectation(config: TrainConfig) -> CorpusExpectation:
    """What the corpus says where it is there, else what the configuration expects of it."""
    expected = config.expected or CorpusExpectation()
    path = config.corpus / DESCRIPTION_FILE
    if not path.is_file():
        return expected
    info = read_description(
        path,
        CorpusInfo,
        format_versions=(FORMAT_VERSION,),
        what="corpus",
        command="arra-med tokenize",
        error=CorpusError,
    )
    expected.require(info, None)
    there = {"grid": info.grid, "codebook_size": info.codebook_size, "num_images": info.split_counts.get("train")}
    return expected.model_copy(update=there)


def _projectors(
    config: TrainConfig, model: ModelShape, teacher_width: int | None, image_tokens: int
) -> tuple[ProjectorShape, ...]:
    aligned = [
        ProjectorShape(
            hidden_size=model.block.hidden_size,
            width=block.projector_width,
            teacher_width=_teacher_width(block, teacher_width if len(config.alignment) == 1 else None),
            num_positions=1 if block.target == "rep" else image_tokens,
            depth=block.projector_depth,
        )
        for block in config.alignment
        for _ in block.layers
    ]
    if config.consistency is not None:
        consistent = ProjectorShape(
            hidden_size=model.block.hidden_size,
            width=config.consistency.projector_width,
            teacher_width=_CODE_CHANNELS,
            num_positions=image_tokens,
        )
        aligned += [consistent, consistent]
    return tuple(aligned)


def _teacher_width(block: AlignmentConfig, expected: int | None) -> int:
    if expected is not None:
        return expected
    from arra_med.corpus.features import read_features

    if not block.teacher_features.is_file():
        raise ConfigError(
            "neither the teacher's features nor the configuration tell the width of a feature: run arra-med features "
            "first, or, for one teacher, give --set expected.teacher_width=512"
        )
    return read_features(block.teacher_features).width(block.feature)


def _precision(config: TrainConfig, gpu: GpuName, num_gpus: int) -> Precision:
    if not config.bf16:
        return "fp32"
    return "fsdp" if num_gpus > 1 and gpu != "cpu" else "autocast"
