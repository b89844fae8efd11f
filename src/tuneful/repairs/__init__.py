"""What is done to a trained classifier before it is measured and saved: where groups are not treated alike."""

from tuneful.core.spec import Spec, Table
from tuneful.repairs.settings import BalancedHead, Erase, Thresholds

__all__ = ["REPAIRS", "BalancedHead", "Erase", "Thresholds"]

REPAIRS: Table[Spec] = Table("repair", [BalancedHead, Erase, Thresholds])
"""In the order in which they are done, whatever order they are named in."""
