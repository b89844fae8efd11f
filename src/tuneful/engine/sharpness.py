"""Looking for flat places: the gradient is taken where the loss is worst nearby."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import PositiveFloat
from torch import Tensor, nn

from tuneful.engine.update import Summed, gradient_norm


class Sam(Summed):
    """Sharpness-aware minimisation: the gradient at w + rho * g / |g| (Foret et al. 2021, arXiv:2010.01412, equations 2
    and 3). Every update is computed twice.

    Differs: several ranks climb by the gradient of the whole batch, so that they do what one would; in the paper each
    accelerator climbs by its own part.
    """

    kind: Literal["sam"] = "sam"
    rho: PositiveFloat = 0.05
    """How far the worst place may lie."""

    def climb(self, parameters: Sequence[nn.Parameter]) -> list[Tensor]:
        """Goes where the loss is worst, and says what the weights were; gradients are gone."""
        before = [parameter.detach().clone() for parameter in parameters]
        norm = gradient_norm(parameters, 0)
        with torch.no_grad():
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.add_(parameter.grad, alpha=self.rho / max(norm, 1e-12))
        self.restart(parameters)
        return before

    def back(self, parameters: Sequence[nn.Parameter], before: Sequence[Tensor]) -> None:
        """The weights are what they were."""
        with torch.no_grad():
            for parameter, weight in zip(parameters, before, strict=True):
                parameter.copy_(weight)
