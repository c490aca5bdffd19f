"""AutoGen AgentChat: a team that ends when it may not work any more.

    pip install './sdk/python[autogen]' 'autogen-ext[openai]'
    export MACHINEID_ORG_KEY=org_...        # the agent key
    export OPENAI_API_KEY=...               # or what else your model needs
    python3 autogen_team.py team-01

Whatever the team does asks before each turn, model call, tool call and hand-over. After the first denial nothing new begins, what is under way is
cancelled, and Denied comes out of the block. A termination condition would be asked after a turn only, when all of its tools have run.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.conditions import MaxMessageTermination
from autogen_agentchat.teams import RoundRobinGroupChat

from machineid_client import AsyncMachineID, Denied, MachineIDError
from machineid_client.integrations.autogen import OffSwitch


async def run(client: AsyncMachineID, device_id: str, team: Any, task: str) -> str:
    """One run under the off switch; between steps it is asked for every 5 seconds, so that a slow step is cancelled too. Raises Denied."""
    async with OffSwitch(client, device_id, every=5).run():
        result = await team.run(task=task)
        return str(result.messages[-1].to_text())


async def look_up(city: str) -> str:
    """Says how warm it is in a city."""
    return f"It is 21 degrees in {city}."


async def main() -> int:
    from autogen_ext.models.openai import OpenAIChatCompletionClient

    device_id = sys.argv[1] if len(sys.argv) > 1 else "team-01"
    agent = AssistantAgent("meteorologist", model_client=OpenAIChatCompletionClient(model="gpt-4o"), tools=[look_up], max_tool_iterations=5)
    team = RoundRobinGroupChat([agent], termination_condition=MaxMessageTermination(10))
    try:
        async with AsyncMachineID.from_env() as client:
            await client.register(device_id, raise_on_error=True)  # its no says what to do, as when the plan is full
            print(await run(client, device_id, team, "How warm is it in Oslo?"))
    except Denied as denied:
        print(f"stopped: {denied.code}", file=sys.stderr)
        return 1
    except MachineIDError as err:
        print(f"cannot start: {err}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
