"""What stands behind the pytest fixtures: the server in a thread, the handle tests hold, recorded sleeps, messages.

The names here are for annotations: `def test_x(fault_server: FaultServer, recorded_sleeps: RecordedSleeps)`.
"""

from asgi_fault.testing.attempts import Attempt, Call
from asgi_fault.testing.handle import FaultServer
from asgi_fault.testing.in_process import FaultApp
from asgi_fault.testing.rulebook import RuleError
from asgi_fault.testing.sleeps import RecordedSleeps

__all__ = ["Attempt", "Call", "FaultApp", "FaultServer", "RecordedSleeps", "RuleError"]
