"""A pretend GPU: a second device of PyTorch, ``pgpu:0``, whose numbers lie in the CPU's memory. For tests and for counting; needs no GPU.

Code that is wrong on a real GPU fails here with the same error: an operation on tensors of two devices, a generator of the other device, NumPy's view of a
device tensor. Launches of kernels and waits of the host are counted, because a GPU's time is theirs where batches are small.

How: PyTorch lets Python implement its backend "PrivateUse1", which autograd, autocast and modules take for a device of its own. A :class:`GpuTensor` says that
it lies there and holds a CPU tensor; every operation on one comes to :func:`_compute`, in any thread. Random numbers are the CPU's, so that results can be
compared with those of the CPU.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch.utils import backend_registration
from torch.utils._device import _device_constructors

from .pretend_gpu_autocast import register_autocast

__all__ = ["GPU", "Counts", "pretend_gpu"]

NAME = "pgpu"
GPU = torch.device("cpu")  # until the backend is registered, below

# Operations that launch nothing, beside views: memory that is not filled, and questions to the host.
_NO_KERNEL = {"empty", "empty_strided", "empty_like", "new_empty", "new_empty_strided", "_unsafe_view", "lift_fresh", "is_same_size", "is_coalesced", "_nnz",
              "is_pinned", "sparse_dim", "dense_dim", "record_stream", "_local_scalar_dense", "_coalesced_"}
# Operations whose result has to be known on the host before it can go on.
_WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "_unique", "_unique2", "unique_dim", "unique_consecutive", "unique_dim_consecutive", "equal",
          "bincount", "_coalesce", "_linalg_check_errors"}
_INDEXING = {"index", "_unsafe_index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index_put"}
# Operations that refuse even single numbers of another device.
_STRICT = ("index_select", "index_add", "index_copy", "gather", "scatter", "cat", "stack", "mm", "bmm", "addmm", "baddbmm", "mv", "dot", "convolution")
# Operations that make a tensor out of nothing; PyTorch would build some of them of others, and resize what we cannot.
_FACTORIES = ("empty", "empty_strided", "zeros", "ones", "full", "eye", "arange", "linspace", "logspace", "rand", "randn", "randint", "randperm",
              "scalar_tensor", "tril_indices", "triu_indices", "fft_fftfreq", "fft_rfftfreq", "hann_window", "_sparse_coo_tensor_with_dims")


class Counts:
    """What a run asked of the pretend GPU.

    Attributes
    ----------
    launches : operations of PyTorch's dispatcher that start work on the device, by name: each arithmetic operation, reduction, product, FFT, ``index_add_``,
        copy within or to the device counts as one. Views, empty tensors and conjugation (``conj`` is a view) count nothing. A real GPU starts more than one
        kernel for some (sorting, FFTs of large sizes), so this is a lower bound
    waits : what makes the host wait for the device, by name: ``.item()``, ``bool(tensor)``, ``.cpu()``, copies to the host, ``nonzero``, indexing by a mask
        or by a tensor of the host, and other results whose size depends on the numbers. Copies to the device are launches only
    places : where in the engine both came from, as (file:line, name); empty unless asked for
    """

    def __init__(self, places: bool = False) -> None:
        self.launches: collections.Counter[str] = collections.Counter()
        self.waits: collections.Counter[str] = collections.Counter()
        self.places: collections.Counter[tuple[str, str]] = collections.Counter()
        self._with_places = places

    def launch(self, name: str) -> None:
        self.launches[name] += 1
        self._place(name)

    def wait(self, name: str) -> None:
        self.waits[name] += 1
        self._place(f"wait: {name}")

    def _place(self, name: str) -> None:
        if self._with_places:
            frame: Any = sys._getframe(2)
            while frame.f_back is not None and "/cryolearn/engine/" not in frame.f_code.co_filename:
                frame = frame.f_back
            self.places[f"{frame.f_code.co_filename.rpartition('/cryolearn/engine/')[2]}:{frame.f_lineno}", name] += 1


_counts = Counts()
_NOTHING = contextlib.nullcontext()
_is_on = False


class GpuTensor(torch.Tensor):
    """A tensor of the pretend GPU around a tensor of the CPU, ``inner``."""

    inner: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> GpuTensor:
        if inner.layout is torch.strided:
            options = {"strides": inner.stride(), "storage_offset": inner.storage_offset()}
        else:
            options = {"layout": inner.layout}
        made = torch.Tensor._make_wrapper_subclass(cls, inner.size(), dtype=inner.dtype, device=GPU, **options)  # type: ignore[attr-defined]
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _compute(function, args, dict(kwargs or {}))

    def numpy(self, *args: Any, **options: Any) -> Any:
        raise TypeError(f"can't convert {GPU} device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory first.")

    __array__ = numpy

    def tolist(self) -> Any:
        return self.detach().cpu().tolist()

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.detach().cpu().__reduce_ex__(protocol)

    def __format__(self, form: str) -> str:
        return format(self.item(), form) if self.dim() == 0 else repr(self)

    def __repr__(self, **options: Any) -> str:
        return f"GpuTensor({self.inner!r})"


class _GpuGenerator(torch.Generator):
    """A generator of the pretend GPU, which draws the CPU's numbers."""

    def __new__(cls) -> _GpuGenerator:
        made = super().__new__(cls, "cpu")
        _generators[made._cdata] = made
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return GPU


_generators: weakref.WeakValueDictionary[int, _GpuGenerator] = weakref.WeakValueDictionary()  # PyTorch passes a generator on under a new Python object
_CpuGenerator = torch.Generator


class _GeneratorKind(type):
    def __call__(cls, device: Any = "cpu") -> torch.Generator:
        return _GpuGenerator() if torch.device(device).type == NAME else _CpuGenerator(device)

    def __instancecheck__(cls, item: object) -> bool:
        return isinstance(item, _CpuGenerator)


class _Generator(metaclass=_GeneratorKind):
    """In the place of ``torch.Generator``: it knows generators of both devices."""


def _same_device_drawn(draw: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """A function that draws random numbers, which refuses a generator of another device than its result's, as a real GPU does."""

    def drawn(*args: Any, **options: Any) -> torch.Tensor:
        made = draw(*args, **options)
        _check_generator(options.get("generator"), made.device, draw.__name__)
        return made

    return drawn


def _made_on_the_host(make: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """A function that makes a tensor of numbers, which for the pretend GPU makes it on the CPU and copies it, in any thread."""

    def made(data: Any, *args: Any, device: Any = None, requires_grad: bool = False, **options: Any) -> torch.Tensor:
        given = device or (data.device if isinstance(data, torch.Tensor) else None)
        if given is None or torch.device(given).type != NAME:
            options.update({"device": device} if device is not None else {}, **({"requires_grad": True} if requires_grad else {}))
            return make(data, *args, **options)
        return (data if isinstance(data, torch.Tensor) else make(data, *args, **options)).to(given, options.get("dtype")).requires_grad_(requires_grad)

    return made


def _check_generator(generator: Any, device: torch.device, name: str) -> None:
    found = GPU if generator is not None and generator._cdata in _generators else torch.device("cpu")
    if generator is not None and found.type != device.type:
        raise RuntimeError(f"Expected a '{device.type}' device type for generator but found '{found.type}' ({name})")


class _Operation(NamedTuple):
    """What the schema of an operation says."""

    name: str
    is_view: bool
    is_mutable: bool
    written: tuple[int, ...]


@functools.lru_cache(maxsize=None)
def _operation(function: Any) -> _Operation:
    schema = function._schema
    written = tuple(place for place, said in enumerate(schema.arguments) if said.alias_info is not None and said.alias_info.is_write)
    is_view = any(said.alias_info is not None and not said.alias_info.is_write for said in schema.returns)
    return _Operation(schema.name.partition("::")[2], is_view, schema.is_mutable, written)


def _inner(item: Any, tensors: list[torch.Tensor]) -> Any:
    """An argument as the CPU's operation takes it; the tensors in it are added to a list."""
    if isinstance(item, torch.Tensor):
        tensors.append(item)
        return item.inner if isinstance(item, GpuTensor) else item
    if isinstance(item, (list, tuple)):
        return type(item)(_inner(one, tensors) for one in item)
    return torch.device("cpu") if isinstance(item, torch.device) else item


def _wrapped(found: Any, known: dict[int, GpuTensor]) -> Any:
    if isinstance(found, (list, tuple)):
        return type(found)(_wrapped(one, known) for one in found)
    if not isinstance(found, torch.Tensor):
        return found
    if id(found) in known:  # what an operation in place returns is its argument
        return known[id(found)]
    return GpuTensor(found.resolve_conj().resolve_neg() if found.layout is torch.strided else found)


@contextlib.contextmanager
def _without_inference_mode() -> Iterator[None]:
    with torch.inference_mode(False), torch.no_grad():
        yield


def _compute(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Compute an operation of which an argument or the result lies on the pretend GPU, after the checks that a real one makes, and count it."""
    operation, tensors = _operation(function), list[torch.Tensor]()
    inner_args = [_inner(item, tensors) for item in args]
    inner_kwargs = {name: _inner(item, tensors) for name, item in kwargs.items()}
    device = kwargs.get("device")
    on_gpu = torch.device(device).type == NAME if device is not None else any(isinstance(item, GpuTensor) for item in tensors)
    if operation.name == "copy_":
        _count_copy(args[0], args[1])
    elif operation.name == "_to_copy":
        _counts.launch("_to_copy") if on_gpu else _counts.wait("copy to the host")
    else:
        _check_devices(operation, args, kwargs, tensors)
        _check_generator(kwargs.get("generator"), GPU, operation.name)
        _count(operation, args, kwargs)
    if on_gpu:
        inner_kwargs.pop("pin_memory", None)
    with _without_inference_mode() if torch.is_inference_mode_enabled() else _NOTHING:  # which PyTorch denies to tensors around others
        found = function(*inner_args, **inner_kwargs)
        if not on_gpu:
            return found
        known = {id(item.inner): item for item in tensors if isinstance(item, GpuTensor)} if operation.is_mutable else {}
        for item in known.values():
            if item.shape != item.inner.shape:  # squeeze_ and its like
                item.data = GpuTensor(item.inner)
        return _wrapped(found, known)


def _check_devices(operation: _Operation, args: Any, kwargs: dict[str, Any], tensors: list[torch.Tensor]) -> None:
    """Raise what PyTorch raises where an operation meets tensors of two devices; single numbers of the CPU may join arithmetic."""
    foreign = [item for item in tensors if not isinstance(item, GpuTensor)]
    if not foreign or len(foreign) == len(tensors):
        return
    name = operation.name
    if name in _INDEXING:
        if not isinstance(args[0], GpuTensor):
            raise RuntimeError(f"indices should be either on cpu or on the same device as the indexed tensor (cpu) ({name})")
        foreign = [item for item in args[2:3] if not isinstance(item, GpuTensor)]
    written = [args[place] for place in operation.written if place < len(args)] + [kwargs.get("out")]
    strict = name.rstrip("_").startswith(_STRICT)
    if any(item.dim() > 0 or strict or any(item is one for one in written) for item in foreign):
        shapes = [(str(item.device), tuple(item.shape)) for item in tensors]
        raise RuntimeError(f"Expected all tensors to be on the same device, but found at least two devices, {GPU} and cpu! ({name} of {shapes})")


def _count_copy(target: torch.Tensor, source: torch.Tensor) -> None:
    if isinstance(target, GpuTensor):
        _counts.launch("copy_" if isinstance(source, GpuTensor) else "copy to the device")
    else:
        _counts.wait("copy to the host")


def _count(operation: _Operation, args: Any, kwargs: dict[str, Any]) -> None:
    name = operation.name
    if not operation.is_view and name not in _NO_KERNEL:
        _counts.launch(name)
    if name in _WAITS or (name == "repeat_interleave" and kwargs.get("output_size") is None):
        _counts.wait(name)
    if name in _INDEXING:
        indices = [item for item in args[1] if isinstance(item, torch.Tensor)]
        fills = len(args) > 2 and args[2].numel() == 1  # one number where a mask is true needs no list of places
        if any(item.dtype in (torch.bool, torch.uint8) for item in indices):
            if not fills:
                _counts.wait("indexing by a mask")
        elif any(not isinstance(item, GpuTensor) for item in indices):
            _counts.wait("indexing by a tensor of the host")


class _DeviceModule:
    """What ``torch.pgpu`` answers, as ``torch.cuda`` would; ``free_bytes`` can be set."""

    free_bytes = 100 << 30
    total_bytes = 140 << 30

    def is_initialized(self) -> bool: return _is_on

    def is_available(self) -> bool: return _is_on

    def _is_in_bad_fork(self) -> bool: return False

    def manual_seed_all(self, seed: int) -> None: ...

    def device_count(self) -> int: return int(_is_on)

    def current_device(self) -> int: return 0

    def set_device(self, device: Any) -> None: ...

    def synchronize(self, device: Any = None) -> None: _counts.wait("synchronize")

    def empty_cache(self) -> None: ...

    def get_device_name(self, device: Any = None) -> str: return "pretend GPU"

    def mem_get_info(self, device: Any = None) -> tuple[int, int]: return self.free_bytes, self.total_bytes

    def memory_allocated(self, device: Any = None) -> int: return 0

    def memory_reserved(self, device: Any = None) -> int: return 0

    def get_amp_supported_dtype(self) -> list[torch.dtype]: return [torch.bfloat16, torch.float16]

    def is_bf16_supported(self, including_emulation: bool = True) -> bool: return True


class _Hook(backend_registration._DummyPrivateUse1Hook):  # type: ignore[name-defined]
    def is_available(self) -> bool:
        return _is_on


def _register() -> list[torch.library.Library]:
    backend_registration._setup_privateuseone_for_python_backend(NAME, backend_module=_DeviceModule(), hook=_Hook())
    library = torch.library.Library("aten", "IMPL")
    for name in _FACTORIES:
        packet = getattr(torch.ops.aten, name)
        for overload in (getattr(packet, one) for one in packet.overloads()):
            arguments = {said.name for said in overload._schema.arguments}
            if "device" in arguments and "names" not in arguments and not overload._schema.is_mutable:
                library.impl(overload, lambda *args, _of=overload, **options: _compute(_of, args, {**options, "device": GPU}), "PrivateUse1")
    library.impl("_local_scalar_dense", lambda item: _compute(torch.ops.aten._local_scalar_dense.default, (item,), {}), "PrivateUse1")  # torch.tensor([...])
    return [library, *register_autocast(NAME)]


_LIBRARIES = _register()  # live as long as the process
_device_constructors()  # PyTorch keeps which functions ``with torch.device(..)`` holds for: PyTorch's own, not those that stand in their place later
GPU = torch.device(NAME, 0)


@contextlib.contextmanager
def pretend_gpu(places: bool = False) -> Iterator[Counts]:
    """The pretend GPU is there, and what it is asked for is counted.

    Parameters
    ----------
    places
        Count by place in the engine too, which takes time.
    """
    global _counts, _is_on
    before, lifts = (_counts, _is_on), torch._C._only_lift_cpu_tensors()
    _counts, _is_on = Counts(places), True
    torch._C._set_only_lift_cpu_tensors(True)  # new_tensor too makes tensors on the CPU and copies them; in this thread only
    with contextlib.ExitStack() as stack:
        stack.callback(torch._C._set_only_lift_cpu_tensors, lifts)
        for name in ("tensor", "as_tensor"):
            stack.enter_context(mock.patch.object(torch, name, _made_on_the_host(getattr(torch, name))))
        stack.enter_context(mock.patch.object(torch, "Generator", _Generator))
        for name in ("rand", "randn", "randint", "randperm", "normal", "multinomial", "bernoulli"):
            stack.enter_context(mock.patch.object(torch, name, _same_device_drawn(getattr(torch, name))))
        try:
            yield _counts
        finally:
            _counts, _is_on = before
