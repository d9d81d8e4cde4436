"""Models of ``transformers`` in f64 throughout, the operations included that the library does in f32."""

from __future__ import annotations

from types import MethodType

import torch


def widen(model: torch.nn.Module) -> None:
    """Replace the forwards of norms and of rotations, which compute in f32 whatever the model's dtype."""
    for module in model.modules():
        kind = type(module).__name__
        if kind.endswith("RMSNorm"):
            module.forward = MethodType(_rms_norm, module)
        elif kind.endswith("RotaryEmbedding"):
            module.forward = MethodType(_rotary, module)


def _rms_norm(module: torch.nn.Module, hidden_states: torch.Tensor) -> torch.Tensor:
    is_gemma = type(module).__name__.startswith("Gemma")
    eps, weight = (module.eps, 1 + module.weight) if is_gemma else (module.variance_epsilon, module.weight)
    return weight * (hidden_states * torch.rsqrt(hidden_states.pow(2).mean(-1, keepdim=True) + eps))


def _rotary(
    module: torch.nn.Module, x: torch.Tensor, position_ids: torch.Tensor, layer_type: str | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The frequencies are the model's own, in f32; angles, cosines and sines are f64."""
    prefix = "" if layer_type is None else f"{layer_type}_"
    angles = position_ids[..., None].double() * getattr(module, f"{prefix}inv_freq").double()
    angles = torch.cat((angles, angles), dim=-1)
    scale = getattr(module, f"{prefix}attention_scaling")
    return (angles.cos() * scale).to(x.dtype), (angles.sin() * scale).to(x.dtype)
