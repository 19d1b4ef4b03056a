"""Which hardware a command computes on."""

from __future__ import annotations

import torch

from .config import RunConfig
from .cpu import cpu_threads
from .exceptions import DeviceError
from .launch import process_rank

__all__ = ["cpu_threads", "gpu_device", "gpu_indices", "has_fast_bfloat16", "select_device"]


def gpu_indices(config: RunConfig) -> list[int]:
    """Indices of the GPUs that were asked for, in CUDA's numbering within CUDA_VISIBLE_DEVICES.

    Raises
    ------
    DeviceError
        when a GPU was asked for that PyTorch cannot see.
    """
    if not config.use_gpu:
        return []
    text = config.gpu_list.replace(",", " ").split()
    if not all(item.isdigit() for item in text):
        raise DeviceError(f"The GPU list '{config.gpu_list}' is not a list of indices such as '0 1'.")
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    indices = [int(item) for item in text] or [0]
    missing = [index for index in indices if index >= found]
    if missing:
        built = "" if torch.version.cuda or getattr(torch.version, "hip", None) else ", which is built for the CPU only,"
        raise DeviceError(
            f"GPU {missing[0]} was asked for, but PyTorch {torch.__version__}{built} sees {found} usable GPU(s) here: "
            "choose another GPU, or 'Use GPU: no' to run on the CPU."
        )
    return indices


def gpu_device(index: int) -> torch.device:
    """PyTorch's device of a GPU, by its index."""
    return torch.device("cuda", index)


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether the hardware itself multiplies bfloat16, so that mixed precision saves time."""
    if device.type == "cpu":
        return bool(getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)())
    return bool(torch.get_device_module(device).is_bf16_supported(including_emulation=False))


def select_device(config: RunConfig) -> torch.device:
    """Device of this process, by its rank on the node, with PyTorch's thread count set."""
    torch.set_num_threads(cpu_threads(config.threads))
    indices = gpu_indices(config)
    return gpu_device(indices[process_rank()[2] % len(indices)]) if indices else torch.device("cpu")
