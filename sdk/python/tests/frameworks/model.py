"""A model that says what a scene tells it to, over HTTP: OpenAI's chat completions and responses, whole and streamed."""

from __future__ import annotations

import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Callable, Dict, Iterator, List, Mapping, Sequence, Tuple, Union


class Say:
    """An answer in words. first is called before it is given."""

    def __init__(self, text: str, first: Callable[[], object] = lambda: None) -> None:
        self.text, self.first = text, first


class Call:
    """A call of a tool."""

    def __init__(self, tool: str, **args: Any) -> None:
        self.tool, self.args = tool, args


class Fail:
    """A failure of the provider: an HTTP status."""

    def __init__(self, status: int) -> None:
        self.status = status


class While:
    """A step during which something happens: first is called when the request has come in, and the answer waits for it."""

    def __init__(self, first: Callable[[], object], step: "Step") -> None:
        self.first, self.step = first, step


Step = Union[Say, Call, Fail, While, Sequence[Call]]


class Model:
    """Serves models by name. Each has a script of its own: its nth request gets the nth step, and what follows the last step gets that again.

    began(name) is called when a request has come in, before it is answered. Safe for concurrent requests; a script is for one conversation at a time.
    """

    def __init__(self, began: Callable[[str], None]) -> None:
        self._began = began
        self._lock = threading.Lock()
        self._scripts: Dict[str, List[Step]] = {}
        self._asked: Dict[str, int] = {}
        self.unknown: List[str] = []  # what was asked that no scene expects: a scene that has some has failed
        model = self

        class Handler(_Handler):
            serve = staticmethod(lambda *args: model._answer(*args))

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, name="model", daemon=True).start()

    def script(self, name: str, *steps: Step) -> str:
        """Lets a model of this name say these things, from the first one on; returns the name."""
        with self._lock:
            self._scripts[name], self._asked[name] = list(steps), 0
        return name

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, path: str, body: Mapping[str, Any]) -> "Tuple[int, Any]":
        """Returns a status and an object, or 200 and the events of a stream."""
        name = str(body.get("model") or re.sub(r".*/models/|:.*", "", path)).rpartition("/")[2]
        for end, form in FORMS:
            if re.search(end, path):
                break
        else:
            self.unknown.append(path)
            return 404, {"error": {"message": f"the scripted model has no {path}"}}
        self._began(name)
        if form is embeddings:
            return 200, embeddings(body)
        with self._lock:
            steps = self._scripts.get(name)
            nth, self._asked[name] = self._asked.get(name, 0), self._asked.get(name, 0) + 1
        if not steps:
            self.unknown.append(name)
            return 404, {"error": {"message": f"there is no script for {name}"}}
        step = steps[min(nth, len(steps) - 1)]
        if isinstance(step, While):
            step.first()
            step = step.step
        if isinstance(step, Fail):
            return step.status, {"error": {"message": "the scene says so", "type": "failed", "code": str(step.status)}}
        text = step.text if isinstance(step, Say) else ""
        calls = [] if isinstance(step, Say) else [step] if isinstance(step, Call) else list(step)
        return 200, form(path, body, f"{name}-{nth}", text, calls)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    serve: Callable[..., Tuple[int, Any]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        status, said = self.serve(self.path, body)
        if isinstance(said, (dict, list)):
            text = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for event, data in said:
            line = f"event: {event}\n" if event else ""
            self.wfile.write(f"{line}data: {data if isinstance(data, str) else json.dumps(data)}\n\n".encode())
            self.wfile.flush()
        self.close_connection = True

    def do_GET(self) -> None:
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def handle(self) -> None:
        try:
            super().handle()
        except (ConnectionError, BrokenPipeError):
            pass  # a client that was cancelled has gone

    def log_message(self, *_: Any) -> None:
        pass


def chat(path: str, body: Mapping[str, Any], turn: str, text: str, calls: List[Call]) -> Any:
    made = [
        {"id": f"call_{turn}_{i}", "type": "function", "function": {"name": call.tool, "arguments": json.dumps(call.args)}}
        for i, call in enumerate(calls)
    ]
    base = {"id": f"chat-{turn}", "created": int(time.time()), "model": body["model"]}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    end = "tool_calls" if made else "stop"
    if not body.get("stream"):
        message: Dict[str, Any] = {"role": "assistant", "content": text or None}
        if made:
            message["tool_calls"] = made
        choice = {"index": 0, "message": message, "finish_reason": end, "logprobs": None}
        return dict(base, object="chat.completion", choices=[choice], usage=usage)

    def events() -> Iterator[Tuple[str, Any]]:
        def chunk(delta: Dict[str, Any], reason: Any = None) -> Tuple[str, Any]:
            return "", dict(base, object="chat.completion.chunk", choices=[{"index": 0, "delta": delta, "finish_reason": reason}])

        first: Dict[str, Any] = {"role": "assistant", "content": ""}
        if made:
            first["tool_calls"] = [dict(one, index=i) for i, one in enumerate(made)]
        yield chunk(first)
        for word in re.findall(r"\S+\s*|\s+", text):
            yield chunk({"content": word})
        yield chunk({}, end)
        yield "", dict(base, object="chat.completion.chunk", choices=[], usage=usage)
        yield "", "[DONE]"

    return events()


def responses(path: str, body: Mapping[str, Any], turn: str, text: str, calls: List[Call]) -> Any:
    output: List[Dict[str, Any]] = [
        {"type": "function_call", "id": f"fc_{turn}_{i}", "call_id": f"call_{turn}_{i}", "name": call.tool, "arguments": json.dumps(call.args), "status": "completed"}
        for i, call in enumerate(calls)
    ] or [
        {
            "type": "message", "id": f"msg_{turn}", "role": "assistant", "status": "completed",
            "content": [{"type": "output_text", "text": text, "annotations": []}],
        }
    ]
    whole = {
        "id": f"resp_{turn}", "object": "response", "created_at": int(time.time()), "model": body["model"], "status": "completed", "output": output,
        "parallel_tool_calls": True, "tool_choice": "auto", "tools": body.get("tools") or [], "error": None, "incomplete_details": None,
        "instructions": None, "metadata": {}, "temperature": 1.0, "top_p": 1.0,
        "usage": {
            "input_tokens": 1, "output_tokens": 1, "total_tokens": 2, "input_tokens_details": {"cached_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": 0},
        },
    }
    if not body.get("stream"):
        return whole

    def events() -> Iterator[Tuple[str, Any]]:
        made: List[Tuple[str, Dict[str, Any]]] = [("response.created", {"response": dict(whole, status="in_progress", output=[])})]
        for i, item in enumerate(output):
            made.append(("response.output_item.added", {"item": item, "output_index": i}))
            made.append(("response.output_item.done", {"item": item, "output_index": i}))
        made.append(("response.completed", {"response": whole}))
        for number, (kind, fields) in enumerate(made):
            yield kind, dict(fields, type=kind, sequence_number=number)

    return events()


def gemini(path: str, body: Mapping[str, Any], turn: str, text: str, calls: List[Call]) -> Any:
    parts = [{"functionCall": {"id": f"call_{turn}_{i}", "name": call.tool, "args": call.args}} for i, call in enumerate(calls)]

    def answer(parts: Sequence[Mapping[str, Any]], end: bool) -> Dict[str, Any]:
        candidate: Dict[str, Any] = {"content": {"role": "model", "parts": parts}, "index": 0}
        if end:
            candidate["finishReason"] = "STOP"
        usage = {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2}
        return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "scripted", "responseId": turn}

    if not path.partition("?")[0].endswith(":streamGenerateContent"):
        return answer(parts or [{"text": text}], True)

    def events() -> Iterator[Tuple[str, Any]]:
        for word in re.findall(r"\S+\s*|\s+", text):
            yield "", answer([{"text": word}], False)
        yield "", answer(parts or [{"text": ""}], True)

    return events()


def embeddings(body: Mapping[str, Any]) -> Any:
    """All texts are alike to it. It needs no script."""
    texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
    data = [{"object": "embedding", "index": i, "embedding": [0.0] * 7 + [1.0]} for i in range(len(texts))]
    return {"object": "list", "model": body["model"], "data": data, "usage": {"prompt_tokens": 1, "total_tokens": 1}}


# The end of a path, and the form of the answers there.
FORMS: List[Tuple[str, Callable[..., Any]]] = [
    (r"/chat/completions$", chat), (r"/responses$", responses), (r"/embeddings$", embeddings), (r":(stream)?[gG]enerateContent(\?|$)", gemini),
]
