"""Telemetry: counters every worker keeps in a shared file, and log lines that never block a decision.

`Meters` is what the service and the HTTP layer count with (well under a microsecond a call), `exposition`
answers `/metrics` for all workers together, `logs` sets up logging. Labels come from closed sets: no id of a
customer, device or request is ever a label or a log field.
"""

from decision_service.telemetry.meters import STAGES, Meters, Stage

__all__ = ["STAGES", "Meters", "Stage"]
