"""Automatic mixed precision of the pretend GPU: which operations autocast computes in sixteen bits and which in 32, after PyTorch's lists for CUDA."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils._pytree import tree_leaves, tree_map

__all__ = ["register_autocast"]

_LOW = ("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "convolution", "prelu", "addmm", "addmv", "addr", "matmul",
        "einsum", "mm", "mv", "linear", "addbmm", "baddbmm", "bmm", "chain_matmul", "linalg_multi_dot", "linalg_vecdot", "scaled_dot_product_attention")
_FULL = ("acos", "asin", "cosh", "erfinv", "exp", "expm1", "log", "log10", "log2", "log1p", "reciprocal", "rsqrt", "sinh", "tan", "pow", "softplus",
         "layer_norm", "native_layer_norm", "group_norm", "cosine_similarity", "nll_loss", "kl_div", "l1_loss", "smooth_l1_loss", "huber_loss", "mse_loss",
         "binary_cross_entropy_with_logits", "cosine_embedding_loss", "margin_ranking_loss", "triplet_margin_loss", "dist", "pdist", "cdist", "renorm",
         "logsumexp", "prod", "softmax", "log_softmax", "cumprod", "cumsum", "sum", "norm")
_WIDEST = ("addcdiv", "addcmul", "atan2", "bilinear", "cross", "dot", "grid_sampler", "index_put", "tensordot", "scatter_add", "cat", "stack")
_KEY = "AutocastPrivateUse1"


def register_autocast(device: str) -> list[torch.library.Library]:
    """Register autocast's kernels of the device, for ``torch.autocast(device)``, as long as what is returned lives."""
    everything, library = torch.library.Library("_", "IMPL"), torch.library.Library("aten", "IMPL")
    everything.fallback(torch.library.fallthrough_kernel, _KEY)
    without = torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, _KEY))
    kinds: Sequence[tuple[Sequence[str], Callable[[Any], torch.dtype]]] = (
        (_LOW, lambda tensors: torch.get_autocast_dtype(device)), (_FULL, lambda tensors: torch.float32),
        (_WIDEST, lambda tensors: torch.float32 if any(item.dtype == torch.float32 for item in tensors) else torch.get_autocast_dtype(device)),
    )
    for names, dtype_of in kinds:
        for packet in (getattr(torch.ops.aten, name) for name in names):
            for overload in (getattr(packet, one) for one in packet.overloads()):
                if not overload._schema.is_mutable and not any("names" in said.name or "Dimname" in str(said.type) for said in overload._schema.arguments):
                    library.impl(overload, _kernel(overload, dtype_of, device, without), _KEY)
    return [everything, library]


def _kernel(overload: Any, dtype_of: Callable[[Any], torch.dtype], device: str, without: Any) -> Callable[..., Any]:
    def casts(item: Any) -> bool:
        return isinstance(item, torch.Tensor) and item.device.type == device and item.is_floating_point() and item.dtype != torch.float64

    def computed(*args: Any, **options: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(without):
            dtype = dtype_of([item for item in tree_leaves((args, options)) if casts(item)])
            return overload(*tree_map(lambda item: item.to(dtype) if casts(item) else item, args), **options)

    return computed
