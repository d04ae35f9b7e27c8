"""What a reader sees of the privacy audit: lines of text that name no image, and a private page of suspected copies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from arra_med.imaging.view import as_picture
from arra_med.reporting.html import HtmlReport

FLAGGED_FILE = "flagged_SENSITIVE.html"
MAX_PAIRS = 60

_SIGNALS = {"likelihood": "likelihood", "report_gain": "gain by the report"}
_PICTURE_PX = 256
_BANNER = (
    "Sensitive: shows images of patients. For the eyes of those who may see the training data; do not send, publish or "
    "copy it. Research use only."
)


@dataclass(frozen=True)
class FlaggedPair:
    """A drawn image beside the training image that it resembles most.

    Attributes:
        drawn: uint8 (C, S, S), synthetic.
        training: uint8 (C, S, S), a patient's.
        words: What to call the pair, without any identifier.
        similarity: SSIM after registration.
    """

    drawn: np.ndarray
    training: np.ndarray
    words: str
    similarity: float


@dataclass(frozen=True)
class FlaggedImages:
    """The suspected copies of one arm.

    Attributes:
        threshold: SSIM above which an image counts as a copy.
        pairs: In any order.
    """

    threshold: float
    pairs: Sequence[FlaggedPair]


def write_flagged_page(path: Path, arms: Mapping[str, FlaggedImages]) -> None:
    """Writes a page for the user's own eyes, readable by nobody else (mode 0600).

    A share of flagged images is a number of a table; whether they are copies is for somebody who looks.

    Args:
        path: The HTML file.
        arms: By name; the `MAX_PAIRS` most similar of each are shown.
    """
    report = HtmlReport(
        "Suspected copies of training images",
        banner=_BANNER,
        subtitle="Drawn images that resemble a training image more than real images of other patients do.",
    )
    for arm, flagged in arms.items():
        section = report.section(arm)
        shown = sorted(flagged.pairs, key=lambda pair: -pair.similarity)[:MAX_PAIRS]
        section.text(
            f"{len(flagged.pairs)} images lie above SSIM {flagged.threshold:.3f} after registration; {len(shown)} are "
            "shown, the most similar first, each beside the training image."
        )
        for number, pair in enumerate(shown, start=1):
            section.pictures(
                [
                    (as_picture(pair.drawn), f"{number}: synthetic, SSIM {pair.similarity:.3f}; {pair.words}"),
                    (as_picture(pair.training), f"{number}: training image of a patient"),
                ],
                max_side_px=_PICTURE_PX,
            )
    report.write(path, mode=0o600)


def privacy_table(told: Mapping[str, Any]) -> list[str]:
    """Returns the lines that a reader needs first.

    Args:
        told: What `audit_privacy` returned.
    """
    lines = []
    for arm, part in told["arms"].items():
        threshold, alarms, found = part["threshold"], part["false_alarms"]["reported"], part["memorisation"]
        lines.append(
            f"{arm} ({part['name']}): an image is a copy above SSIM {threshold['similarity']:.3f}; held-out images of other "
            f"patients above it: {_rate(alarms)}"
        )
        if found is None:
            lines.append("  no training image has a report of its own: nothing was attacked")
            continue
        lines.append(
            f"  unique reports that drew their own image: {_rate(found['rows_with_own_copy'])}; any training image: "
            f"{_rate(found['rows_with_any_copy'])} ({found['num_seeds']} images each, by chance up to "
            f"{found['row_false_alarm_rate']:.1%})"
        )
    membership = told["membership"]
    for arm, attacks in membership["arms"].items():
        for signal, attack in attacks.items():
            lines.append(
                f"{arm}: members of {membership['source']} by {_SIGNALS[signal]}: AUROC {_interval(attack['auroc'])}, true "
                f"positives at 1% false positives {_interval(attack['true_positive_rate'])} "
                f"({attack['num_members']} members, {attack['num_others']} others)"
            )
    for arm, differences in membership["minus_baseline"].items():
        for signal, difference in differences.items():
            lines.append(
                f"{arm} minus baseline by {_SIGNALS[signal]}: AUROC {_interval(difference['auroc'], sign=True)}, true "
                f"positives {_interval(difference['true_positive_rate'], sign=True)}"
            )
    lines.append(f"without any model, by how common the tokens are: AUROC {_interval(membership['without_a_model'])}")
    return lines


def _rate(rate: Mapping[str, Any]) -> str:
    low, high = rate["interval"]
    return f"{rate['count']} of {rate['total']} [{low:.1%}, {high:.1%}]"


def _interval(interval: Mapping[str, Any], sign: bool = False) -> str:
    form = "+.3f" if sign else ".3f"
    return f"{interval['estimate']:{form}} [{interval['low']:{form}}, {interval['high']:{form}}]"
