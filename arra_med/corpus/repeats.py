"""Repeat factor sampling: images of rare findings come more than once in an epoch.

Gupta, Dollar, Girshick, "LVIS", CVPR 2019, section 4: a finding with share f of the images gets the factor
max(1, sqrt(t / f)), an image the largest factor of its findings. Here a factor ends at `MAX_REPEATS`, so that a finding
with a handful of images is not learnt by heart, and a fraction is rounded at random but the same in every epoch.
"""

import math
import random
from collections import Counter
from collections.abc import Sequence

from arra_med.corpus.views import digest_of_bytes
from arra_med.records.study import StudyRecord
from arra_med.records.wording import canonical_labels

MAX_REPEATS = 6


def repeat_factors(labels: Sequence[Sequence[str]], threshold: float) -> list[float]:
    """Returns how often each image comes in an epoch, from 1 to `MAX_REPEATS`.

    Args:
        labels: Findings of each image; an image without any has factor 1.
        threshold: t, the share of the images below which a finding is rare, in [0, 1].
    """
    counts = Counter(finding for findings in labels for finding in set(findings))
    factors = {finding: math.sqrt(threshold * len(labels) / count) for finding, count in counts.items()}
    return [min(max([1.0, *(factors[finding] for finding in findings)]), MAX_REPEATS) for findings in labels]


def repeated_images(records: Sequence[StudyRecord], images: Sequence[int], threshold: float) -> list[tuple[int, int]]:
    """Returns the examples of an epoch: (image, repeat), where repeat counts from 0 for each image.

    Args:
        records: All records.
        images: Rows of `records` that are trained on.
        threshold: As in `repeat_factors`; 0 gives every image once.
    """
    factors = repeat_factors([canonical_labels(records[image]) for image in images], threshold)
    examples = []
    for image, factor in zip(images, factors, strict=True):
        chance = random.Random(digest_of_bytes(b"repeat", records[image].image_id.encode())).random()
        examples += [(image, repeat) for repeat in range(math.floor(factor + chance))]
    return examples
