"""What is measured, and how much of it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator

from tuneful.core.spec import Spec
from tuneful.data.augment.paraphrase import Rewords
from tuneful.environments import REWARDS
from tuneful.evaluation.probes import PROBES

MetricName = Literal[
    "exact_match", "accuracy", "macro_f1", "mcc", "rouge_l", "token_f1", "perplexity",
    "mae", "rmse", "pearson", "spearman",
    "ndcg_at_10", "mrr_at_10", "recall_at_10", "accuracy_at_1",
    "one_shot_accuracy", "five_shot_accuracy",
    "preference_accuracy", "likelihood_accuracy", "likelihood_margin", "chosen_logprob", "judged_accuracy",
    "reward", "verified",
]  # fmt: skip


class Reworded(Rewords):
    """Test rows in other words, of which those count that still say the same."""

    similar: Annotated[float, Field(ge=-1, le=1)] = 0.7
    """Least cosine of the two vectors."""
    encoder: str | None = None
    """Who reads them, frozen. None: the embedded encoder of the texts' language."""


class Evaluate(Spec):
    """What is measured during and after a run. `evaluate: none` measures nothing."""

    enabled: bool = True
    """False: no measuring at all, and so no verdict."""
    every: PositiveInt | None = None
    """Updates between looks at the validation rows. None: about ten looks a run."""
    patience: NonNegativeInt = 4
    """Looks without a better one after which training stops; 0 = never stop early."""
    generate: PositiveInt = 100
    """Test rows a generator answers in full, once for each system that is compared."""
    shots: NonNegativeInt = 4
    """Training rows shown in the prompt of the k-shot baseline; 0 = leave it out."""
    shots_by: Literal["spread", "nearest"] = "spread"
    """Which rows those are: the same for every test row, so that they are read once, or for each the nearest to it."""
    new_tokens: PositiveInt | None = None
    """Longest answer in tokens. None: 32 more than all but the longest training answers, at most 512."""
    primary: MetricName | None = None
    """The metric of the verdict. None: the one that fits the data."""
    forgetting: bool = True
    """Measure what was forgotten."""
    verify: list[REWARDS.field] = Field(default_factory=list)  # type: ignore[name-defined]
    """With schedule rollouts: rewards that nothing is learned from, and that say of the last reply whether a model that
    earns more is better, or has found out how to please its judge."""
    robustness: bool = True
    """Ask a classifier about its test rows, 500 at most, once more with typos, in capitals and without punctuation."""
    paraphrase: Reworded | None = None
    """Ask a classifier about its test rows in other words too, and who writes these. Answers are kept on this computer.
    None: nobody is asked."""
    by_group: bool = True
    """Measure how a classifier treats the groups of its test rows (data.group, and those that texts mention), and
    whether it answers otherwise when a text speaks of another group."""
    affinity: bool = False
    """Measure which of the tasks that are learned together helps which: what a step on one alone would take off the
    loss of each other, over the run, which itself stays as it is. It takes a quarter more time or somewhat more."""
    affinity_every: PositiveInt | None = None
    """Updates between these measurements. None: so many that all of them take a quarter of the time of training."""
    bias: Literal["auto"] | list[PROBES.field] = "auto"  # type: ignore[name-defined]
    """Probes of what a model that writes finds likelier to be said of whom. auto: the built-in one, after ten seconds
    of training or more, or where a gate asks for it; none: nothing is asked."""
    memorisation: NonNegativeInt = 32
    """Training rows a model that writes is shown the beginning of, to see whether it goes on word for word, and as many
    held-out ones; 0 = none."""
    canaries: Annotated[int, Field(ge=0, le=100)] = 0
    """Random sequences that are planted in the training rows of a model that writes, to measure how well it knows them
    afterwards. It changes what is learned, so by default there are none."""
    learning_curve: bool | Literal["auto"] = "auto"
    """Say what twice the rows would bring, by heads solved for ever more of them over the encoder as it was. auto: for
    an encoder with classes, where it takes seconds."""

    @field_validator("verify", mode="before")
    @classmethod
    def _as_rewards(cls, value: Any) -> Any:
        if value in ("none", "off", False, None):
            return []
        return [value] if isinstance(value, str | dict) else value

    @field_validator("bias", mode="before")
    @classmethod
    def _as_probes(cls, value: Any) -> Any:
        if value in ("none", "off", False, None):
            return []
        return [value] if isinstance(value, dict) or (isinstance(value, str) and value != "auto") else value

    @field_validator("bias")
    @classmethod
    def _each_once(cls, value: Any) -> Any:
        kinds = [] if value == "auto" else [probe.kind for probe in value]
        if twice := [kind for kind in dict.fromkeys(kinds) if kinds.count(kind) > 1]:
            raise ValueError(f"'{twice[0]}' is asked twice, and a report has one place for it; ask it in two runs, or "
                             "by `tuneful audit`")  # fmt: skip
        return value
