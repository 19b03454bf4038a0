"""Random numbers: those of the pretended GPUs come from the CPU's one stream."""

from __future__ import annotations

from typing import Any

import torch

from harness.pretence.placement import HOST, Placement

_STOCK = torch.Generator
_CPU_GENERATOR = torch.default_generator


def stand_ins(placement: Placement) -> dict[str, Any]:
    """The functions of ``torch.cuda.random``."""

    def get_state(device: Any = "cuda") -> torch.Tensor:
        return _CPU_GENERATOR.get_state()

    def set_state(new_state: torch.Tensor, device: Any = "cuda") -> None:
        _CPU_GENERATOR.set_state(new_state)

    def set_states(new_states: Any) -> None:
        for state in new_states:
            set_state(state)

    def seed() -> None:
        _CPU_GENERATOR.seed()

    def manual_seed(seed: int) -> None:
        _CPU_GENERATOR.manual_seed(int(seed))

    return {
        "get_rng_state": get_state,
        "get_rng_state_all": lambda: [get_state() for _ in range(placement.devices)],
        "set_rng_state": set_state,
        "set_rng_state_all": set_states,
        "manual_seed": manual_seed,
        "manual_seed_all": manual_seed,
        "seed": seed,
        "seed_all": seed,
        "initial_seed": lambda: _CPU_GENERATOR.initial_seed(),
        "default_generators": (_CPU_GENERATOR,) * placement.devices,
    }


def generator_class(placement: Placement) -> Any:
    """Stands for ``torch.Generator``: one of a pretended GPU is a CPU generator that answers as asked."""

    stock: Any = _STOCK
    meta: Any = type(_STOCK)

    class _Meta(meta):
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, stock)

    class Generator(stock, metaclass=_Meta):
        def __new__(cls, device: Any = "cpu") -> Any:
            index = placement.index(device)
            made: Any = stock.__new__(cls, device if index is None else "cpu")
            made._pretended = HOST if index is None else index
            return made

        def __init__(self, device: Any = "cpu") -> None:
            pass

        @property
        def device(self) -> torch.device:
            pretended: int = self._pretended
            return torch.device("cpu") if pretended == HOST else torch.device("cuda", pretended)

    return Generator
