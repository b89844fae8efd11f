"""Is the model rewarded more for what it writes, and do others agree that it is better?

The likeliest answers to held-out prompts, or episodes played with them, before and after tuning. What is optimised can
be cheated, so beside the reward stand judges that nothing was learned from, how long answers are, and how often they
repeat themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from tuneful.core.device import give_back_freed_memory
from tuneful.core.environment import Reward
from tuneful.core.policy import Policy
from tuneful.core.types import Row, Said
from tuneful.environments.in_time import Failed, answers, finite
from tuneful.evaluation.compare import Examined, Score, score
from tuneful.evaluation.metrics import METRICS, REWARD_METRICS, words
from tuneful.evaluation.reading import some
from tuneful.evaluation.settings import Evaluate
from tuneful.models.playing import Player, Tried, has_answer, parts_of

SEED = 0  # of the episodes that are shown and measured
PATIENCE = 60.0  # seconds that judging a reply once more may take
PIECE = 4  # words that are said again


def examine_rewarded(
    policy: Policy, player: Player, train: Sequence[Row], test: Sequence[Row], settings: Evaluate
) -> Examined:
    """`train` rows say which answer is the commonest, which the trivial rule always gives where one reply is all."""
    rows = some(test, settings.generate)
    played = {system: played_out(policy, player, rows, original=system == "base") for system in ("base", "tuned")}
    rewards = {system: [one.reward for one in own] for system, own in played.items()}
    if (constant := commonest(train)) is not None:
        rewards["trivial"] = _always(player, rows, constant)
    both = np.array([rewards["base"], rewards["tuned"]])
    known = np.flatnonzero(~np.isnan(both).any(0)).tolist()  # rewarded before and after
    if not known:
        return Examined([], settings.primary or REWARD_METRICS[0], [], [Said("all_broken", {"why": _why(played)})])
    if np.isnan([rewards.get("trivial", [0.0] * len(rows))[place] for place in known]).any():
        del rewards["trivial"]  # what judges answers does not take this one everywhere
    told = {system: [values[place] for place in known] for system, values in rewards.items()}
    scores = [score(METRICS["reward"], known, told)]
    if settings.verify:
        verified = {system: _verified(own, rows, settings.verify) for system, own in played.items()}
        sure = [at for at in known if not any(np.isnan(own[at]) for own in verified.values())]
        if sure:
            scores.append(
                score(METRICS["verified"], sure, {s: [own[at] for at in sure] for s, own in verified.items()})
            )
    listed = [_shown(rows[place], {system: own[place] for system, own in played.items()}) for place in known]
    for place, answer in enumerate(listed):
        answer["rewards"] = {system: values[place] for system, values in told.items()}
        if settings.verify:
            answer["verified"] = {system: own[known[place]] for system, own in verified.items()}
    notes = [Said("answers_written", {"n": len(rows), **_habits(played)}), *_parts(played), *_hacked(scores)]
    if len(known) < len(rows):
        notes.append(Said("some_broken", {"n": len(rows) - len(known), "of": len(rows), "why": _why(played)}))
    return Examined(scores, settings.primary or REWARD_METRICS[0], listed, notes)


def played_out(policy: Policy, player: Player, rows: Sequence[Row], *, original: bool = False) -> list[Tried]:
    """The likeliest way to play each row's episode."""
    give_back_freed_memory()
    asked = [(row.example, SEED) for row in rows]
    return [one for (one,) in player.play(policy, asked, temperature=0.0, original=original)]


def commonest(rows: Sequence[Row]) -> str | None:
    """What most training rows expect as their answer; None where they say none."""
    expected = [_expected(row) for row in rows]
    return Counter(expected).most_common(1)[0][0] if expected and all(expected) else None


def _always(player: Player, rows: Sequence[Row], reply: str) -> list[float]:
    """The rewards of one reply to everything, for as long as an episode lasts."""
    games = player.begin([(row.example, SEED) for row in rows])
    while games.open:
        games.reply(dict.fromkeys(games.open, reply))
    return [float("nan") if game.broken else float(game.reward) for game in games.games]


def _verified(played: Sequence[Tried], rows: Sequence[Row], rewards: Sequence[Reward]) -> list[float]:
    """What judges say of the last replies that nothing was learned from; not a number where one fails."""

    def job(one: Tried, row: Row) -> float:
        reply = one.replies[-1] if one.replies else ""
        return sum(reward.weight * finite(reward(reply, row.example), reward.kind) for reward in rewards)

    found = answers([partial(job, one, row) for one, row in zip(played, rows, strict=True)], patience=PATIENCE)
    return [float("nan") if isinstance(value, Failed) else value for value in found]


def _expected(row: Row) -> str:
    if has_answer(row.example):
        return row.example.messages[-1].content
    return "" if row.example.label is None or row.example.messages else str(row.example.label)


def _shown(row: Row, played: Mapping[str, Tried]) -> dict[str, Any]:
    """A conversation is shown from its first request on."""
    asked = [message.content for message in played["tuned"].game.messages if message.role == "user"]
    told = {system: _said(one) for system, one in played.items()}
    return {"row": str(row.example.place), "asked": asked[0] if asked else "", "expected": _expected(row), **told}


def _said(tried: Tried) -> str:
    """What the model said; of several turns with what it heard between them."""
    if len(tried.replies) < 2:
        return "\n".join(tried.replies)
    first = next(n for n, message in enumerate(tried.game.messages) if message.role == "assistant")
    marks = {"assistant": "> "}
    return "\n".join(marks.get(message.role, "") + message.content for message in tried.game.messages[first:])


def _habits(played: Mapping[str, Sequence[Tried]]) -> dict[str, Any]:
    """By system: words of an episode, the share of pieces of text that were said before in it, and of cut answers."""
    found: dict[str, Any] = {}
    for system, own in played.items():
        texts = ["\n".join(one.replies) for one in own]
        found[f"{system}_words"] = round(float(np.mean([len(words(text)) for text in texts])), 1)
        found[f"{system}_repeated"] = round(100 * float(np.mean([repeated(text) for text in texts])))
        found[f"{system}_cut"] = round(100 * float(np.mean([one.truncated for one in own])))
    return found


def repeated(text: str) -> float:
    """The share of its pieces of four words that stand in it before."""
    said = words(text)
    pieces = [tuple(said[start : start + PIECE]) for start in range(len(said) - PIECE + 1)]
    return 1 - len(set(pieces)) / len(pieces) if pieces else 0.0


def _parts(played: Mapping[str, Sequence[Tried]]) -> list[Said]:
    """What rewards are made of, where that is several things."""
    found = {system: parts_of(own) for system, own in played.items()}
    names = sorted(set(found["base"]) | set(found["tuned"]))
    if len(names) < 2:
        return []
    told = "; ".join(
        f"{name} {found['base'].get(name, 0.0):.3g} -> {found['tuned'].get(name, 0.0):.3g}" for name in names
    )
    return [Said("reward_parts", {"parts": told})]


def _hacked(scores: Sequence[Score]) -> list[Said]:
    """Says so where the reward surely rose and what verifies it surely fell, or did not move."""
    by_name = {one.metric: one for one in scores}
    if "verified" not in by_name or not by_name["reward"].against["base"].better(higher_is_better=True):
        return []
    verified = by_name["verified"]
    facts = {name: round(verified.values[name], 3) for name in ("base", "tuned")}
    if verified.against["base"].better(higher_is_better=True):
        return []
    worse = verified.against["base"].worse(higher_is_better=True)
    return [Said("reward_hacked", facts) if worse else Said("reward_unverified", facts)]


def _why(played: Mapping[str, Sequence[Tried]]) -> str:
    """The first reason why an answer has no reward."""
    return next((one.broken for own in played.values() for one in own if one.broken), "no prompt leaves room to answer")
