"""Measures each kernel of the evidence beside its reference: the difference of values, and the ratio of their times.

    OMP_NUM_THREADS=1 python benchmarks/metrics.py --quick
    OMP_NUM_THREADS=1 python benchmarks/metrics.py --rounds 9 --images 1000 --width 1280

Features are made here: correlated Gaussians, the generated ones shifted and stretched. References: scipy's matrix root in
float64, plain kernels over whole matrices, scikit-learn's neighbours and PCA, torch-fidelity's functions (float32). Both
sides run in turn in one process, and their processor time is taken; a ratio is that of one round, and below 1 ours is
faster. FD-infinity and the intervals have no program to compare with: their error against the known truth is printed.
"""

import arra_med  # noqa: F401 - first: lets torchvision be imported beside a CPU-only torch

# isort: split
import argparse
import json
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import scipy
import torch
import torch_fidelity
from scipy import linalg, stats
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score
from sklearn.metrics.pairwise import pairwise_distances, polynomial_kernel, rbf_kernel
from sklearn.preprocessing import normalize
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric

from arra_med.evaluate.distances import cmmd, density_coverage, kernel_distance, precision_recall
from arra_med.evaluate.frechet import FeatureProjection, frechet_distance, frechet_infinity
from arra_med.evaluate.intervals import auroc_interval, reduction_interval
from arra_med.evaluate.resampling import hierarchical_interval, jackknife_interval

NUM_TRAINING = 1500
SPREAD = 0.1  # of a log distance between seeds, in the simulations


@dataclass(frozen=True)
class Case:
    """One kernel and its reference, both without arguments and with a float as their value."""

    kernel: str
    reference: str
    ours: Callable[[], float]
    theirs: Callable[[], float]


def main() -> None:
    """Prints the tables and, last, one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=400, help="on each side")
    parser.add_argument("--width", type=int, default=1280, help="of the features")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="200 images of width 96, 3 rounds, fewer simulations")
    options = parser.parse_args()
    num, width, rounds = (200, 96, 3) if options.quick else (options.images, options.width, options.rounds)
    torch.set_num_threads(1)
    real, generated, training = made_features(num, width)
    print(f"{num} images on each side, width {width}, {rounds} rounds, processor time of one thread\n")
    print("| kernel | reference | value | difference | time, ms | ours / reference (lowest to highest) |")
    print("| --- | --- | --- | --- | --- | --- |")
    rows = [measured(case, rounds) for case in cases(real, generated, training)]
    simulations = 100 if options.quick else 400
    truth = {**coverage(simulations), **infinity(20 if options.quick else 60)}
    print("\n| simulation with a known truth | value |\n| --- | --- |")
    for name, value in truth.items():
        print(f"| {name} | {value:.4g} |")
    versions = {"numpy": np.__version__, "scipy": scipy.__version__, "torch": torch.__version__}
    versions["torch_fidelity"] = torch_fidelity.__version__
    settings = {"num_images": num, "width": width, "rounds": rounds, "machine": platform.machine()}
    print("\n" + json.dumps({**settings, "versions": versions, "kernels": rows, "simulations": truth}))


def made_features(num: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns real, generated and training features, float32 as encoders give them, with a spectrum that falls off."""
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(width, width)) / np.sqrt(width) * np.geomspace(1, 0.05, width)[:, None]

    def drawn(count: int, stretch: float = 1.0, shift: float = 0.0) -> np.ndarray:
        return (rng.normal(size=(count, width)) @ mixing * stretch + shift + 0.5).astype(np.float32)

    return drawn(num), drawn(num, 1.1, 0.05), drawn(NUM_TRAINING)


def cases(real: np.ndarray, generated: np.ndarray, training: np.ndarray) -> list[Case]:
    """Pairs each kernel with its references."""
    tensors = torch.from_numpy(generated), torch.from_numpy(real)  # torch-fidelity takes the generated ones first
    wide = real.astype(np.float64), generated.astype(np.float64)
    projection = FeatureProjection.fit(training)
    components = PCA(projection.num_dims, svd_solver="full").fit(training.astype(np.float64))
    projected = projection.apply(real), projection.apply(generated)
    positive = np.arange(len(real)) % 4 == 0
    scores = wide[0][:, 0] + 0.3 * positive

    def neighbours(name: str) -> Callable[[], float]:
        return lambda: float(reference_neighbours(*wide)[name])

    return [
        Case(
            "Fréchet", "scipy sqrtm, float64", partial(frechet_distance, real, generated), lambda: sqrtm_distance(*wide)
        ),
        Case("Fréchet", "torch-fidelity", partial(frechet_distance, real, generated), lambda: library_fid(*tensors)),
        Case(
            "Fréchet, projected",
            "scikit-learn PCA + sqrtm",
            lambda: frechet_distance(projection.apply(real), projection.apply(generated)),
            lambda: sqrtm_distance(components.transform(wide[0]), components.transform(wide[1])),
        ),
        Case(
            "Fréchet, projected",
            "scipy sqrtm",
            lambda: frechet_distance(*projected),
            lambda: sqrtm_distance(*projected),
        ),
        Case(
            "KID", "scikit-learn kernel, float64", partial(kernel_distance, real, generated), lambda: plain_kid(*wide)
        ),
        Case("KID", "torch-fidelity", partial(kernel_distance, real, generated), lambda: library_kid(*tensors)),
        Case("CMMD", "scikit-learn kernel, float64", partial(cmmd, real, generated), lambda: plain_cmmd(*wide)),
        Case(
            "precision",
            "torch-fidelity",
            lambda: precision_recall(real, generated).precision,
            lambda: library_prc(*tensors, "precision"),
        ),
        Case(
            "recall",
            "torch-fidelity",
            lambda: precision_recall(real, generated).recall,
            lambda: library_prc(*tensors, "recall"),
        ),
        Case("density", "scikit-learn", lambda: density_coverage(real, generated).density, neighbours("density")),
        Case("coverage", "scikit-learn", lambda: density_coverage(real, generated).coverage, neighbours("coverage")),
        Case(
            "AUROC (with its interval)",
            "scikit-learn (without)",
            lambda: auroc_interval(scores, positive).estimate,
            lambda: float(roc_auc_score(positive, scores)),
        ),
    ]


def measured(case: Case, rounds: int) -> dict[str, float | str]:
    """Runs both sides in turn, prints a row and returns it."""
    ours, theirs = [], []
    value, reference = case.ours(), case.theirs()  # unmeasured: first calls import and allocate
    for _ in range(rounds):
        for run, seconds in ((case.ours, ours), (case.theirs, theirs)):
            start = time.process_time()
            run()
            seconds.append(time.process_time() - start)
    ratios = np.asarray(ours) / np.asarray(theirs)
    print(
        f"| {case.kernel} | {case.reference} | {value:.6g} | {value - reference:+.1e} | {np.median(ours) * 1e3:.1f} | "
        f"{np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f}) |",
        flush=True,
    )
    return {
        "kernel": case.kernel,
        "reference": case.reference,
        "value": value,
        "difference": value - reference,
        "time_ms": float(np.median(ours) * 1e3),
        "time_ratio": float(np.median(ratios)),
        "time_ratio_low": float(ratios.min()),
        "time_ratio_high": float(ratios.max()),
    }


def sqrtm_distance(real: np.ndarray, generated: np.ndarray) -> float:
    """The textbook Fréchet distance."""
    first, second = np.cov(real, rowvar=False), np.cov(generated, rowvar=False)
    root = linalg.sqrtm(first @ second).real
    return float(((real.mean(0) - generated.mean(0)) ** 2).sum() + np.trace(first + second - 2 * root))


def library_fid(generated: torch.Tensor, real: torch.Tensor) -> float:
    """FID by torch-fidelity."""
    statistics = fid_features_to_statistics(generated), fid_features_to_statistics(real)
    return float(fid_statistics_to_metric(*statistics, False)[torch_fidelity.KEY_METRIC_FID])


def library_kid(generated: torch.Tensor, real: torch.Tensor) -> float:
    """KID by torch-fidelity, one subset of all images."""
    settings = {"kid_subsets": 1, "kid_subset_size": len(real), "verbose": False}
    return float(kid_features_to_metric(generated, real, **settings)[torch_fidelity.KEY_METRIC_KID_MEAN])


def library_prc(generated: torch.Tensor, real: torch.Tensor, name: str) -> float:
    """Precision or recall by torch-fidelity."""
    return float(prc_features_to_metric(generated, real, verbose=False)[name])


def plain_kid(real: np.ndarray, generated: np.ndarray) -> float:
    """KID by whole kernel matrices."""
    within = [polynomial_kernel(side, degree=3, coef0=1) for side in (real, generated)]
    means = [(matrix.sum() - np.trace(matrix)) / (len(matrix) * (len(matrix) - 1)) for matrix in within]
    return float(sum(means) - 2 * polynomial_kernel(real, generated, degree=3, coef0=1).mean())


def plain_cmmd(real: np.ndarray, generated: np.ndarray) -> float:
    """CMMD by whole kernel matrices."""
    first, second = normalize(real), normalize(generated)
    kernel = partial(rbf_kernel, gamma=1 / 200)
    return float(1000 * (kernel(first).mean() + kernel(second).mean() - 2 * kernel(first, second).mean()))


def reference_neighbours(real: np.ndarray, generated: np.ndarray, k: int = 5) -> dict[str, float]:
    """Density and coverage by whole distance matrices."""
    radii = np.sort(pairwise_distances(real), axis=1)[:, k]
    held = pairwise_distances(real, generated) < radii[:, None]
    return {"density": float(held.sum(axis=0).mean() / k), "coverage": float(held.any(axis=1).mean())}


def coverage(simulations: int) -> dict[str, float]:
    """How often 95% intervals hold the truth, on made data; five seeds, 60 patients."""
    rng = np.random.default_rng(1)
    truth = float(stats.norm.cdf(1 / np.sqrt(2)))
    patients = [f"p{number}" for number in range(60)]
    held = {"t over 5 seeds": 0, "hierarchical, 5 seeds and 60 patients": 0, "jackknife, 60 patients": 0, "AUROC": 0}
    for trial in range(simulations):
        baseline, noise = np.exp(rng.normal(0, SPREAD, 5)), rng.normal(0, SPREAD, 5)
        reduction = reduction_interval(baseline, baseline * np.exp(noise))
        cells = noise[:, None] + rng.normal(0, SPREAD * 5, 60) + rng.normal(0, SPREAD, (5, 60))
        both = hierarchical_interval(
            lambda s, rows, c=cells: float(c[s, rows].mean()), 5, patients, num_replicates=60, seed=trial
        )
        one = jackknife_interval(lambda rows, c=cells: float(c[0, rows].mean()) - noise[0], patients, seed=trial)  # noqa: B023 - called at once
        positive = np.arange(120) < 40
        area = auroc_interval(rng.normal(size=120) + positive, positive)
        held["t over 5 seeds"] += reduction.low <= 0 <= reduction.high
        held["hierarchical, 5 seeds and 60 patients"] += both.low <= 0 <= both.high
        held["jackknife, 60 patients"] += one.low <= 0 <= one.high
        held["AUROC"] += area.low <= truth <= area.high
    return {f"95% interval holds the truth: {name}": count / simulations for name, count in held.items()}


def infinity(repeats: int) -> dict[str, float]:
    """Mean and standard deviation of the error of a distance and of its extrapolation; 16 dimensions, truth 4."""
    truth, errors = 4.0, []
    for seed in range(repeats):
        rng = np.random.default_rng(seed)
        line = frechet_infinity(rng.normal(size=(200, 16)), rng.normal(size=(200, 16)) + 0.5, seed=seed)
        errors.append((line.distances[-1] - truth, line.value - truth))
    means, spreads = np.mean(errors, axis=0), np.std(errors, axis=0, ddof=1)
    names = ("Fréchet at 200 images", "FD-infinity (an extrapolation)")
    return {
        f"{what} of {name}, truth {truth:g}": float(values[index])
        for index, name in enumerate(names)
        for what, values in (("mean error", means), ("spread", spreads))
    }


if __name__ == "__main__":
    main()
