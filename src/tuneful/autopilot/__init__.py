"""Ways of learning that are found by trying, inside a budget.

from tuneful.autopilot import mitigate
mitigate("runs/mine", budget=1200).report["recommended"]
"""

from tuneful.autopilot.measuring import MEASURES
from tuneful.autopilot.mitigate import Mitigation, mitigate
from tuneful.autopilot.mitigations import Way, mitigations
from tuneful.autopilot.points import LIMIT, Point, front, recommended

__all__ = ["LIMIT", "MEASURES", "Mitigation", "Point", "Way", "front", "mitigate", "mitigations", "recommended"]
