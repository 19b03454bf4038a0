"""One way in which a script uses CUDA."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Use:
    """A call as a script writes it, and what must hold of it.

    Attributes:
        call: what is used, as the reference shows it.
        holds: an expression that is true in the pretence, and without it false or an error.
        before: statements before it.
        anywhere: whether it is true without the pretence as well.
        needs: a name that not every torch has.
    """

    call: str
    holds: str
    before: str = ""
    anywhere: bool = False
    needs: str = ""

    def is_there(self) -> bool:
        """Whether this torch has it."""
        found: Any = torch
        for name in self.needs.split(".")[1:]:
            found = getattr(found, name, None)
        return found is not None

    def run(self) -> bool:
        """Whether it holds."""
        names: dict[str, Any] = {"torch": torch, "nn": torch.nn, "F": torch.nn.functional}
        exec(self.before, names)
        return eval(self.holds, names) is True
