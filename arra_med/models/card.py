"""The text of MODEL_CARD.md, from what `bundle.json` says and nothing else."""

from arra_med.models.bundle import BundleInfo

_IMAGES = {"cxr": "chest X-ray", "fundus": "fundus photograph", "photo": "photograph"}
_LIMITS = {
    "cxr": (
        "Most training reports are templates over expert or mined labels. The labels name findings only: **side, severity, "
        "extent, devices and the time course are not in them**, so words about these change a picture by chance at most.",
        "Source and disease are confounded: adults without findings come mostly from NIH/RSNA, pneumonia mostly from "
        "children, COVID-19 from other archives. A picture may show an archive's look rather than the disease.",
        "Mined labels (NIH) are wrong for a share of the images.",
    ),
    "fundus": (
        "Keywords come from one challenge (ODIR-5K) and two smaller sets; rare findings have a handful of images.",
        "Lesions smaller than a few pixels at this size (microaneurysms, small haemorrhages, fine drusen) cannot be drawn.",
        "Camera and disease are confounded: a picture may show a camera's look rather than the disease.",
    ),
    "photo": (
        "Trained on photographs of everyday things, to repeat published experiments; it supports no medical claim.",
    ),
}


def model_card(info: BundleInfo) -> str:
    """Returns the card as Markdown."""
    training, held_out = info.training, info.training["held_out"]
    teachers = " and ".join(f"`{teacher['name']}`" for teacher in training["teachers"])
    method = (
        f"ARRA: hidden states aligned during training to the frozen {teachers}; nothing of it is left at inference."
        if teachers
        else "Direct fine-tuning: next-token prediction alone (the baseline of ARRA)."
    )
    size_px = info.canonical_view.size_px
    lines = [
        f"# {info.name}",
        "",
        "**Synthetic images. Research use only, not for clinical decisions.**",
        "",
        f"A causal language model of {training['parameters'] / 1e6:.1f}M parameters that turns a report into a {size_px} x "
        f"{size_px} px {_IMAGES[info.modality]} of "
        f"{info.layout.num_image_tokens} image tokens. {method}",
        "",
        "## Training",
        "",
        f"- {training['num_training_images']:,} images ({training['views_per_image']} views each, small shifts, zooms and "
        f"contrast changes, never a flip), {training['sequences']:,} sequences in {training['steps']:,} steps, seed "
        f"{training['settings']['seed']}, on {training['device']}.",
        f"- Held-out image-token loss (validation split, patients apart): {held_out['eval_image_token_loss']:.4f} nats.",
        "- Settings and hashes of data and tokenizer: `bundle.json`. Rebuild: `make mini` (README).",
        "",
        "## Data and licence",
        "",
        f"Licence class of the weights: **{info.licence_class}**."
        + ("" if info.licence_class == "open" else " Not for commercial use; do not serve to the public."),
        "",
        *(
            f"- `{source}`: {'; '.join(info.attributions.get(source, ())[:3]) or 'see its data card'}"
            for source in info.sources
        ),
        "",
        "Each source has a data card in `data_cards/` with access, licence, counts, biases and citation.",
        "",
        "## Training images for each finding",
        "",
        "| finding | images |",
        "| --- | --- |",
        *(f"| {label} | {count:,} |" for label, count in sorted(info.label_counts.items(), key=lambda item: -item[1])),
        "",
        "## Limits",
        "",
        *(f"- {limit}" for limit in _LIMITS[info.modality]),
        "- A finding with few images above is drawn unreliably; the app says so when a report names one.",
        "- Whether a finding's prompt moves the picture has to be measured (`arra-med evaluate prompt-effect`; the README "
        "gives the figures of the bundled models). Until it is shown, do not expect the finding to be drawn.",
        "- Small images at reduced resolution; they support no diagnosis and no measurement.",
        "- Memorisation of training images had not been audited when this card was written: `arra-med evaluate privacy`.",
        "",
    ]
    return "\n".join(lines)
