"""AutoGen (AgentChat 0.4 and later): a termination condition that ends a team's run when it is denied.

    client = AsyncMachineID.from_env()
    team = RoundRobinGroupChat([...], termination_condition=OffSwitch(client, "team-01") | MaxMessageTermination(50))
    async with client.guard("team-01", every=5):                         # stops what is under way as well
        await team.run(task="...")

The condition is asked after each agent's turn and ends the run in order; the guard around it cancels a turn that takes long.

Tested in this repository against a minimal double of autogen_agentchat (tests/doubles.py), not against AutoGen itself.
"""

from __future__ import annotations

from typing import Any, Optional, Sequence

from autogen_agentchat.base import TerminatedException, TerminationCondition
from autogen_agentchat.messages import StopMessage

from machineid_client import AsyncMachineID


class OffSwitch(TerminationCondition):
    def __init__(self, client: AsyncMachineID, device_id: str) -> None:
        self.client, self.device_id = client, device_id
        self._terminated = False

    @property
    def terminated(self) -> bool:
        return self._terminated

    async def __call__(self, messages: Sequence[Any]) -> Optional[StopMessage]:
        if self._terminated:
            raise TerminatedException("the run was ended by MachineID: reset it first")
        decision = await self.client.validate(self.device_id)
        if decision["allowed"] is True:
            return None
        self._terminated = True
        return StopMessage(content=f"{self.device_id} may not work: {decision['code']}", source="machineid")

    async def reset(self) -> None:
        self._terminated = False
