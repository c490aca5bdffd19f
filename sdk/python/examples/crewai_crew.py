"""CrewAI: a crew that ends when it may not work any more.

    pip install './sdk/python[crewai]'
    export MACHINEID_ORG_KEY=org_...        # the agent key
    export OPENAI_API_KEY=...               # or what else your model needs
    python3 crewai_crew.py crew-01

Whatever the crew does asks before each model call, tool call and task. After the first denial nothing new begins, and Denied comes out of the block.
Flows and agents without a crew go the same way; in coroutines write "async with switch.run(): await crew.akickoff()".
"""

from __future__ import annotations

import sys
from typing import Any

from crewai import Agent, Crew, Task
from crewai.tools import tool

from machineid_client import Denied, MachineID, MachineIDError
from machineid_client.integrations.crewai import OffSwitch


def run(client: MachineID, device_id: str, crew: Any) -> str:
    """One kickoff under the off switch. Raises Denied."""
    with OffSwitch(client, device_id).run():
        return str(crew.kickoff())


@tool("look_up")
def look_up(city: str) -> str:
    """Says how warm it is in a city."""
    return f"It is 21 degrees in {city}."


def main() -> int:
    device_id = sys.argv[1] if len(sys.argv) > 1 else "crew-01"
    agent = Agent(role="meteorologist", goal="say how warm it is", backstory="You look things up.", tools=[look_up])
    crew = Crew(agents=[agent], tasks=[Task(description="How warm is it in Oslo?", expected_output="one sentence", agent=agent)])
    try:
        with MachineID.from_env() as client:
            client.register(device_id, raise_on_error=True)  # its no says what to do, as when the plan is full
            print(run(client, device_id, crew))
    except Denied as denied:
        print(f"stopped: {denied.code}", file=sys.stderr)
        return 1
    except MachineIDError as err:
        print(f"cannot start: {err}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
