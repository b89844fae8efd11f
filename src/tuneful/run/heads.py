"""Heads over the mean of a text: where they start and where they end."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tuneful.core.sharded import like, whole
from tuneful.core.types import Row
from tuneful.data.rows import NAMES, is_generated
from tuneful.data.splits import units_of
from tuneful.evaluation.heads import strength_of, targets, vectors
from tuneful.models.anchors import named
from tuneful.models.probe import STRENGTH, Probe, averaged, fit_probe
from tuneful.models.unlabelled import MOST, with_texts
from tuneful.run.build import Built
from tuneful.run.further import knowing
from tuneful.run.prepare import Prepared

SCALE = 20.0  # of cosines, as logits of a head that learns with its body; what sentence encoders were trained with
SOLVED = 2.0  # weight of a head solved on the tuned encoder, beside the one that learned with it
NAMED = 0.5  # weight of a class's name beside the mean of its rows


def started(vectors_ND: Tensor, rows: Sequence[Row], count: int) -> Probe:
    """A head of class means at unit length (Snell et al. 2017, arXiv:1703.05175, equation 1, by cosine), a class's name
    counted half a mean, and alone where the class has no row; a class with neither gets zeros."""
    classes = targets(rows)
    is_name = torch.tensor([row.example.place.source == NAMES for row in rows])
    means = vectors_ND.new_zeros(count, vectors_ND.shape[1]).index_add_(0, classes[~is_name], vectors_ND[~is_name])
    means = means / torch.bincount(classes[~is_name], minlength=count).clamp(min=1)[:, None]
    means = means.index_add(0, classes[is_name], vectors_ND[is_name], alpha=NAMED)
    return Probe(SCALE * nn.functional.normalize(means, dim=-1), means.new_zeros(count))


def begin(built: Built) -> float:
    """Before the first update: a head over means starts where the rows say, or is solved where nothing else learns.
    The seconds it took."""
    if built.parts:
        return sum(map(begin, built.parts.values()))
    prepared, policy = built.prepared, built.policy
    if not prepared.pooled or prepared.labels is None or prepared.labels.kind == "number" or built.turns:
        return 0.0
    began = time.perf_counter()
    with policy.gathered():
        rows = [row for row in prepared.repeated if row.target is not None]
        found, count = vectors(policy, rows, built.collate), len(prepared.labels.names)
        if prepared.by_name:
            texts = [row for row in prepared.repeated if row.target is None]
            probe = named(found, vectors(policy, texts, built.collate), prior(prepared))
        elif not prepared.resolved.steps and (texts := texts_of(prepared)):
            first = fit_probe(found, targets(rows), STRENGTH, classes=count)
            others = vectors(policy, texts, built.collate)
            probe = with_texts(first, found, targets(rows), others)
        elif not prepared.resolved.steps:
            probe = _solved(rows, found, count, prepared.recipe.seed)
        elif prepared.labels.kind == "class":
            probe = started(found, rows, count)
        else:
            probe = fit_probe(found, targets(rows), STRENGTH, classes=count)
    put(policy.module, probe)
    policy.forget()
    return time.perf_counter() - began


def _solved(rows: Sequence[Row], vectors_ND: Tensor, count: int, seed: int) -> Probe:
    """The strength of the penalty is chosen as the ways were tried: nobody is asked about a row that a model wrote, nor
    learns one beside the row it was written from."""
    wanted, written = targets(rows), torch.tensor([is_generated(row) for row in rows])
    own = [row.example for row in rows if not is_generated(row)]
    made = [row.example for row in rows if is_generated(row)]

    def unseen(held: Tensor) -> tuple[Tensor, Tensor] | None:
        asked = [example for example, is_asked in zip(own, held.tolist(), strict=True) if is_asked]
        new = ~torch.tensor(knowing(made, asked), dtype=torch.bool)
        return (vectors_ND[written][new], wanted[written][new]) if made else None

    strength = strength_of(vectors_ND[~written], wanted[~written], count, seed, units_of(own), unseen)
    return fit_probe(vectors_ND, wanted, strength, classes=count)


def end(built: Built) -> float:
    """After the last update: a head that learned with its encoder learned beside one that moved, so it is averaged with
    a head solved on the encoder as it is now, beside texts without labels where there are any. Changes nothing where no
    head over means told classes apart, nor where the encoder learned texts, about which its head has no second opinion.
    The seconds it took."""
    if built.parts:
        return sum(map(end, built.parts.values()))
    prepared, policy = built.prepared, built.policy
    labels = prepared.labels
    if not prepared.pooled or labels is None or labels.kind != "class" or not prepared.resolved.steps:
        return 0.0
    if built.turns:  # it would be solved by rows that are no longer there
        return 0.0
    if any(row.target is None for row in prepared.recipe.schedule.learns(prepared.repeated)):
        return 0.0
    began = time.perf_counter()
    known = [row for row in prepared.repeated if row.target is not None]
    own = own_head(policy.module)
    with policy.gathered():
        found = vectors(policy, known, built.collate)
        if texts := texts_of(prepared):
            solution = with_texts(own, found, targets(known), vectors(policy, texts, built.collate))
        else:
            solution = fit_probe(found, targets(known), STRENGTH, classes=len(labels.names))
    put(policy.module, averaged(own, solution, SOLVED))
    policy.forget()
    return time.perf_counter() - began


def texts_of(prepared: Prepared) -> list[Row]:
    """Those without a label."""
    return thinned([row for row in prepared.repeated if row.target is None])


def thinned(texts: Sequence[Row]) -> list[Row]:
    """Evenly, where there are more than neighbours are looked for among."""
    return list(texts) if len(texts) <= MOST else [texts[number * len(texts) // MOST] for number in range(MOST)]


def prior(prepared: Prepared) -> Tensor | None:
    """(C,) how often each class comes, as the person said."""
    data, labels = prepared.recipe.task.data, prepared.labels
    if data.prior is None or labels is None:
        return None
    shares = torch.tensor([data.prior[name] for name in labels.names])
    return shares / shares.sum()


def own_head(module: nn.Module) -> Probe:
    """The head as it is."""
    head = module.get_submodule("classifier")
    return Probe(*(whole(head.get_parameter(name).detach()).cpu().float().clone() for name in ("weight", "bias")))


def put(module: nn.Module, probe: Probe) -> None:
    """Gives a module this head."""
    head = module.get_submodule("classifier")
    with torch.no_grad():
        for name, value in (("weight", probe.weight), ("bias", probe.bias)):
            parameter = head.get_parameter(name)
            parameter.copy_(like(parameter, value))
            torch.autograd.graph.increment_version([parameter])
