"""Two pictures laid over each other: the shift and zoom between them are found, and what both show is compared.

A copy that was shifted, cropped or compressed lies pixel on pixel after that; two different patients do not.

Source: coarse step, cross-correlation by the Fourier transform; fine step, Baker and Matthews, "Lucas-Kanade 20 years
on", IJCV 2004, with gain and offset of brightness; SSIM: Wang et al., IEEE TIP 13(4), 2004, equation 13.
"""

from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

Padding = Literal["zeros", "border"]

COARSE_PX = 64
FINE_PX = 128

_ZOOMS = (0.82, 0.86, 0.9, 0.94, 0.97, 1.0, 1.03, 1.06, 1.1)
_MAX_SHIFT_PX = 12  # of the coarse picture
_MAX_SHIFT, _MIN_ZOOM, _MAX_ZOOM = 0.5, 0.75, 1.2  # of the fine step; a shift of 2 is the whole side
_NUM_STEPS = 8
_RIDGE = 1e-4
_BAND_SIGMAS_PX = (0.8, 5.0)
_CONTRAST_SIGMA_PX, _FLAT_CONTRAST = 4.0, 0.02
_BORDER_PX = 3  # a shifted copy has a made-up strip there, whose edge would outweigh everything
_SMOOTHING_SIGMA_PX = 1.0
_SSIM_SIGMA_PX = 1.5
_SSIM_K1, _SSIM_K2 = 0.01, 0.03
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
_MAX_GAIN = 4.0
_CONTRAST, _FLAT_SPREAD = 0.2, 0.02  # of an X-ray; below the second a picture counts as blank
_EDGE_PX = 2  # filters have seen what lies beyond the border
_MIN_OVERLAP = 0.4


class Alignment(NamedTuple):
    """How each of K candidates lies under a picture: the picture at x shows the candidate at `zoom * x + shift`.

    Coordinates run from -1 to 1 along each side.

    Attributes:
        correlation: float32 (K,), of the band-passed pictures at the best place, in [-1, 1].
        zoom: float32 (K, 2), along x and y.
        shift: float32 (K, 2), along x and y.
    """

    correlation: torch.Tensor
    zoom: torch.Tensor
    shift: torch.Tensor

    def take(self, rows: torch.Tensor) -> "Alignment":
        """Returns the alignments of some candidates."""
        return Alignment(self.correlation[rows], self.zoom[rows], self.shift[rows])


def luminance(views: np.ndarray) -> torch.Tensor:
    """Turns uint8 views (B, C, S, S), C 1 or 3, into float32 (B, 1, S, S) in [0, 1]."""
    pixels = torch.from_numpy(np.array(views)).float() / 255  # a copy: decoded files are read-only
    if pixels.shape[1] == 1:
        return pixels
    return (pixels * torch.tensor(_LUMA).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)


def resized(pictures: torch.Tensor, size_px: int) -> torch.Tensor:
    """Resizes pictures (B, 1, S, S) with an antialiased bilinear kernel."""
    if pictures.shape[-1] == size_px:
        return pictures
    return F.interpolate(pictures, size=(size_px, size_px), mode="bilinear", antialias=True)


def sampled(
    pictures: torch.Tensor, zoom: torch.Tensor, shift: torch.Tensor, padding_mode: Padding = "zeros"
) -> torch.Tensor:
    """Lays pictures under another one: the result at x shows them at `zoom * x + shift`.

    Args:
        pictures: (K, C, S, S).
        zoom: (K, 2), along x and y.
        shift: (K, 2), along x and y; coordinates run from -1 to 1.
        padding_mode: What lies outside.
    """
    places = _places(zoom, shift, pictures.shape[-1])
    return F.grid_sample(pictures, places, mode="bilinear", padding_mode=padding_mode, align_corners=False)


def inside(zoom: torch.Tensor, shift: torch.Tensor, size_px: int) -> torch.Tensor:
    """1 where a pixel lies well inside the picture that `sampled` lays under it, else 0: (K, size_px, size_px)."""
    edge = 1 - 2 * _EDGE_PX / size_px
    return (_places(zoom, shift, size_px).abs() <= edge).all(dim=-1).float()


def coarse_alignment(picture: torch.Tensor, candidates: torch.Tensor) -> Alignment:
    """Finds the best of some zooms and all shifts of up to a fifth of the side, by correlation of band-passed pictures.

    Args:
        picture: (1, 1, S, S) in [0, 1].
        candidates: (K, 1, S, S) in [0, 1].
    """
    query, others = _band_passed(resized(picture, COARSE_PX)), _band_passed(resized(candidates, COARSE_PX))
    zooms = torch.tensor(_ZOOMS)
    inverse = (1 / zooms)[:, None].expand(-1, 2)
    zoomed = sampled(query.expand(len(_ZOOMS), -1, -1, -1), inverse, torch.zeros_like(inverse))
    spectrum = torch.fft.rfft2(_unit_norm(zoomed)).conj().transpose(0, 1)  # (1, Z, ...)
    surface = torch.fft.irfft2(spectrum * torch.fft.rfft2(_unit_norm(others)), s=(COARSE_PX, COARSE_PX))
    reach = _MAX_SHIFT_PX
    near = torch.roll(surface, (reach, reach), (-2, -1))[..., : 2 * reach + 1, : 2 * reach + 1]
    best, place = near.flatten(1).max(dim=1)
    width = 2 * reach + 1
    zoom = zooms[place // width**2]
    down, across = place % width**2 // width - reach, place % width - reach
    shift = torch.stack([across, down], dim=1) * (2 / COARSE_PX)
    return Alignment(best, zoom[:, None].expand(-1, 2).clone(), shift)


def refined_alignment(picture: torch.Tensor, candidates: torch.Tensor, start: Alignment) -> Alignment:
    """Improves zoom and shift below a pixel by Gauss-Newton steps on the squared difference.

    Args:
        picture: (1, 1, S, S) in [0, 1].
        candidates: (K, 1, S, S) in [0, 1].
        start: Of these candidates.
    """
    query = _blurred(resized(picture, COARSE_PX), _SMOOTHING_SIGMA_PX)
    others = _blurred(resized(candidates, COARSE_PX), _SMOOTHING_SIGMA_PX)
    slopes = torch.gradient(others, spacing=2 / COARSE_PX, dim=(-1, -2))
    stacked = torch.cat([others, *slopes], dim=1)
    axis = _axis(COARSE_PX)
    x, y = axis[None, None, :], axis[None, :, None]
    zoom, shift = start.zoom.clone(), start.shift.clone()
    for _ in range(_NUM_STEPS):
        values, slope_x, slope_y = sampled(stacked, zoom, shift).unbind(dim=1)
        mask = inside(zoom, shift, COARSE_PX)
        gain, offset = _matched_brightness(query[:, 0], values, mask)
        residual = (query[:, 0] - gain * values - offset) * mask
        terms = (
            gain * slope_x * x,
            gain * slope_y * y,
            gain * slope_x,
            gain * slope_y,
            values,
            torch.ones_like(values),
        )
        jacobian = torch.stack(terms, dim=-1).flatten(1, 2) * mask.flatten(1)[..., None]
        normal = jacobian.transpose(1, 2) @ jacobian
        ridge = torch.diag_embed(_RIDGE * normal.diagonal(dim1=1, dim2=2) + 1e-9)
        step = torch.linalg.solve(normal + ridge, jacobian.transpose(1, 2) @ residual.flatten(1)[..., None])[..., 0]
        zoom = (zoom + step[:, :2].clamp(-0.05, 0.05)).clamp(_MIN_ZOOM, _MAX_ZOOM)
        shift = (shift + step[:, 2:4].clamp(-0.1, 0.1)).clamp(-_MAX_SHIFT, _MAX_SHIFT)
    return Alignment(start.correlation, zoom, shift)


def aligned_ssim(picture: torch.Tensor, candidates: torch.Tensor, alignment: Alignment) -> torch.Tensor:
    """Structural similarity of a picture and each candidate laid under it, where they overlap.

    Both are smoothed by one pixel, because an image tokenizer blurs, and brought to one brightness and contrast where
    they overlap. Neither is fitted to the other: a picture without contrast would otherwise resemble every candidate,
    and a blank candidate every picture.

    Args:
        picture: (1, 1, S, S) in [0, 1].
        candidates: (K, 1, S, S) in [0, 1].
        alignment: Of these candidates.

    Returns:
        float32 (K,), the mean of the SSIM map, in [-1, 1].
    """
    size_px = min(FINE_PX, picture.shape[-1])
    query = _blurred(resized(picture, size_px), _SMOOTHING_SIGMA_PX)[:, 0]
    others = _blurred(resized(candidates, size_px), _SMOOTHING_SIGMA_PX)
    laid = sampled(others, alignment.zoom, alignment.shift)[:, 0]
    mask = inside(alignment.zoom, alignment.shift, size_px)
    query, laid = _even_contrast(query.expand_as(laid), mask), _even_contrast(laid, mask)

    def local(values: torch.Tensor) -> torch.Tensor:
        return _blurred(values[:, None], _SSIM_SIGMA_PX)[:, 0]

    mean_q, mean_c = local(query), local(laid)
    variance_q, variance_c = local(query**2) - mean_q**2, local(laid**2) - mean_c**2
    covariance = local(query * laid) - mean_q * mean_c
    luminance_term = (2 * mean_q * mean_c + _SSIM_K1**2) / (mean_q**2 + mean_c**2 + _SSIM_K1**2)
    structure_term = (2 * covariance + _SSIM_K2**2) / (variance_q + variance_c + _SSIM_K2**2)
    similarity = (luminance_term * structure_term * mask).sum(dim=(1, 2)) / mask.sum(dim=(1, 2)).clamp_min(1)
    return torch.where(mask.mean(dim=(1, 2)) >= _MIN_OVERLAP, similarity, -torch.ones_like(similarity))


def _axis(size_px: int) -> torch.Tensor:
    """Centres of the pixels along one side, from -1 to 1."""
    return (torch.arange(size_px) + 0.5) * (2 / size_px) - 1


def _places(zoom: torch.Tensor, shift: torch.Tensor, size_px: int) -> torch.Tensor:
    """Where each pixel of the picture lies in each candidate: (K, size_px, size_px, 2), x first."""
    axis = _axis(size_px)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1)
    return grid * zoom[:, None, None] + shift[:, None, None]


def _matched_brightness(
    query: torch.Tensor, values: torch.Tensor, mask: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Least-squares gain and offset (K, 1, 1) that bring `values` (K, S, S) to `query` (1 or K, S, S)."""
    total = mask.sum(dim=(1, 2), keepdim=True).clamp_min(1)
    mean_q = (query * mask).sum(dim=(1, 2), keepdim=True) / total
    mean_v = (values * mask).sum(dim=(1, 2), keepdim=True) / total
    covariance = ((query - mean_q) * (values - mean_v) * mask).sum(dim=(1, 2), keepdim=True)
    variance = ((values - mean_v) ** 2 * mask).sum(dim=(1, 2), keepdim=True)
    gain = (covariance / variance.clamp_min(1e-6)).clamp(0, _MAX_GAIN)
    return gain, mean_q - gain * mean_v


def _even_contrast(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Pictures (K, S, S) with mean 0.5 and one standard deviation inside the mask; a flat one stays flat."""
    total = mask.sum(dim=(1, 2), keepdim=True).clamp_min(1)
    centred = values - (values * mask).sum(dim=(1, 2), keepdim=True) / total
    spread = ((centred**2 * mask).sum(dim=(1, 2), keepdim=True) / total).sqrt()
    return 0.5 + centred * (_CONTRAST / spread.clamp_min(_FLAT_SPREAD))


def _blurred(pictures: torch.Tensor, sigma_px: float) -> torch.Tensor:
    """Gaussian blur of (B, C, S, S), the border repeated."""
    reach = int(3 * sigma_px + 0.5)
    offsets = torch.arange(-reach, reach + 1)
    kernel = torch.exp(-0.5 * (offsets / sigma_px) ** 2)
    kernel = (kernel / kernel.sum()).view(1, 1, 1, -1)
    flat = pictures.flatten(0, 1)[:, None]
    flat = F.conv2d(F.pad(flat, (reach, reach, 0, 0), mode="replicate"), kernel)
    flat = F.conv2d(F.pad(flat, (0, 0, reach, reach), mode="replicate"), kernel.transpose(2, 3))
    return flat.view(pictures.shape)


def _band_passed(pictures: torch.Tensor) -> torch.Tensor:
    """Details with the same contrast everywhere, so that no single edge decides; 0 at the border."""
    fine, broad = _BAND_SIGMAS_PX
    band = _blurred(pictures, fine) - _blurred(pictures, broad)
    contrast = _blurred(band**2, _CONTRAST_SIGMA_PX).clamp_min(0).sqrt()
    even = (band / (contrast + _FLAT_CONTRAST)).clamp(-2, 2)
    core = slice(_BORDER_PX, -_BORDER_PX)
    kept = torch.zeros_like(even)
    kept[..., core, core] = even[..., core, core]
    return kept


def _unit_norm(pictures: torch.Tensor) -> torch.Tensor:
    centred = pictures - pictures.mean(dim=(-2, -1), keepdim=True)
    return centred / centred.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-6)
