"""Keep an identity out of the directions that a style reads, by NP-LoRA's null space projection.

Source: NP-LoRA (arXiv 2511.11051), soft form on the right: W + S + C (I - m / (1 + m) V V'), with C and S the
changes of identity and style and V the first right singular vectors of S. Everything is done on the factors:
the result is a plain LoRA of the same rank.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# As in the paper: a style's strongest directions; the rest of its rank is noise of the training.
DIRECTIONS = 8
_NOTHING = 1e-7  # of the largest singular value


def read_directions(factors: Sequence[tuple[Tensor, Tensor]], *, count: int = DIRECTIONS) -> Tensor:
    """Orthonormal columns V (in, k <= count) that the sum of all up @ down reads most from.

    `factors` are pairs of up (out, r) and down (r, in) with every weight in them. The singular vectors come
    from the small core between two QR decompositions, never from the dense product.
    """
    up = torch.cat([up for up, _ in factors], dim=1).double()
    down = torch.cat([down for _, down in factors], dim=0).double()
    _, up_core = torch.linalg.qr(up)
    basis, down_core = torch.linalg.qr(down.T)
    _, values, rows = torch.linalg.svd(up_core @ down_core.T)
    kept = min(count, int((values > _NOTHING * values[0]).sum()) if values[0] > 0 else 0)
    directions: Tensor = basis @ rows[:kept].T
    return directions


def kept_out(down: Tensor, directions: Tensor, strength: float) -> Tensor:
    """`down` (r, in) with the share m / (1 + m) of `directions` (in, k) taken out, m being `strength`."""
    share = strength / (1.0 + strength)
    wide = down.double()
    return (wide - share * (wide @ directions) @ directions.T).to(down.dtype)
