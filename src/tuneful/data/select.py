"""Which training rows are worth learning, chosen before training by where a model puts them, by their length, or by
lot.

A selector sees arrays and no model: `run/select.py` reads the rows and asks it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import BeforeValidator, Field

from tuneful.core.errors import DataError
from tuneful.core.spec import Spec, Table

TAKEN = 2.0  # more than any cosine
HALVINGS = 12  # in the search for a cosine


def as_keep(value: Any) -> float | int:
    """`10%` and 0.1 are a share, 500 is a number of rows. Raises ValueError."""
    text = str(value).strip()
    percent = text.endswith("%")
    try:
        number = float(text.removesuffix("%")) / (100 if percent else 1)
    except ValueError:
        number = -1.0
    if isinstance(value, bool) or not (0 < number < 1 or (number >= 1 and number == int(number) and not percent)):
        raise ValueError(
            f"expected a share of the rows between 0 and 1, or below 100%, or a whole number of rows from 1 on; found "
            f"{value!r}. To learn all rows leave select out"
        )
    return int(number) if number >= 1 else number


Keep = Annotated[float, BeforeValidator(as_keep, json_schema_input_type=float | str)]


@dataclass(frozen=True, slots=True)
class Pool:
    """The rows to choose among. Cosines are products of vectors, which are of unit length."""

    lengths: np.ndarray  # (N,) tokens that would be learned; of texts with labels, all there are
    vectors: np.ndarray | None = None  # (N, D), where they were read
    queries: np.ndarray | None = None  # (Q, D) rows of the kind that is wanted
    sources: np.ndarray | None = None  # (Q,) which file a query comes from

    def part(self, places: np.ndarray) -> Pool:
        """Of these rows alone."""
        vectors = None if self.vectors is None else self.vectors[places]
        return replace(self, lengths=self.lengths[places], vectors=vectors)


class Select(Spec):
    """What every selector is told."""

    reads: ClassVar[bool] = False  # chooses by vectors
    asks: ClassVar[bool] = False  # chooses by queries

    keep: Keep = 0.1
    """How much is learned: a share of the training rows (10% or 0.1), or a number of rows. A tenth unless you say
    otherwise."""
    target: str | None = None
    """File of rows of the kind that is wanted. The report says how near the kept rows come to them, and `rds` chooses
    by them. None: half of the validation rows stand for them where rows are read; never test rows."""
    compare: bool = False
    """Before the run, two short ones: the kept rows and as many random ones, asked about the same validation rows."""

    def count(self, rows: int) -> int:
        """How many of so many rows are kept. Raises DataError."""
        wanted = int(self.keep) if self.keep >= 1 else max(1, round(self.keep * rows))
        if wanted >= rows:
            raise DataError(f"data.select.keep asks for {wanted:,} rows and there are {rows:,} to choose among; keep "
                            "fewer, or leave data.select out")  # fmt: skip
        return wanted

    def choose(self, pool: Pool, count: int, seed: int) -> np.ndarray:
        """(count,) different places in the pool, the best first."""
        raise NotImplementedError


class RDS(Select):
    """RDS+: rows whose representation is nearest to rows of the kind that is wanted (Ivison et al. 2025,
    arXiv:2503.01807, section 3.2).

    A row is the mean of its last hidden states, later tokens counting more (`run/vectors.py`), read by the model that
    will be tuned. Differs from the paper: where a model looks both ways the mean is even.
    """

    reads: ClassVar[bool] = True
    asks: ClassVar[bool] = True

    kind: Literal["rds"] = "rds"
    turns: Literal["queries", "sources"] | None = None
    """Who takes a row in turn: each of the `queries` the row nearest to it, or each of the `sources` the row nearest to
    any of its queries. None: sources where queries come from several files, else queries, as the authors' code does."""

    def choose(self, pool: Pool, count: int, seed: int) -> np.ndarray:
        assert pool.vectors is not None and pool.queries is not None and pool.sources is not None  # noqa: PT018
        likeness_NQ = pool.vectors @ pool.queries.T
        files = np.unique(pool.sources)
        turns = self.turns or ("sources" if len(files) > 1 else "queries")
        if turns == "sources":
            likeness_NQ = np.stack([likeness_NQ[:, pool.sources == file].max(1) for file in files], 1)
        return in_turn(likeness_NQ, count)


class KCenter(Select):
    """Greedy k-centre: always the row that is farthest from those already kept, so that none is far from all of them
    (Sener and Savarese 2018, arXiv:1708.00489, algorithm 1).

    Differs from the paper: begins with the row nearest to the mean, as nothing is kept yet.
    """

    reads: ClassVar[bool] = True

    kind: Literal["k_center"] = "k_center"

    def choose(self, pool: Pool, count: int, seed: int) -> np.ndarray:
        assert pool.vectors is not None
        taken = [int((pool.vectors @ pool.vectors.mean(0)).argmax())]
        nearest_N = pool.vectors @ pool.vectors[taken[0]]
        nearest_N[taken[0]] = TAKEN
        while len(taken) < count:
            far = int(nearest_N.argmin())
            np.maximum(nearest_N, pool.vectors @ pool.vectors[far], out=nearest_N)
            nearest_N[far] = TAKEN
            taken.append(far)
        return np.array(taken)


class Diverse(Select):
    """In an order of their own, rows that are not near to one already kept (the repr filter of DEITA, Liu et al. 2024,
    arXiv:2312.15685, section 2.4).

    Differs from the paper: the order is by lot or by length, where the paper asks two tuned language models for
    complexity and quality; what is near depends on how many rows are wanted, as nearly all states of a small language
    model are within the paper's 0.9 of one another (docs/concepts/selection.md).
    """

    reads: ClassVar[bool] = True

    kind: Literal["diverse"] = "diverse"
    near: Annotated[float, Field(gt=-1, le=1)] | None = None
    """Cosine from which two rows are near. Given, and too few rows are that far apart, those passed over follow in the
    same order. None: the smallest that leaves enough rows."""
    order: Literal["random", "length"] = "random"
    """Which rows come first: drawn by lot, or the longest."""

    def choose(self, pool: Pool, count: int, seed: int) -> np.ndarray:
        assert pool.vectors is not None
        order = (Length() if self.order == "length" else Random()).choose(pool, len(pool.lengths), seed)
        if self.near is not None:
            taken = apart(pool.vectors, order, self.near, count)
        else:
            low, high, taken = -1.0, 1.0, order[:count]
            for _ in range(HALVINGS):
                near = (low + high) / 2
                found = apart(pool.vectors, order, near, count)
                low, high, taken = (low, near, found) if len(found) == count else (near, high, taken)
        passed = order[~np.isin(order, taken)]
        return np.concatenate([taken, passed])[:count]


class Length(Select):
    """The rows with the longest answers (Zhao et al. 2024, arXiv:2402.04833); of texts with labels, the longest."""

    kind: Literal["length"] = "length"

    def choose(self, pool: Pool, count: int, seed: int) -> np.ndarray:
        return np.argsort(-pool.lengths, kind="stable")[:count]


class Random(Select):
    """Rows drawn by lot, which few ways of choosing beat (Xia et al. 2024, arXiv:2410.09335)."""

    kind: Literal["random"] = "random"

    def choose(self, pool: Pool, count: int, seed: int) -> np.ndarray:
        return np.random.default_rng([seed, 19]).permutation(len(pool.lengths))[:count]


SELECTORS: Table[Select] = Table("selector", [RDS, KCenter, Diverse, Length, Random], group="tuneful.selectors")


def apart(vectors_ND: np.ndarray, order: np.ndarray, near: float, most: int) -> np.ndarray:
    """Places in their order, without those within `near` of an earlier one that is taken; `most` of them at most."""
    nearest_N = np.full(len(order), -TAKEN, dtype=np.float32)
    taken: list[int] = []
    for place in order.tolist():
        if nearest_N[place] < near:
            taken.append(place)
            if len(taken) == most:
                break
            np.maximum(nearest_N, vectors_ND @ vectors_ND[place], out=nearest_N)
    return np.array(taken, dtype=np.int64)


def in_turn(scores_NT: np.ndarray, count: int) -> np.ndarray:
    """(count,) rows as each column in turn names the best it has not named; a row that another column has named already
    costs a turn."""
    named = np.argsort(-scores_NT, axis=0, kind="stable").ravel()
    _, first = np.unique(named, return_index=True)
    return named[np.sort(first)][:count]


@dataclass(frozen=True, slots=True)
class Likeness:
    """How near some rows come to the wanted ones, by cosine."""

    nearness: float  # of a row to the query nearest to it, the mean over rows
    coverage: float  # of a query to the row nearest to it, the mean over queries


def likeness(vectors_ND: np.ndarray, queries_QD: np.ndarray) -> Likeness:
    cosines_NQ = vectors_ND @ queries_QD.T
    return Likeness(float(cosines_NQ.max(1).mean()), float(cosines_NQ.max(0).mean()))


def spread(vectors_ND: np.ndarray, kept: np.ndarray, block: int = 1024) -> tuple[float, float]:
    """Cosine of each row to the kept row nearest to it: the mean over all rows, and the least, which is of the row that
    is farthest from all that are kept."""
    parts = [vectors_ND[start : start + block] @ vectors_ND[kept].T for start in range(0, len(vectors_ND), block)]
    nearest_N = np.concatenate([part.max(1) for part in parts])
    return float(nearest_N.mean()), float(nearest_N.min())
