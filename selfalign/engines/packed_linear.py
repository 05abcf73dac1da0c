"""Linear layers whose weights lie as the processor's matrix kernels want them, for inference on a CPU.

torch's own linear layer leaves weights row by row, and its kernels arrange them anew in every product: with the few
rows of a decode step that costs up to half of the time. oneDNN takes weights that were arranged once; they are the
same numbers, and results differ by rounding only. The operators are those that torch's compiler (Inductor, with
``freezing``) uses.
"""

from __future__ import annotations

from typing import Any

import torch

#: Rows that the arrangement is made for. It serves others as well: within 5 % from 16 to 1024 rows (measured).
_ROWS = 64


class PackedLinear(torch.nn.Module):  # type: ignore[misc]
    """``linear`` [..., in] -> [..., out], for inference only; it cannot be saved or trained."""

    def __init__(self, linear: torch.nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        # Neither is a parameter: nobody should find weights here that mean nothing without their arrangement.
        self._weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), _ROWS)
        self._bias = None if linear.bias is None else linear.bias.detach()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, "none", [], "")
        return product


def pack_linears(model: Any) -> int:
    """Replace the linear layers of ``model`` in place where that can be done; returns how many were."""
    if model.device.type != "cpu" or model.dtype != torch.float32 or not _works():
        return 0
    found = [
        (module, name, child)
        for module in model.modules()
        for name, child in module.named_children()
        if type(child) is torch.nn.Linear
    ]
    for module, name, child in found:
        setattr(module, name, PackedLinear(child))
    return len(found)


def _works() -> bool:
    """Whether this build of torch has the operators, and they give what its own layer gives."""
    generator = torch.Generator().manual_seed(0)
    linear = torch.nn.Linear(48, 80)
    rows = torch.randn(3, 5, 48, generator=generator)
    try:
        with torch.inference_mode():
            return bool(torch.allclose(PackedLinear(linear)(rows), linear(rows), rtol=1e-4, atol=1e-4))
    except (AttributeError, RuntimeError, NotImplementedError):
        return False
