"""What a watch asks of a training's parameters: nothing that takes time, or waits for a GPU, while all is well."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from harness.rehearsal.parameters import Parameters


class WatchedParameters(Parameters):
    """The optimizers that have stepped, and their gradients; no copy of any parameter is kept."""

    def gradients(self, index: int) -> list[Tensor]:
        """Of an optimizer; each process' own part where they are shared out."""
        found = [p.grad for p in self.of(index) if p.grad is not None]
        return [getattr(g, "_local_tensor", g) for g in found] if any(type(g) is not Tensor for g in found) else found

    def norm_tensor(self, index: int) -> Tensor | None:
        """The L2 norm of an optimizer's gradients as a tensor, one pass over them; ``None`` where it has none."""
        gradients = [g.coalesce().values() if g.is_sparse else g for g in self.gradients(index)]
        if not gradients:
            return None
        with torch.no_grad():
            norms: Any = torch._foreach_norm(gradients, 2)
            if len({(n.device, n.dtype) for n in norms}) > 1:
                norms = [n.to(norms[0].device, torch.float32) for n in norms]
            return torch.linalg.vector_norm(torch.stack(norms))

    def _copies(self, index: int) -> list[Tensor]:
        return []
