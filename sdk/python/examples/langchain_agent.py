"""LangChain: an agent that ends when it may not work any more.

    pip install './sdk/python[langchain]' langchain-openai
    export MACHINEID_ORG_KEY=org_...        # the agent key
    export OPENAI_API_KEY=...               # or what else your model needs
    python3 langchain_agent.py agent-01 openai:gpt-5

Everything in the block asks before each node, model call, tool and retriever. After the first denial nothing new begins, and Denied comes out of the
block. Chains and graphs go the same way; in coroutines write "async with switch.run(): await agent.ainvoke(...)".
"""

from __future__ import annotations

import sys
from typing import Any

from langchain.agents import create_agent

from machineid_client import Denied, MachineID, MachineIDError
from machineid_client.integrations.langchain import OffSwitch


def run(client: MachineID, device_id: str, agent: Any, task: str) -> str:
    """One run under the off switch. Raises Denied."""
    with OffSwitch(client, device_id).run():
        return str(agent.invoke({"messages": [("user", task)]})["messages"][-1].content)


def look_up(city: str) -> str:
    """Says how warm it is in a city."""
    return f"It is 21 degrees in {city}."


def main() -> int:
    device_id = sys.argv[1] if len(sys.argv) > 1 else "agent-01"
    model = sys.argv[2] if len(sys.argv) > 2 else "openai:gpt-5"
    try:
        with MachineID.from_env() as client:
            client.register(device_id, raise_on_error=True)  # its no says what to do, as when the plan is full
            print(run(client, device_id, create_agent(model, [look_up]), "How warm is it in Oslo?"))
    except Denied as denied:
        print(f"stopped: {denied.code}", file=sys.stderr)
        return 1
    except MachineIDError as err:
        print(f"cannot start: {err}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
