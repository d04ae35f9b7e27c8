"""`arra-med train`: corpus (and teacher features) -> model bundle, as direct fine-tuning or as ARRA."""

import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from arra_med.config import dump_config, resolve_device
from arra_med.corpus.collator import Collator
from arra_med.corpus.dataset import TrainingDataset
from arra_med.corpus.features import TeacherFeature, read_features
from arra_med.corpus.folds import trains
from arra_med.corpus.stream import SequenceStream
from arra_med.corpus.tokenize import Corpus, count_labels, folder_sha256
from arra_med.errors import ConfigError, CorpusError
from arra_med.models.bundle import IMAGE_TOKENIZER_FOLDER, BundleInfo, ModelBundle, read_bundle_info
from arra_med.models.card import model_card
from arra_med.models.start import BundleStart, Start, build_start
from arra_med.records.study import StudyRecord
from arra_med.records.wording import bank_sentences
from arra_med.runs import sha256_json, versions, write_json
from arra_med.tokens.protocol import ImageTokenizer, load_image_tokenizer
from arra_med.training.alignment import TeacherShape, decoder_blocks
from arra_med.training.allocator import keep_freed_memory
from arra_med.training.blocks import compile_blocks, enable_gradient_checkpointing
from arra_med.training.lora import add_lora
from arra_med.training.processes import (
    Meeting,
    accumulation_for,
    explained_loss_of_a_process,
    is_first_process,
    num_processes,
)
from arra_med.training.samples import SampleGrid
from arra_med.training.settings import TrainConfig
from arra_med.training.sharding import (
    check_sharding,
    filled,
    fsdp2_settings,
    set_units_and_precision,
    skeleton,
    whole_weights,
)
from arra_med.training.task import TrainingTask
from arra_med.training.trainer import TaskTrainer, check_global_batch, last_complete_checkpoint


def train(config: TrainConfig, out: Path, resume: bool = True) -> Path:
    """Trains a bundle; under `torchrun` every process calls this, and the first one writes.

    Args:
        config: The settings; saved to `out/config.yaml` before the first step.
        out: Receives `bundle/`, `log.json`, checkpoints, TensorBoard logs and sample grids.
        resume: Go on from the newest complete checkpoint in `out`.

    Returns:
        Folder of the bundle.

    Raises:
        CorpusError: If corpus, tokenizer and features do not belong together.
        BundleError: If the start cannot be opened or does not fit.
        ConfigError: If the processes cannot share a step equally, or sharding is not possible here.
        TrainingError: If the loss is not finite or another process is lost; the last complete checkpoint is kept. If the
            checkpoint in `out` is of another model or another number of sequences a step.
    """
    arguments, meeting = _arguments(config, out), Meeting(config.process_timeout_s)
    corpus = Corpus.open(config.corpus)
    if folder_sha256(config.image_tokenizer) != corpus.info.tokenizer_sha256:
        raise CorpusError(
            f"{config.image_tokenizer}: is not the tokenizer that made {config.corpus}; tokenize the studies with it"
        )
    if isinstance(config.start, BundleStart):
        _check_bundle(config.start.path, config.corpus, corpus)
    image_tokenizer = load_image_tokenizer(config.image_tokenizer)
    teachers = [TeacherFeature(read_features(block.teacher_features), block.feature) for block in config.alignment]
    if config.expected is not None:
        config.expected.require(corpus.info, teachers[0].width if len(teachers) == 1 else None)
    start = build_start(
        config.start,
        grid=corpus.grid,
        codebook_size=corpus.info.codebook_size,
        max_text_tokens=config.max_text_tokens,
        sentences=_training_sentences(corpus, config),
        rep=any(block.target == "rep" for block in config.alignment),
    )
    empty = skeleton(start.model) if config.sharding == "fsdp2" else None
    adapter = add_lora(start.model, start.layout.vocabulary, config.lora) if config.lora else None
    if is_first_process():
        dump_config(config, out / "config.yaml")
    with explained_loss_of_a_process(out / "checkpoints", config.process_timeout_s):
        meeting.wait(patient=True)  # some load slower than others
        trainer = _trainer(config, arguments, meeting, corpus, start, teachers, image_tokenizer)
        if config.samples is not None and is_first_process():
            trainer.add_callback(
                SampleGrid(config.samples, start, image_tokenizer, corpus.info.spec.modality, out / "samples")
            )
        found = last_complete_checkpoint(out / "checkpoints") if resume and is_first_process() else None
        checkpoint = meeting.agree(found)
        if checkpoint is not None:
            check_global_batch(checkpoint, trainer.global_batch)
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        held_out = trainer.evaluate()
        language_model = trainer.model.language_model
        num_trained = sum(p.numel() for p in language_model.parameters() if p.requires_grad)
        if adapter is not None:
            language_model = adapter.merge_and_unload()
        if empty is not None:
            weights = whole_weights(language_model, keep=is_first_process())
            language_model = filled(empty, weights) if is_first_process() else None
        if is_first_process():
            write_json(out / "log.json", trainer.state.log_history)
            info = _bundle_info(config, corpus, start, teachers, held_out, trainer, language_model, num_trained)
            ModelBundle.save(
                out / "bundle",
                model=language_model,
                text_tokenizer=start.text_tokenizer,
                image_tokenizer=image_tokenizer,
                info=info,
                card=model_card(info),
            )
        meeting.wait()
    return out / "bundle"


def _check_bundle(bundle: Path, folder: Path, corpus: Corpus) -> None:
    """Checks that a corpus holds the tokens and the size of views that a bundle was trained on."""
    own, size_px = bundle / IMAGE_TOKENIZER_FOLDER, read_bundle_info(bundle).canonical_view.size_px
    if size_px != corpus.info.spec.size_px:
        raise CorpusError(
            f"{folder}: its views have {corpus.info.spec.size_px} px a side, {bundle} draws {size_px}: ingest the studies "
            f"with --size {size_px}"
        )
    if folder_sha256(own) != corpus.info.tokenizer_sha256:
        raise CorpusError(
            f"{folder}: was not made with the image tokenizer of {bundle}, whose tokens would mean something else: "
            f"tokenize the studies with {own}"
        )


def _trainer(
    config: TrainConfig,
    arguments: TrainingArguments,
    meeting: Meeting,
    corpus: Corpus,
    start: Start,
    teachers: Sequence[TeacherFeature],
    image_tokenizer: ImageTokenizer,
) -> TaskTrainer:
    if config.gradient_checkpointing:
        enable_gradient_checkpointing(start.model)
    if config.compile:
        compile_blocks(start.model)
    if config.sharding == "fsdp2":
        set_units_and_precision(arguments, type(decoder_blocks(start.model)[0]))
    task = TrainingTask(
        start.model,
        start.layout,
        z_loss_weight=config.z_loss_weight,
        alignments=config.alignment,
        teachers=[TeacherShape(teacher.width, teacher.grid) for teacher in teachers],
        consistency=config.consistency,
        codebook=image_tokenizer.codebook if config.consistency is not None else None,
    )
    shared: dict[str, Any] = {"layout": start.layout, "text_tokenizer": start.text_tokenizer, "seed": config.seed}
    held_out_sources = config.sources if config.held_out_sources is None else config.held_out_sources
    training = TrainingDataset(
        corpus,
        "train",
        prompt_dropout=config.prompt_dropout,
        token_noise=config.token_noise,
        repeat_threshold=config.repeat_threshold,
        teachers=teachers,
        sources=config.sources,
        fold=config.fold,
        **shared,
    )
    held_out = TrainingDataset(corpus, "validation", evaluation=True, sources=held_out_sources, **shared)
    batch_of_all = config.batch_size * arguments.gradient_accumulation_steps * arguments.world_size
    return TaskTrainer(
        max_norm=config.max_norm,
        meeting=meeting,
        model=task,
        args=arguments,
        train_dataset=SequenceStream(training, config.steps * batch_of_all),
        eval_dataset=held_out,
        data_collator=Collator(start.layout),
    )


def _arguments(config: TrainConfig, out: Path) -> TrainingArguments:
    device, processes = resolve_device(config.device), num_processes()
    if device == "cpu":
        keep_freed_memory()
    accumulation = accumulation_for(config.batch_size, config.accumulation, config.global_batch, processes)
    sharding: dict[str, Any] = {}
    if config.sharding == "fsdp2":
        check_sharding(device, processes)
        if config.samples is not None:
            raise ConfigError(
                "samples cannot be drawn from weights that are cut over processes: set samples to null, and draw from the "
                "bundle afterwards"
            )
        if config.lora is not None:
            raise ConfigError("lora trains so little that nothing needs to be cut over processes: set sharding to none")
        sharding = fsdp2_settings()
    return TrainingArguments(
        **sharding,
        output_dir=str(out / "checkpoints"),
        max_steps=config.steps,
        per_device_train_batch_size=config.batch_size,
        per_device_eval_batch_size=config.batch_size,
        gradient_accumulation_steps=accumulation,
        ddp_timeout=config.process_timeout_s,
        learning_rate=config.learning_rate,
        lr_scheduler_type="cosine" if config.schedule == "cosine" else "constant_with_warmup",
        warmup_steps=config.warmup_steps,
        weight_decay=config.weight_decay,
        adam_beta1=config.betas[0],
        adam_beta2=config.betas[1],
        max_grad_norm=0.0,  # the trainer clips the language model and the projector apart
        bf16=config.bf16,
        use_cpu=device == "cpu",
        seed=config.seed,
        data_seed=config.seed,
        logging_steps=config.log_every,
        eval_strategy="steps",
        eval_steps=config.evaluate_every,
        save_strategy="steps",
        save_steps=config.checkpoint_every,
        save_total_limit=2,
        report_to=["tensorboard"],
        remove_unused_columns=False,
        dataloader_pin_memory=device == "cuda",
        label_names=["labels"],
    )


def _training_sentences(corpus: Corpus, config: TrainConfig) -> list[str]:
    """Text for a compact BPE: the bank, and the reports of the training split (their words, not their authors)."""
    return bank_sentences(corpus.info.spec.modality) + [record.report for record in _training_records(corpus, config)]


def _training_records(corpus: Corpus, config: TrainConfig) -> list[StudyRecord]:
    return [record for record in corpus.records if trains(record, config.sources, config.fold)]


def _bundle_info(
    config: TrainConfig,
    corpus: Corpus,
    start: Start,
    teachers: Sequence[TeacherFeature],
    held_out: dict[str, float],
    trainer: TaskTrainer,
    language_model: Any,
    num_trained: int,
) -> BundleInfo:
    chosen = _training_records(corpus, config)
    # the settings without the folders: where files lay says nothing and may name a hospital's share
    settings = config.model_dump(mode="json", exclude={"corpus", "image_tokenizer", "samples"})
    settings["start"].pop("path", None)
    for block in settings["alignment"]:
        block.pop("teacher_features")
    training = {
        "settings": settings,
        "settings_sha256": sha256_json(settings),
        "steps": trainer.state.global_step,
        "sequences": config.steps * trainer.global_batch,
        "processes": trainer.args.world_size,
        "num_training_images": len(chosen),
        "parameters": sum(p.numel() for p in language_model.parameters()),
        "trained_parameters": num_trained,
        "study_set_sha256": corpus.info.study_set_sha256,
        "tokenizer_sha256": corpus.info.tokenizer_sha256,
        "views_per_image": corpus.info.num_views,
        "teachers": [{"name": t.file.info.name, "sha256": t.file.info.encoder_sha256} for t in teachers],
        "held_out": held_out,
        "device": f"{trainer.args.device} ({platform.machine()})",
        "torch_threads": torch.get_num_threads(),
        "versions": versions(),
    }
    return BundleInfo(
        name=config.name,
        variant="arra" if config.alignment else "finetuned",
        layout=start.layout,
        canonical_view=corpus.info.spec,
        licence_class=corpus.info.licence_class,
        sources=tuple(source for source in corpus.info.sources if not config.sources or source in config.sources),
        attributions=corpus.info.attributions,
        label_counts=count_labels(chosen).get("train", {}),
        training=training,
    )
