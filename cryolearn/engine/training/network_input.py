"""What the network sees of a particle image: one scheme for training and prediction, stored with the model.

A background-normalised image is cropped in Fourier space to the network's pixel size and Wiener filtered with its own CTF,
which brings delocalised density back and makes images of all defoci alike; the result is scaled so that a particle's
density has unit variance.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import torch

from ..exceptions import InputError
from ..imaging.ctf import Ctf, ctf_2d
from ..imaging.fourier import irfft2_centred, radial_filter, rfft2_centred
from ..io.model_entries import require_agreement

__all__ = ["NetworkInput", "network_size"]


def network_size(box: int, pixel_size_angst: float, wanted_pixel_angst: float) -> int:
    """Even side in pixels of the images that the network sees, for a pixel size as near as possible to the wanted one.

    Sides with prime factors beyond 7 are passed over: their FFTs are slow.
    """
    if wanted_pixel_angst <= pixel_size_angst:
        return box - box % 2
    wanted = box * pixel_size_angst / wanted_pixel_angst
    return min((size for size in range(16, box + 1, 2) if _is_smooth(size)), key=lambda size: abs(size - wanted), default=box - box % 2)


def _is_smooth(number: int) -> bool:
    for prime in (2, 3, 5, 7):
        while number % prime == 0:
            number //= prime
    return number == 1


@lru_cache(maxsize=8)
def _filter(curve: tuple[float, ...], size: int, device: torch.device) -> torch.Tensor:
    """Half-grid filter of a curve, the same for all batches."""
    return radial_filter(torch.tensor(curve, dtype=torch.float32, device=device), size)


@dataclass(frozen=True, kw_only=True)
class NetworkInput:
    """The scheme by which images become the network's input.

    Attributes
    ----------
    box, pixel_size_angst : of the images
    size : side in pixels of what the network sees, over the same field of view
    signal_power, noise_power : ``size // 2 + 1`` radial powers per pixel at the network's pixel size: of the particles'
        density without CTF, and of the noise, both in units of the background's variance
    scale : factor of the filtered image
    centre_radius_angst : width of the soft mask in which a particle's centre of mass is found
    phase_flipped, ignore_ctf : how the images carry their CTF
    """

    box: int
    pixel_size_angst: float
    size: int
    signal_power: tuple[float, ...]
    noise_power: tuple[float, ...]
    scale: float
    centre_radius_angst: float
    phase_flipped: bool = False
    ignore_ctf: bool = False

    @property
    def network_pixel_angst(self) -> float:
        """Pixel size of what the network is given, in Å."""
        return self.box * self.pixel_size_angst / self.size

    def to_dict(self) -> dict[str, Any]:
        """What ``model.json`` holds of it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> NetworkInput:
        """The input that a model's description holds."""
        return cls(**{**values, "signal_power": tuple(values["signal_power"]), "noise_power": tuple(values["noise_power"])})

    def check(self, folder: str) -> None:
        """Refuse the input of the model in ``folder`` when its curves are not those of its size.

        Raises
        ------
        InputError
            naming the curve.
        """
        require_agreement(folder, {"input.size": self.size // 2 + 1, "input.signal_power": self.signal_power, "input.noise_power": self.noise_power})
        if self.size > self.box:
            raise InputError(f"The trained model '{folder}' cannot be used: input.size in its model.json is {self.size}, more than input.box, {self.box}.")

    def transfer(self, ctf: Ctf | None, device: torch.device) -> torch.Tensor:
        """CTF (b or 1, size, size // 2 + 1) at the network's pixel size."""
        if self.ignore_ctf or ctf is None:
            return torch.ones(1, self.size, self.size // 2 + 1, device=device)
        return ctf_2d(ctf, self.size, self.network_pixel_angst, self.phase_flipped)

    def wiener(self, transfer: torch.Tensor) -> torch.Tensor:
        """Filter on the half grid for images whose density was multiplied by ``transfer``.

        ``c S / (c^2 S + N)``: the linear estimate of the density with the least expected square error.
        """
        signal, noise = (_filter(curve, self.size, transfer.device) for curve in (self.signal_power, self.noise_power))
        return self.scale * transfer * signal / (transfer.square() * signal + noise)

    def from_images(self, images: torch.Tensor, ctf: Ctf | None) -> torch.Tensor:
        """Input (b, size, size) of background-normalised images (b, box, box)."""
        half = self.size // 2
        full = rfft2_centred(images)
        cropped = torch.zeros(len(images), self.size, half + 1, dtype=full.dtype, device=full.device)
        # what lies on the Nyquist frequency of the smaller grid is left out: its phase is not defined there
        cropped[:, :half, :half] = full[:, :half, :half]
        cropped[:, half + 1 :, :half] = full[:, self.box - half + 1 :, :half]
        cropped *= (self.size / self.box) ** 2
        return irfft2_centred(cropped * self.wiener(self.transfer(ctf, images.device)), self.size)
