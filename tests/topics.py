"""Made-up queries and documents: what a query asks is told by its words, of which its document has none."""

from __future__ import annotations

from typing import Any

import numpy as np

TOPICS = {
    "weather": "sunny rain cloud storm wind", "kitchen": "bread soup plate oven spoon", "garden": "tree soil leaf seed rake",
    "office": "desk paper chair lamp memo", "music": "song drum flute chord tune", "travel": "train ticket hotel map bag",
    "sports": "goal race team ball jump", "school": "exam pupil class chalk lesson",
}  # fmt: skip
DOCUMENTS = {topic: f"page {number} {topic.upper()}" for number, topic in enumerate(TOPICS)}


def asked(count: int = 160, *, seed: int = 0) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        topic = list(TOPICS)[number % len(TOPICS)]
        words = rng.permutation(TOPICS[topic].split())[:3]
        rows.append({"query": f"{' '.join(words)} {number}", "document": DOCUMENTS[topic]})
    return rows
