"""CrewAI: the crew does not start when denied, and stops at its next step.

    switch = OffSwitch(MachineID.from_env(), "crew-01")
    crew = Crew(agents=[...], tasks=[...], step_callback=switch.step, task_callback=switch.step)
    switch.kickoff(crew, inputs={...})                                   # raises machineid_client.Denied

CrewAI tries a task again when something raises in it (Agent(max_retry_limit=...), 2 by default). A switch that has denied once goes on to deny, so
that the attempts end at their first step; max_retry_limit=0 avoids them. Newer versions have hooks before each tool call:
`from crewai.hooks import before_tool_call`, and `before_tool_call(switch.before_tool_call)`, which blocks the call.

Tested in this repository against a minimal double of a crew (tests/doubles.py), not against CrewAI itself.
"""

from __future__ import annotations

from typing import Any, Optional

from machineid_client import Denied, MachineID


class OffSwitch:
    """Denies for good after the first denial: make one for each kickoff."""

    def __init__(self, client: MachineID, device_id: str) -> None:
        self.client, self.device_id = client, device_id
        self.denied: Optional[Denied] = None

    def check(self) -> None:
        if self.denied is None:
            decision = self.client.validate(self.device_id)
            if decision["allowed"] is not True:
                self.denied = Denied(self.device_id, decision)
        if self.denied is not None:
            raise self.denied

    def kickoff(self, crew: Any, **options: Any) -> Any:
        """Asks, and lets the crew begin. A denial that the crew swallowed on its way is raised at the end."""
        self.check()
        result = crew.kickoff(**options)
        if self.denied is not None:
            raise self.denied
        return result

    def step(self, output: Any) -> None:
        """For step_callback and task_callback."""
        self.check()

    def before_tool_call(self, context: Any) -> Optional[bool]:
        """For crewai.hooks: False blocks the tool call."""
        try:
            self.check()
        except Denied:
            return False
        return None
