"""CrewAI's cells."""

from __future__ import annotations

import contextlib
import os
from typing import Any

from .model import Call, Say
from .scene import EVERY_END, FINAL, Cell, Scene, main

os.environ.update(OTEL_SDK_DISABLED="true", CREWAI_DISABLE_TELEMETRY="true", CREWAI_TRACING_ENABLED="false", CREWAI_TESTING="true", OPENAI_API_KEY="none")

from crewai import LLM, Agent, Crew, Task  # noqa: E402
from crewai.tools import tool  # noqa: E402

from machineid.integrations.crewai import OffSwitch  # noqa: E402


def sequential(scene: Scene) -> Any:
    @tool("act")
    def act(n: int) -> str:
        """Acts."""
        return scene.tool(n)

    scene.model.script("main", *[Call("act", n=n) for n in range(4)], Say(FINAL))
    llm = LLM(model="openai/main", base_url=scene.model_url, api_key="none")
    agent = Agent(role="r", goal="g", backstory="b", tools=[act], llm=llm)
    crew = Crew(agents=[agent], tasks=[Task(description="d", expected_output="x", agent=agent)])
    with OffSwitch(scene.client, scene.device).run() if scene.guarded else contextlib.nullcontext():
        return crew.kickoff()


main("crewai", [Cell("sequential", sequential, EVERY_END)], ["crewai"])
