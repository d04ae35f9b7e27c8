"""The privacy audit in a few lines of text; no image is named."""

from collections.abc import Mapping
from typing import Any

_SIGNALS = {"likelihood": "likelihood", "report_gain": "gain by the report"}


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
        lines.append(
            f"  unique reports that drew their own image: {_rate(found['rows_with_own_copy'])}; any training image: "
            f"{_rate(found['rows_with_any_copy'])} ({found['num_seeds']} images each, by chance up to "
            f"{found['row_false_alarm_rate']:.1%})"
        )
    membership = told["membership"]
    for arm in told["arms"]:
        for signal, words in _SIGNALS.items():
            attack = membership[arm][signal]
            lines.append(
                f"{arm}: members of {membership['source']} by {words}: AUROC {_interval(attack['auroc'])}, true positives "
                f"at 1% false positives {_interval(attack['true_positive_rate'])} "
                f"({attack['num_members']} members, {attack['num_others']} others)"
            )
    for signal, difference in membership.get("bundle_minus_baseline", {}).items():
        lines.append(
            f"bundle minus baseline by {_SIGNALS[signal]}: AUROC {_interval(difference['auroc'], sign=True)}, true "
            f"positives {_interval(difference['true_positive_rate'], sign=True)}"
        )
    return lines


def _rate(rate: Mapping[str, Any]) -> str:
    low, high = rate["interval"]
    return f"{rate['count']} of {rate['total']} [{low:.1%}, {high:.1%}]"


def _interval(interval: Mapping[str, Any], sign: bool = False) -> str:
    form = "+.3f" if sign else ".3f"
    return f"{interval['estimate']:{form}} [{interval['low']:{form}}, {interval['high']:{form}}]"
