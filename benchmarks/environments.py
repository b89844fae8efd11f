"""What a model earns in the environments that need no data, before it has learned anything: where answers to one prompt
are never worth more or less than one another, there is nothing to learn from. Prints one JSON line an environment."""

from __future__ import annotations

import argparse
import json
import time
from functools import partial
from typing import Any

import numpy as np

from tuneful.adapters import Lora
from tuneful.core.device import prepare_process, seed_everything
from tuneful.core.policy import Policy
from tuneful.environments import GridWorld, GuessNumber, Play, ReasoningGym, TicketDesk
from tuneful.models.embedded import EMBEDDED, pull
from tuneful.models.load import load
from tuneful.models.playing import Player

WORLDS: dict[str, Any] = {
    "guess_number": GuessNumber(),
    "guess_number 1-5": GuessNumber(high=5, turns=4),
    "grid_world": GridWorld(),
    "grid_world 3x3, no walls": GridWorld(rows=3, columns=3, walls=0, turns=6, partial=0.3),
    "ticket_desk": TicketDesk(),
    "reasoning_gym spell_backward": ReasoningGym(dataset="spell_backward", settings={"max_word_len": 4}),
    "reasoning_gym chain_sum": ReasoningGym(settings={"max_terms": 2, "max_digits": 1}, answer=r"(-?\d+)"),
}


def main() -> None:
    args = arguments()
    prepare_process()
    seed_everything(0)
    loaded = load(str(pull(EMBEDDED[args.model])))
    policy = Policy(loaded.network, Lora().attach(loaded.module, labels=False))
    for name, environment in WORLDS.items():
        if problems := getattr(environment, "lacking", list)():
            print(json.dumps({"environment": name, "skipped": problems[0]}), flush=True)
            continue
        begin = time.perf_counter()
        player = Player(loaded.processor, partial(Play, environment), args.new_tokens, 2048)
        asked = [(example, 0) for example in environment.examples(args.prompts, 0)]
        groups = player.play(policy, asked, count=args.answers, temperature=1.0, seed=0)
        rewards = np.array([[tried.reward for tried in group] for group in groups])
        report = {
            "environment": name, "episodes": rewards.size, "reward": round(float(np.nanmean(rewards)), 3),
            "optimum": round(environment.optimum(), 3) if hasattr(environment, "optimum") else 1.0,
            "prompts_with_a_spread": round(float((np.nanstd(rewards, axis=1) > 0).mean()), 2),
            "broken": int(np.isnan(rewards).sum()), "seconds": round(time.perf_counter() - begin, 1),
        }  # fmt: skip
        print(json.dumps(report), flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--answers", type=int, default=8)
    parser.add_argument("--new-tokens", type=int, default=24)
    return parser.parse_args()


if __name__ == "__main__":
    main()
