"""Nearest training images: an exact search that never holds the table of all distances."""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from arra_med.errors import EvaluationError
from arra_med.evaluate.feature_spaces import Query

_QUERIES_AT_ONCE, _ROWS_AT_ONCE = 256, 8192  # 8 MiB of similarities
_MIN_SPREAD = 1e-6


class Neighbours(NamedTuple):
    """The nearest rows, the nearest first.

    Attributes:
        distances: float32 (k,), 1 - similarity, in [0, 2].
        rows: int64 (k,).
    """

    distances: np.ndarray
    rows: np.ndarray


class NearestIndex:
    """Exact nearest neighbours by the cosine of standardised features.

    Images of one kind resemble one another: what all of them share is taken away first (mean 0 and standard deviation 1
    of every feature over the index), so that what is left tells them apart.

    Args:
        features: float32 (n, D), one row for each image.

    Raises:
        EvaluationError: If there are fewer than two rows.
    """

    def __init__(self, features: np.ndarray) -> None:
        if features.ndim != 2 or len(features) < 2:
            raise EvaluationError(
                f"an index needs features (n, D) of at least 2 images, found shape {features.shape}: give more images"
            )
        rows = torch.from_numpy(np.ascontiguousarray(features)).float()
        self._mean, self._spread = rows.mean(dim=0), rows.std(dim=0).clamp_min(_MIN_SPREAD)
        self._rows = (rows - self._mean) / self._spread

    def __len__(self) -> int:
        return len(self._rows)

    def search(self, query: Query, num_neighbours: int) -> Neighbours:
        """Finds the rows that are nearest in any of the query's positions, each row once.

        Args:
            query: Descriptions of one image.
            num_neighbours: k; fewer come back where the index is smaller.

        Raises:
            EvaluationError: If the width is not that of the index.
        """
        if query.values.ndim != 2 or query.values.shape[1] != self._rows.shape[1]:
            raise EvaluationError(
                f"features of shape {query.values.shape} were looked up in an index of width {self._rows.shape[1]}: "
                "describe both with the same feature space"
            )
        known = torch.from_numpy(query.known).float()
        values = (torch.from_numpy(query.values).float() - self._mean) / self._spread * known
        values = F.normalize(values, dim=1)
        best = torch.empty(0)
        rows = torch.empty(0, dtype=torch.long)
        for start in range(0, len(self._rows), _ROWS_AT_ONCE):
            block = self._rows[start : start + _ROWS_AT_ONCE]
            similarities = self._similarities(values, known, block)
            best = torch.cat([best, similarities])
            rows = torch.cat([rows, torch.arange(start, start + len(block))])
            best, kept = best.topk(min(num_neighbours, len(best)))
            rows = rows[kept]
        return Neighbours((1 - best).clamp_min(0).numpy(), rows.numpy())

    def _similarities(self, values: torch.Tensor, known: torch.Tensor, block: torch.Tensor) -> torch.Tensor:
        """The largest cosine over the positions, of what is known in each: (n,)."""
        found = []
        for start in range(0, len(values), _QUERIES_AT_ONCE):
            part = slice(start, start + _QUERIES_AT_ONCE)
            lengths = (known[part] @ (block**2).T).sqrt().clamp_min(_MIN_SPREAD)
            found.append((values[part] @ block.T / lengths).amax(dim=0))
        return torch.stack(found).amax(dim=0)
