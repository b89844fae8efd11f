"""Of an embedding that learns, only the rows that occur in the data.

A token that no training row holds gets no gradient, so without weight decay Adam never moves its embedding. Leaving
such rows out changes no number, and spares gradient, norm, moments and update of what is most of a small encoder:
30,522 rows of MiniLM of which a data set may use a thousand.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def use_rows(module: Any, ids: Tensor) -> bool:
    """Lets only the rows `ids` (U,) of the input embedding learn; False where the embedding does not learn by itself
    or is the output matrix as well."""
    found = module.get_input_embeddings() if hasattr(module, "get_input_embeddings") else None
    if type(found) is not nn.Embedding or not found.weight.requires_grad or found.max_norm is not None:
        return False
    if sum(parameter is found.weight for child in module.modules() for parameter in child.parameters(False)) > 1:
        return False
    if found.padding_idx is not None:
        ids = ids[ids != found.padding_idx]  # its gradient is zero by definition
    found.__class__ = UsedRows
    cast(UsedRows, found).narrow(torch.unique(ids).to(found.weight.device))
    return True


def fold_rows(module: nn.Module) -> None:
    """Takes `use_rows` back, with what was learned."""
    for child in module.modules():
        if isinstance(child, UsedRows):
            child.widen()
            child.__class__ = nn.Embedding  # type: ignore[assignment]


def rows_before(module: nn.Module, name: str) -> Tensor:
    """(U, D) what the parameter of this name, some rows of an embedding, began as."""
    owner = module.get_submodule(name.rpartition(".")[0])
    assert isinstance(owner, UsedRows)
    return owner.weight[owner.place >= 0]


def of_all_rows(module: nn.Module, values: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Numbers by the names of parameters: those of some rows of an embedding become those of all its rows, by the name
    of its weight; of other rows what `others` say, else 0."""
    found = dict(values)
    for place, owner in module.named_modules():
        if isinstance(owner, UsedRows) and (own := found.pop(f"{place}.rows", None)) is not None:
            whole = f"{place}.weight"
            found[whole] = others[whole].to(own).clone() if whole in others else own.new_zeros(owner.weight.shape)
            found[whole][owner.place >= 0] = own
    return found


def of_used_rows(module: nn.Module, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The way back: of an embedding some of whose rows learn, those."""
    found = dict(values)
    for place, owner in module.named_modules():
        if isinstance(owner, UsedRows) and (whole := found.pop(f"{place}.weight", None)) is not None:
            found[f"{place}.rows"] = whole[(owner.place >= 0).to(whole.device)]
    return found


class UsedRows(nn.Embedding):
    """`rows` (U, D) learn; `weight` (V, D) answers for all other tokens."""

    rows: nn.Parameter
    place: Tensor  # (V,) the row of each token, -1 where it has none

    def narrow(self, ids: Tensor) -> None:
        self.weight.requires_grad_(False)
        self.rows = nn.Parameter(self.weight.detach()[ids].clone())
        place = torch.full((len(self.weight),), -1, device=ids.device)
        place[ids] = torch.arange(len(ids), device=ids.device)
        self.register_buffer("place", place, persistent=False)

    def widen(self) -> None:
        self.weight.data[self.place >= 0] = self.rows.data.to(self.weight.dtype)
        self.weight.requires_grad_(True)
        del self.rows, self.place

    def forward(self, input: Tensor) -> Tensor:
        place = self.place[input]
        learned = F.embedding(place.clamp(min=0), self.rows)
        known = place >= 0
        return learned if bool(known.all()) else torch.where(known[..., None], learned, F.embedding(input, self.weight))
