"""What a result depends on besides the subject: versions, machine, threads, GPU.

Nothing here fails: what can't be found out is an :class:`Answer` that says why.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from harness import __version__
from harness.config import environment_variables
from harness.errors import Interrupted, describe_exception

T = TypeVar("T")

# What the project declares, by the name that is imported and the distribution's; without the first, nothing is checked.
CHECKS_NEED = {
    "torch": "torch",
    "numpy": "numpy",
    "hypothesis": "hypothesis",
    "jaxtyping": "jaxtyping",
    "PIL": "pillow",
    "skimage": "scikit-image",
    "rich": "rich",
}
REST_NEEDS = {
    "pytorch_msssim": "pytorch-msssim",
    "safetensors": "safetensors",
    "yaml": "PyYAML",
    "matplotlib": "matplotlib",
    "jinja2": "Jinja2",
    "junitparser": "junitparser",
    "jsonschema": "jsonschema",
}
OPTIONAL = (
    "pytest", "pytest-xdist", "pytest-timeout", "nox", "mpmath", "torchmetrics", "torchvision", "lpips", "gsplat",
    "triton", "numba", "kornia", "ray", "redis",
)  # fmt: skip
# Of the environment, what changes numbers, threads or devices.
_TELLING = (
    "ATEN_CPU_CAPABILITY", "DNNL_MAX_CPU_ISA", "ONEDNN_MAX_CPU_ISA", "OMP_NUM_THREADS", "MKL_NUM_THREADS",
    "CUDA_VISIBLE_DEVICES", "CUBLAS_WORKSPACE_CONFIG", "NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "PYTORCH_CUDA_ALLOC_CONF", "PYTHONHASHSEED", "CI",
)  # fmt: skip
# As /proc/cpuinfo spells what decides which kernels run.
_FEATURES = ("avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "asimd", "sve")


@dataclass(frozen=True)
class Answer(Generic[T]):
    """What a question gave, or in one sentence why there is no answer."""

    value: T | None
    why_not: str = ""

    def __str__(self) -> str:
        return self.why_not if self.value is None else str(self.value)


def ask(question: Callable[[], T], what: str = "unknown") -> Answer[T]:
    """The answer; whatever the question raises is told instead."""
    try:
        return Answer(question())
    except (KeyboardInterrupt, Interrupted):
        raise
    except BaseException as error:
        return Answer(None, f"{what} ({describe_exception(error)})")


@dataclass(frozen=True)
class Package:
    """A package. ``version`` is ``None`` where it is missing; ``broken`` says why it can't be imported.

    ``for_checks``: without it nothing is checked; without others only goldens, plots or the default subjects are not.
    """

    name: str
    version: str | None
    broken: str = ""
    for_checks: bool = False


@dataclass(frozen=True)
class Processor:
    """What computes on the CPU.

    Attributes:
        capability: the vector instructions that torch uses, as it names them (``AVX512``, ``AVX2``, ``DEFAULT``).
        features: what the processor has of those that matter here, as Linux spells them.
        cores: logical, of the machine; ``usable`` of them by this process.
    """

    name: Answer[str]
    capability: Answer[str]
    features: tuple[str, ...]
    cores: int | None
    usable: int | None


@dataclass(frozen=True)
class Threads:
    """How many threads torch takes within an op and between ops."""

    within: Answer[int]
    between: Answer[int]


@dataclass(frozen=True)
class Gpu:
    """What CUDA there is.

    Attributes:
        names: of the GPUs that torch can use, in its order; where there are none, why.
        driver: NVIDIA's kernel driver.
        tf32: whether float32 convolutions, and matrix products, may be rounded to TF32's ten bits of mantissa.
    """

    names: Answer[tuple[str, ...]]
    driver: Answer[str]
    tf32: Answer[dict[str, bool]]


@dataclass(frozen=True)
class Environment:
    """All of it.

    Attributes:
        build: torch's: the CUDA version that it was built for, or ``CPU``.
        numba_why_not: why Numba, which the default loss is fast with, can't be imported, or empty.
    """

    harness: str
    place: str
    python: str
    system: Answer[str]
    build: Answer[str]
    needed: tuple[Package, ...]
    optional: tuple[Package, ...]
    numba_why_not: str
    processor: Processor
    threads: Threads
    gpu: Gpu
    variables: dict[str, str]


def full_environment() -> Environment:
    """Ask everything. Takes torch's import, and on a machine with a GPU its start."""
    needed = (
        *(_imported(module, name, for_checks=True) for module, name in CHECKS_NEED.items()),
        *(_imported(module, name, for_checks=False) for module, name in REST_NEEDS.items()),
    )
    torch = ask(_torch)
    return Environment(
        harness=__version__,
        place=str(Path(__file__).resolve().parents[1]),
        python=f"{platform.python_implementation()} {sys.version.split()[0]}",
        system=ask(lambda: f"{_system()}, {platform.machine()}"),
        build=_of(torch, _build),
        needed=needed,
        optional=tuple(Package(name, _version(name)) for name in OPTIONAL),
        numba_why_not=_why_not_numba(),
        processor=Processor(
            name=ask(_processor_name),
            capability=_of(torch, _capability),
            features=ask(_processor_features).value or (),
            cores=os.cpu_count(),
            usable=ask(_usable_cores).value,
        ),
        threads=Threads(
            _of(torch, lambda torch: int(torch.get_num_threads())),
            _of(torch, lambda torch: int(torch.get_num_interop_threads())),
        ),
        gpu=Gpu(_gpu_names(torch), ask(_driver, "no driver"), _of(torch, _tf32)),
        variables=environment_variables(_TELLING, prefix="HARNESS_"),
    )


def environment() -> dict[str, Any]:
    """What a report says of it, as plain values: only what is quickly asked."""
    torch = ask(_torch)
    names = _gpu_names(torch).value
    return {
        "harness": __version__,
        "python": sys.version.split()[0],
        "platform": f"{platform.system()} {platform.machine()}",
        "torch": _of(torch, lambda torch: str(torch.__version__)).value,
        "hypothesis": _version("hypothesis"),
        "pytorch_msssim": _version("pytorch-msssim"),
        "cpu_capability": _of(torch, _capability).value,
        "threads": _of(torch, lambda torch: int(torch.get_num_threads())).value,
        "gpu": names[0] if names else None,
    }


def tf32_allowed() -> dict[str, bool]:
    """Whether float32 convolutions, and matrix products, may be TF32 on a GPU; empty where torch doesn't say."""
    return _of(ask(_torch), _tf32).value or {}


def _torch() -> Any:
    return importlib.import_module("torch")


def _of(torch: Answer[Any], question: Callable[[Any], T]) -> Answer[T]:
    """What torch answers, where it can be imported."""
    if torch.value is None:
        return Answer(None, "not known without torch")
    return ask(lambda: question(torch.value))


def _version(distribution: str) -> str | None:
    return ask(lambda: importlib.metadata.version(distribution)).value


def _imported(module: str, distribution: str, for_checks: bool) -> Package:
    version = _version(distribution)
    found = ask(lambda: importlib.import_module(module), "can't be imported")
    if found.value is None:
        missing = version is None and ask(lambda: importlib.util.find_spec(module)).value is None
        return Package(distribution, version, "not installed" if missing else found.why_not, for_checks)
    # torch's own version says its build too (2.6.0+cu124), and what lies on the path uninstalled has no other.
    own = str(vars(found.value).get("__version__", ""))
    fits = own if own.startswith(version or "") else version
    return Package(distribution, fits or "of an unknown version", for_checks=for_checks)


def _why_not_numba() -> str:
    package = _imported("numba", "numba", for_checks=False)
    if package.broken and package.version is None:
        return "numba is not installed"
    return package.broken and f"numba {package.version}, {package.broken}"


def _build(torch: Any) -> str:
    if torch.version.cuda:
        return f"CUDA {torch.version.cuda}"
    hip = getattr(torch.version, "hip", None)
    return f"ROCm {hip}" if hip else "CPU"


def _capability(torch: Any) -> str:
    return str(torch.backends.cpu.get_cpu_capability())


def _system() -> str:
    if sys.platform == "linux":
        release = ask(lambda: platform.freedesktop_os_release()["PRETTY_NAME"]).value
        return f"{release or 'Linux'}, kernel {platform.release()}"
    return platform.platform()


def _cpuinfo(*keys: str) -> Iterator[str]:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in keys:
            yield value.strip()


def _processor_name() -> str:
    if sys.platform == "linux":
        return next(_cpuinfo("model name", "Model"), "") or platform.machine()
    return platform.processor() or platform.machine()


def _processor_features() -> tuple[str, ...]:
    flags = set(next(_cpuinfo("flags", "Features"), "").split())
    return tuple(name for name in _FEATURES if name in flags)


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _gpu_names(torch: Answer[Any]) -> Answer[tuple[str, ...]]:
    if torch.value is None:
        return Answer(None, "not known without torch")
    cuda = torch.value.cuda
    if ask(cuda.is_available).value is True:
        return ask(
            lambda: tuple(str(cuda.get_device_name(i)) for i in range(cuda.device_count())), "there, but unusable"
        )
    if not torch.value.version.cuda:
        return Answer(None, f"none that torch could use: it is a {_of(torch, _build)} build")
    return Answer(None, ask(cuda.init, "none").why_not or "none that torch sees")


def _driver() -> str:
    text = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8", errors="replace")
    found = re.search(r"\s(\d+\.\d+(?:\.\d+)?)\s", text)
    return found[1] if found else text.splitlines()[0].strip()


def _tf32(torch: Any) -> dict[str, bool]:
    return {
        "convolutions": bool(torch.backends.cudnn.allow_tf32),
        "matrix products": bool(torch.backends.cuda.matmul.allow_tf32),
    }
