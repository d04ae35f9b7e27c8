"""Plants copies of training images and looks for them; counts false alarms on held-out images that nothing was read off.

    python benchmarks/planted_copies.py --studies runs/mini_cxr/studies --bundle arra_med/bundles/mini-cxr

Prints a table, and as the last line the same as JSON. "decoded" copies went through the bundle's image tokenizer, as
everything that a model generates does.
"""

import argparse
import dataclasses
import json
import tempfile
from pathlib import Path

import numpy as np

from arra_med.corpus.parquet import progress_bar
from arra_med.corpus.study_set import StudySet
from arra_med.encoders import load_encoder
from arra_med.evaluate.calibration import held_out_rows
from arra_med.evaluate.copies import CopyFinder, Match, calibrated_threshold, num_calibration_images
from arra_med.evaluate.drawing import reconstruct_images
from arra_med.evaluate.feature_spaces import encoder_space, gradient_space
from arra_med.evaluate.planted import PLANTINGS
from arra_med.evaluate.proportions import Rate
from arra_med.models.bundle import ModelBundle

RATE = 0.01
SEED = 20


def main() -> None:
    """Prints the table and the line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=Path, required=True)
    parser.add_argument("--bundle", type=Path, required=True, help="whose image tokenizer decodes")
    parser.add_argument("--encoder", default="efficientnet_lite0")
    parser.add_argument("--source", help="whose held-out images calibrate; by default the source with most of them")
    parser.add_argument("--copies", type=int, default=100, help="of each kind")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "arra-med-planted-copies")
    options = parser.parse_args()
    studies = StudySet.open(options.studies)
    bundle = ModelBundle.load(options.bundle)
    training = studies.select(split="train")
    rows = held_out_rows(
        studies.records(),
        lambda record: record.split == "train",
        studies.duplicates,
        num_calibration_images(RATE),
        options.source,
    )
    spaces = [encoder_space(load_encoder(options.encoder)), gradient_space()]
    with progress_bar("describing", len(training) * len(spaces), True) as advance:
        features = {
            space.name: space.kept_features(training, options.cache, studies.content_sha256, advance)
            for space in spaces
        }
    finder = CopyFinder(training, spaces, features)

    def matched(views: list[np.ndarray], what: str) -> list[Match]:
        with progress_bar(what, len(views), True) as advance:
            return finder.matches(views, advance)

    def best(chosen: list[int], what: str) -> dict[str, np.ndarray]:
        views = [studies.view(row) for row in chosen]
        decoded = list(reconstruct_images(bundle, np.stack(views))) if views else []
        return {
            kind: np.array([match.similarity for match in matched(shown, f"{what}, {kind}")])
            for kind, shown in (("as they are", views), ("decoded", decoded))
        }

    calibration = best(rows.calibration, "calibration")
    threshold = calibrated_threshold(np.maximum(*calibration.values()), RATE)
    print(
        f"threshold, within {rows.source}: {threshold}; {len(rows.duplicates)} held-out duplicates of training images left out"
    )
    table: dict[str, dict[str, object]] = {}
    for name, chosen in (
        ("held-out, other patients", rows.reported),
        ("held-out, other sources", rows.others),
        ("held-out, listed duplicates", rows.duplicates),
    ):
        for kind, similarities in best(chosen, name).items():
            table[f"{name}, {kind}"] = {
                **dataclasses.asdict(Rate.of(threshold.flags(similarities))),
                "highest": np.sort(similarities)[::-1][:5].round(4).tolist(),
            }
    rng = np.random.default_rng(SEED)
    picked = rng.choice(len(training), size=options.copies, replace=False)
    for name, plant in PLANTINGS.items():
        copies = [plant(training.view(int(row)), rng) for row in picked]
        for kind, shown in ((name, copies), (f"{name}, decoded", list(reconstruct_images(bundle, np.stack(copies))))):
            matches = matched(shown, kind)
            similarities = np.array([match.similarity for match in matches])
            table[kind] = {
                **dataclasses.asdict(Rate.of(threshold.flags(similarities))),
                "right_image": int(sum(match.row == row for match, row in zip(matches, picked, strict=True))),
                "nearest": {
                    space.name: int(sum(m.nearest[space.name] == row for m, row in zip(matches, picked, strict=True)))
                    for space in spaces
                },
                "lowest": np.sort(similarities)[:5].round(4).tolist(),
            }
    print("| images | flagged | of | share | 95% interval |\n| --- | --- | --- | --- | --- |")
    for name, row in table.items():
        low, high = row["interval"]  # type: ignore[misc]
        print(f"| {name} | {row['count']} | {row['total']} | {row['rate']:.3f} | {low:.3f} to {high:.3f} |")
    print(json.dumps({"threshold": dataclasses.asdict(threshold), "rows": table}))


if __name__ == "__main__":
    main()
