"""The label-aware contrastive loss of the stand-in CLIP.

Hundreds of captions are made from the same few labels. Plain InfoNCE would push an image away from the captions of all
other images with the very same findings; here they are positives.
"""

import torch
import torch.nn.functional as F

UNKNOWN_LABELS = -1


def matching_pairs(label_ids: torch.Tensor, caption_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Tells which image-caption pairs of a batch belong together, and about which nothing is known.

    Args:
        label_ids: int64 (B,), equal for equal sets of labels, `UNKNOWN_LABELS` where the labels are unknown.
        caption_ids: int64 (B,), equal for equal captions.

    Returns:
        `positives`, bool (B, B): the same labels or the same caption. `comparable`, bool (B, B): positives, and pairs
        of which both sets of labels are known; the others may or may not belong together and are left out of the loss.
    """
    known = label_ids != UNKNOWN_LABELS
    both_known = known[:, None] & known[None]
    same_labels = (label_ids[:, None] == label_ids[None]) & both_known
    positives = same_labels | (caption_ids[:, None] == caption_ids[None])
    return positives, positives | both_known


def label_aware_contrastive_loss(
    logits: torch.Tensor, positives: torch.Tensor, comparable: torch.Tensor
) -> torch.Tensor:
    """Cross-entropy against uniform targets over all positives, images to captions and captions to images.

        L = 1/2 (L_image_to_text + L_text_to_image)
        L_image_to_text = - mean_i 1/|P(i)| sum_{k in P(i)} log( exp(logits_ik) / sum_{j comparable to i} exp(logits_ij) )

    With one positive for each row it is CLIP's loss.

    Args:
        logits: float32 (B, B), images by captions: scaled cosines.
        positives: bool (B, B), at least the diagonal.
        comparable: bool (B, B), with all positives among them.

    Returns:
        A scalar.

    Source: Yang et al., "Unified Contrastive Learning in Image-Text-Label Space", arXiv 2204.03610, equations 1 to 3
        (there the two directions are added, not averaged; it is SupCon, arXiv 2004.11362, over two modalities).
    """
    compared = logits.masked_fill(~comparable, -torch.inf)
    directions = []
    for dim in (1, 0):
        log_shares = F.log_softmax(compared, dim=dim).masked_fill(~positives, 0.0)
        directions.append(-(log_shares.sum(dim=dim) / positives.sum(dim=dim)).mean())
    return torch.stack(directions).mean()
