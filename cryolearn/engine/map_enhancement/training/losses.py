"""What is asked of an enhanced patch."""

from __future__ import annotations

import torch

from ...imaging.fsc import correlation_curve

__all__ = ["dice_loss", "patch_errors", "patch_fsc", "residual_losses"]

_FSC_SHARE, _LIKELIHOOD_SHARE = 0.5, 0.1


def dice_loss(found: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Dice loss with squared denominators (b,): 1 - 2 sum(p t) / (sum p^2 + sum t^2), of the preset 'paper'."""
    axes = tuple(range(1, found.ndim))
    return 1 - 2 * (found * target).sum(axes) / (found.square().sum(axes) + target.square().sum(axes)).clamp_min(1e-12)


def patch_errors(found: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Weighted mean absolute error (b,); what is outside the molecule counts less."""
    return ((found - target).abs() * weight).flatten(1).sum(1) / weight.flatten(1).sum(1)


def patch_fsc(found: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """FSC (b, n // 2 + 1) of patches (b, 1, n, n, n), which a window fades out towards their faces."""
    side = found.shape[-1]
    line = torch.hann_window(side, periodic=False, device=found.device).sqrt()
    window = line[:, None, None] * line[:, None] * line
    one, two = (torch.fft.rfftn(item[:, 0].float() * window, dim=(-3, -2, -1)) for item in (found, target))
    return correlation_curve(one, two, side, 3)


def residual_losses(
    found: torch.Tensor, error: torch.Tensor, target: torch.Tensor, weight: torch.Tensor, resolution: torch.Tensor, target_resolution: torch.Tensor,
    fine_weight: float = 1.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss and mean absolute error (b,) of the preset 'residual'.

    Absolute error, which forgives what cannot be known; the FSC with the target, all shells up to its resolution alike, without which fine shells hardly
    count because there is little power in them; and the error's own size by maximum likelihood (Laplace), which does not act back on the map.

    Parameters
    ----------
    found, error, target : (b, 1, n, n, n)
        Enhanced patches, their predicted absolute error (above 0), and the true density.
    weight : (b, 1, n, n, n)
        Weight of each voxel in the absolute error.
    resolution, target_resolution : (b,)
        Resolutions of input and target in voxels.
    fine_weight
        Weight of the FSC of shells that are finer than the input's resolution, where the others have 1.
    """
    wrong = patch_errors(found, target, weight)
    curve = patch_fsc(found, target)
    side = found.shape[-1]
    shell = torch.arange(curve.shape[1], device=curve.device)
    # a target without density has no correlation
    used = (shell >= 2) & (shell <= (side / target_resolution)[:, None]) & (target.flatten(1).square().sum(1) > 0)[:, None]
    share = used * torch.where(shell > (side / resolution)[:, None], fine_weight, 1.0)
    missed = ((1 - curve) * share).sum(1) / share.sum(1).clamp_min(1e-6)
    likelihood = ((found - target).detach().abs() / error + error.log()).mean((1, 2, 3, 4))
    return wrong + _FSC_SHARE * missed + _LIKELIHOOD_SHARE * likelihood, wrong.detach()
