"""One chat completion from any OpenAI-compatible server, with nothing but the standard library.

What may pass (too many requests, an error of the server, a lost connection) is tried again after a wait that doubles,
or after as long as the server asks for. What cannot pass (a key that is refused, no such model) ends the run. The key
comes from the environment or from a .env file, goes into the header of a request and nowhere else.
"""

import http.client
import json
import os
import random
import re
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from toolkit.errors import UserError

FIRST_WAIT = 1.0  # seconds before the first further attempt
LONGEST_WAIT = 600.0  # a server that asks for more is given up on
_REFUSED = (401, 403, 404)  # the same for every request: the run ends
_PASSING = (408, 409, 425, 429)  # and whatever is 500 or above
_SHOWN = 300  # characters of a server's own words in a message


@dataclass
class EndpointConfig:
    url: str  # up to /v1; /chat/completions is added
    model: str  # as the server calls it
    key_env: str | None = "OPENAI_API_KEY"  # the variable that holds the key; null: a server that wants none
    temperature: float = 0.0
    max_tokens: int = 1024
    timeout_s: float = 120.0  # without a byte from the server
    parallel: int = 4  # requests at a time
    retries: int = 3  # further attempts of a request
    extra: dict[str, Any] = field(default_factory=dict)  # more fields of the request's body; null takes one out


@dataclass(frozen=True)
class Reply:
    """What the server said. `usage`: its own count of tokens, empty where it does not tell."""

    text: str
    finish_reason: str | None
    usage: dict[str, Any]
    model: str


class Failed(Exception):
    """One request stays without an answer; the message says why."""


class _Passing(Exception):
    """Worth another attempt, after `wait` seconds where the server says so."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Following one would hand the key to another server."""

    def redirect_request(self, *_: object) -> None:
        return None


class Endpoint:
    """A server and a model there; `ask` may be called from several threads."""

    def __init__(self, config: EndpointConfig) -> None:
        self.config = config
        self.url = f"{config.url.rstrip('/').removesuffix('/chat/completions')}/chat/completions"
        self.stopped = threading.Event()  # once set, nobody waits for a further attempt
        self._key = key(config.key_env)
        self._opener = urllib.request.build_opener(_NoRedirect)

    def ask(self, messages: list[dict[str, str]]) -> Reply:
        """The reply to a chat. Failed: this request has none; UserError: no request would have one."""
        data = json.dumps(body(self.config, messages)).encode()
        for attempt in range(self.config.retries + 1):
            if self.stopped.is_set():
                raise Failed("not sent: the run was stopped")
            try:
                return self._reply(self._post(data))
            except _Passing as passing:
                reason, wait = str(passing), passing.wait
            if attempt == self.config.retries:
                break
            if wait is None:
                wait = FIRST_WAIT * 2**attempt * random.uniform(1.0, 1.25)  # not all threads at the same moment
            if wait > LONGEST_WAIT:
                raise Failed(f"{reason}; the server asks to wait {wait:.0f} s")
            self.stopped.wait(wait)
        raise Failed(f"{reason} ({self.config.retries + 1} attempts)")

    def _post(self, data: bytes) -> bytes:
        headers = {"Content-Type": "application/json", "User-Agent": "draftsmith"}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        request = urllib.request.Request(self.url, data=data, headers=headers, method="POST")
        try:
            with self._opener.open(request, timeout=self.config.timeout_s) as response:
                return response.read()
        except urllib.error.HTTPError as error:
            with error:
                raise self._refusal(error) from None
        except (OSError, http.client.HTTPException) as error:
            raise _Passing(f"no answer from {self.url}: {self._shown(str(error) or type(error).__name__)}") from None

    def _refusal(self, error: urllib.error.HTTPError) -> Exception:
        """What an HTTP error means: for this attempt, for this request, or for the whole run."""
        said = f"HTTP {error.code}: {self._shown(_words(error))}"
        if error.code in _PASSING or error.code >= 500:
            return _Passing(said, _seconds(error.headers.get("Retry-After")))
        if error.code == 404:
            return UserError(
                f"{self.url}: {said}. No such address or no such model; check endpoint.url and endpoint.model "
                f"({self.config.model})."
            )
        if error.code in _REFUSED:
            name = self.config.key_env
            fix = (
                f"check the key in {name}" if name else "set endpoint.key_env to the name of the variable with the key"
            )
            return UserError(f"{self.url}: {said}. The server refuses; {fix}, and its rights to {self.config.model}.")
        if error.code < 400:
            return UserError(f"{self.url}: HTTP {error.code}, a redirect; put the final address into endpoint.url.")
        return Failed(said)

    def _reply(self, data: bytes) -> Reply:
        try:
            answer = json.loads(data)
            choice = answer["choices"][0]
            text, finish = choice["message"]["content"] or "", choice["finish_reason"]  # content may be null
            usage, model = answer.get("usage") or {}, answer.get("model") or self.config.model
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            raise Failed(f"not a chat completion: {self._shown(data.decode(errors='replace'))}") from None
        if not (isinstance(text, str) and isinstance(usage, dict)):
            raise Failed(f"not a chat completion: {self._shown(data.decode(errors='replace'))}")
        # a text that was cut in the middle of an emoji holds half a surrogate pair, which no file can hold
        return Reply(text.encode(errors="replace").decode(), finish, usage, str(model))

    def _shown(self, words: str) -> str:
        """A server's words for a message: short, and without the key, which some servers repeat."""
        return " ".join((words.replace(self._key, "[key]") if self._key else words).split())[:_SHOWN]


def check(config: EndpointConfig) -> list[tuple[str, object, bool, str]]:
    """(key, value, whether it will do, what was expected) of the endpoint's part of a recipe."""
    url = urllib.parse.urlsplit(config.url)
    plain = url.scheme in ("http", "https") and bool(url.hostname) and not (url.username or url.query or url.fragment)
    # a value that may be a secret in the wrong place is not repeated
    named = config.key_env is None or re.fullmatch(r"[A-Z_][A-Z0-9_]*", config.key_env) is not None
    return [
        ("endpoint.url", config.url if plain else "...", plain, "http(s)://host/path, without a user or a query"),
        ("endpoint.model", config.model, bool(config.model), "a model's name"),
        ("endpoint.key_env", "...", named, "the NAME of a variable (capitals), not the key; null for no key"),
        ("endpoint.temperature", config.temperature, config.temperature >= 0, "0 or more"),
        ("endpoint.max_tokens", config.max_tokens, config.max_tokens >= 1, "1 or more"),
        ("endpoint.timeout_s", config.timeout_s, config.timeout_s > 0, "more than 0"),
        ("endpoint.parallel", config.parallel, config.parallel >= 1, "1 or more"),
        ("endpoint.retries", config.retries, config.retries >= 0, "0 or more"),
    ]


def body(config: EndpointConfig, messages: list[dict[str, str]]) -> dict[str, Any]:
    """The JSON of a request."""
    fields = {
        "model": config.model,
        "messages": messages,
        "temperature": config.temperature,
        "max_tokens": config.max_tokens,
        **config.extra,
    }
    return {name: value for name, value in fields.items() if value is not None}


def key(name: str | None) -> str | None:
    """The key that a variable of the environment, or of .env in the current directory, holds."""
    if name is None:
        return None
    found = {**_dotenv(Path(".env")), **os.environ}.get(name, "").strip()
    if not found:
        raise UserError(
            f"endpoint.key_env: {name} is not set; export it, or write {name}=... into .env in the current directory "
            "(endpoint.key_env=null for a server that wants no key)."
        )
    if not (found.isascii() and found.isprintable()):  # the HTTP library would refuse it in words that contain it
        raise UserError(f"endpoint.key_env: {name} holds characters that no key has; set it anew.")
    return found


def _dotenv(path: Path) -> Mapping[str, str]:
    """KEY=VALUE lines; quotes around a value and a leading `export` are taken off."""
    if not path.is_file():
        return {}
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        name, equals, value = line.strip().removeprefix("export ").partition("=")
        if equals and not name.startswith("#"):
            value = value.strip()
            quoted = len(value) >= 2 and value[0] == value[-1] and value[0] in "'\""
            found[name.strip()] = value[1:-1] if quoted else value
    return found


def _words(error: urllib.error.HTTPError) -> str:
    """The server's reason: `error.message` of its JSON, else the start of whatever it sent."""
    try:
        text = error.read(10_000).decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return error.reason
    try:
        return str(json.loads(text)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return text or error.reason


def _seconds(header: str | None) -> float | None:
    """Retry-After: a number of seconds, or a date."""
    if header is None:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - time.time())
    except ValueError:
        return None
