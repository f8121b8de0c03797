"""A chat-completion server on this machine: answers invented sums, and keeps what it was asked."""

import contextlib
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = "sk-a-key-that-must-stay-in-memory"


@dataclass
class Response:
    status: int = 200  # 0: the connection is closed without a word
    text: str = ""  # what the model says, or the error's words
    finish: str = "stop"
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None  # instead of JSON


def solved(question: str) -> Response:
    """Questions are `What is 3 + 4?`."""
    first, second = (int(word.strip("?")) for word in question.split() if word.strip("?").isdigit())
    return Response(text=f"{first} + {second} = {first + second}. #### {first + second}")


class Stub:
    """`with Stub(answer) as server:`; `answer` gets the question and how often it was asked before."""

    def __init__(self, answer: Callable[[str, int], Response] = lambda question, _: solved(question)) -> None:
        self.answer = answer
        self.asked: list[str] = []
        self.bodies: list[dict] = []
        self.authorization: list[str | None] = []
        self.delay = 0.0  # seconds before each answer
        self._lock = threading.Lock()
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):  # the name that http.server wants
                stub.reply(self)

            def do_GET(self):  # what a redirected POST becomes
                stub.authorization.append(self.headers["Authorization"])
                self.send_error(405)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> "Stub":
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._server.shutdown()
        self._server.server_close()

    def reply(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        question = body["messages"][-1]["content"]
        with self._lock:
            before = self.asked.count(question)
            self.asked.append(question)
            self.bodies.append({"path": handler.path, **body})
            self.authorization.append(handler.headers["Authorization"])
        time.sleep(self.delay)
        response = self.answer(question, before)
        if not response.status:
            return
        if response.raw is not None:
            data = response.raw
        elif response.status == 200:
            choice = {"message": {"role": "assistant", "content": response.text}, "finish_reason": response.finish}
            usage = {"prompt_tokens": 20, "completion_tokens": 10}
            data = json.dumps({"model": "stub-0125", "choices": [choice], "usage": usage}).encode()
        else:
            data = json.dumps({"error": {"message": response.text}}).encode()
        handler.send_response(response.status)
        for name, value in {"Content-Length": str(len(data)), **response.headers}.items():
            handler.send_header(name, value)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # who asked was killed
            handler.end_headers()
            handler.wfile.write(data)
