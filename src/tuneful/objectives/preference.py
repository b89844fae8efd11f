"""Of two answers to one prompt the better becomes likelier than the worse, measured against the model as it was."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, model_validator
from torch import Tensor

from tuneful.core.policy import Policy
from tuneful.core.spec import Spec
from tuneful.core.types import Batch, Layout, Terms
from tuneful.objectives.answers import Told, before, compared, pairs, preferred, told

BETA, NORMALISED_BETA = 0.1, 5.0


class Dpo(Spec):
    """Direct preference optimisation (Rafailov et al. 2023, arXiv:2305.18290, equation 7).

    With p of a whole answer, w the chosen and l the rejected one, the reward of an answer is r = beta log(p / p before
    tuning), and the loss of a pair -log sigmoid(r_w - r_l): log 2 at the start. `loss` and the rest are variants:

    - `ipo`: ((r_w - r_l) / beta - 1 / (2 beta))^2 (Azar et al. 2023, arXiv:2310.12036, equation 17), which does not
      drive the margin ever further where all agree.
    - `robust`: unbiased where a share e of the pairs is the wrong way round, `label_smoothing` (Chowdhury et al. 2024,
      arXiv:2403.00409): (-(1 - e) log sigmoid(h) + e log sigmoid(-h)) / (1 - 2 e), h = r_w - r_l.
    - `normalise`: r is a mean over the tokens of the answer (Lambert et al. 2024, arXiv:2411.15124, section 5), so that
      a long answer is not preferred for its length.
    - `sft`: what the loss of the chosen answer, a token, adds (Pang et al. 2024, arXiv:2404.19733); it holds up the
      likelihood of chosen answers, which otherwise often falls.
    """

    layout: ClassVar[Layout] = Layout.PREFERENCES

    kind: Literal["dpo"] = "dpo"
    loss: Literal["sigmoid", "ipo", "robust"] = "sigmoid"
    """What becomes of the difference of rewards."""
    beta: PositiveFloat | None = None
    """How firmly the model is held where it was: large, and it moves less. None: 0.1; with `normalise` 5, as a mean is
    so much smaller than a sum."""
    normalise: bool = False
    """Rewards are means over the tokens of an answer."""
    sft: NonNegativeFloat = 0.0
    """Weight of the loss of the chosen answer."""
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """Share of the pairs that is taken to be the wrong way round."""

    @model_validator(mode="after")
    def _fits(self) -> Dpo:
        if self.loss == "robust" and not self.label_smoothing:
            raise ValueError("loss: robust is about pairs that are the wrong way round; say what share of them is, for "
                             "example label_smoothing: 0.1")  # fmt: skip
        if self.loss == "ipo" and self.label_smoothing:
            raise ValueError("label_smoothing: ipo has none; leave it out, or take loss: sigmoid or robust")
        return self

    @property
    def strength(self) -> float:
        """beta, where nobody says the one that suits."""
        return self.beta or (NORMALISED_BETA if self.normalise else BETA)

    def __call__(self, policy: Policy, batch: Batch) -> Terms:
        outputs = policy(batch)
        now = told(outputs, batch)
        rewards_T = self.rewards(now, before(policy, batch))
        better_R, worse_R = pairs(rewards_T)
        losses_R = self._losses(better_R - worse_R)
        if self.sft:
            losses_R = losses_R - self.sft * pairs(now.means)[0]
        return Terms(losses=losses_R, outputs=outputs, metrics=compared(rewards_T))

    def rewards(self, now: Told, before_T: Tensor) -> Tensor:
        """(T,) of each answer; `before_T` is its log p before tuning."""
        gained_T = now.sums - before_T
        return self.strength * (gained_T / now.lengths if self.normalise else gained_T)

    def _losses(self, margins_R: Tensor) -> Tensor:
        smooth = self.label_smoothing
        if self.loss == "ipo":
            return (margins_R / self.strength - 0.5 / self.strength).square()
        right_R, wrong_R = preferred(margins_R), preferred(-margins_R)
        if self.loss == "robust":
            return ((1 - smooth) * right_R - smooth * wrong_R) / (1 - 2 * smooth)
        return (1 - smooth) * right_R + smooth * wrong_R if smooth else right_R
