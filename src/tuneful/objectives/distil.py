"""Next tokens as the untuned model expects them."""

from __future__ import annotations

from typing import ClassVar, Literal

from tuneful.core.policy import Policy
from tuneful.core.spec import Spec
from tuneful.core.types import Batch, Layout, Terms


class Distil(Spec):
    """One loss a token: KL(before tuning || now) of the next-token distributions, over the whole vocabulary, in nats
    (Hinton et al. 2015, arXiv:1503.02531, section 2, temperature 1). Of text that the untuned model wrote, where the
    tokens by themselves would be learned by heart. In no table: `schedule.own_text` takes it, no recipe names it."""

    layout: ClassVar[Layout] = Layout.TOKENS

    kind: Literal["distil"] = "distil"

    def __call__(self, policy: Policy, batch: Batch) -> Terms:
        outputs = policy(batch)
        return Terms(losses=outputs.token_kl(policy.reference(batch), batch.targets["where"]), outputs=outputs)
