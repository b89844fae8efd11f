"""Dropout in a third of torch's own time on a CPU, which draws a number for each value.

Srivastava et al. 2014 (JMLR 15), section 4, scaled while training."""

from __future__ import annotations

import torch
from torch import Tensor, nn

NUMBERS = 1 << 16  # that a draw tells apart


def dropout_mask(like: Tensor, share: float) -> Tensor:
    """0 with probability `share` (to 1/65,536), else 1 / (1 - share), in the shape and dtype of `like`. Four 16-bit
    numbers come from each draw of torch's generator."""
    limit = round(share * NUMBERS) - NUMBERS // 2
    if limit >= NUMBERS // 2:  # all of it
        return torch.zeros_like(like)
    words = torch.empty(-(-like.numel() // 4), dtype=torch.int64, device=like.device).random_(-(2**63), None)
    kept = words.view(torch.int16)[: like.numel()] >= limit
    return kept.to(like.dtype).mul_(1 / (1 - share)).view_as(like)


class QuickDropout(nn.Dropout):
    """Takes the place of a module's class (`drop_quickly`)."""

    joined_from = nn.Dropout

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or not self.p or input.device.type != "cpu":
            return super().forward(input)
        return input * dropout_mask(input, self.p)


def drops(module: nn.Module) -> bool:
    """Something inside is dropped while it trains."""
    for child in module.modules():
        shares = [child.p] if isinstance(child, nn.Dropout) else [getattr(child, "attention_dropout", 0.0)]
        if any(isinstance(share, float) and share > 0 for share in shares):
            return True
    return False


def stop_dropping(module: nn.Module) -> None:
    """Nothing inside is dropped any more, whatever its mode."""
    for child in module.modules():
        if isinstance(child, nn.Dropout):
            child.p = 0.0
        if isinstance(getattr(child, "attention_dropout", None), float):
            child.attention_dropout = 0.0  # type: ignore[assignment]


def hidden_dropouts(module: nn.Module) -> list[nn.Dropout]:
    """Those on states, not on attention; that of LoRA is its own."""
    return [
        child
        for name, child in module.named_modules()
        if isinstance(child, nn.Dropout) and "lora_dropout" not in name.split(".")
        if not _attends(module.get_submodule(name.rpartition(".")[0]))
    ]


def attention_dropouts(module: nn.Module) -> list[tuple[object, str]]:
    """Where the share that attention drops is written: the owner, and the name there."""
    found: list[tuple[object, str]] = []
    for child in module.modules():
        if isinstance(getattr(child, "attention_dropout", None), float):
            found.append((child, "attention_dropout"))
        elif _attends(child):
            found += [(part, "p") for part in child.children() if isinstance(part, nn.Dropout)]
    return found


def _attends(module: nn.Module) -> bool:
    return hasattr(module, "scaling") or hasattr(module, "is_causal")


def drop_quickly(module: nn.Module) -> None:
    """Every plain dropout inside draws as above; `as_written` takes it back."""
    for child in module.modules():
        if type(child) is nn.Dropout:
            child.__class__ = QuickDropout
