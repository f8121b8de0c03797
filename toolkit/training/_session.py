"""The requests of one process: several at a time, their answers recorded as they come.

When it ends early (Ctrl-C, a refusal, a full disk), requests that are not sent yet are dropped, and those under way
are waited for and kept: they are paid for.
"""

import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from toolkit.errors import UserError
from toolkit.evaluation.progress import Bar
from toolkit.tasks._types import Message, Problem
from toolkit.training._answers import Answer, AnswerDir
from toolkit.training._endpoint import Endpoint, Failed, Reply

GIVE_UP = 8  # failures in a row: it is not the problems, it is the server or the recipe
SAVE_EVERY = 5.0  # seconds


class Session:
    """`record`: the row of a reply; `cost`: of so many tokens in and out."""

    def __init__(
        self,
        directory: AnswerDir,
        record: Callable[[Problem, Reply], Answer],
        cost: Callable[[float, float], float | None],
    ) -> None:
        self.directory, self._record, self._cost = directory, record, cost
        self._lock = threading.Lock()
        self._failed_in_a_row = 0
        self._saved = time.monotonic()
        totals = directory.totals()
        self._tokens = [totals["prompt_tokens"], totals["completion_tokens"]]  # of earlier sessions too

    def run(self, endpoint: Endpoint, chats: Sequence[tuple[Problem, list[Message]]]) -> None:
        """Ask everything, and record what comes back."""
        with ThreadPoolExecutor(endpoint.config.parallel) as pool, Bar("asking", len(chats)) as bar:
            futures = [pool.submit(self._one, endpoint, problem, messages) for problem, messages in chats]
            try:
                for future in as_completed(futures):
                    future.result()
                    bar.advance(1, self._so_far())
            finally:
                endpoint.stopped.set()
                under_way = sum(not future.done() and not future.cancel() for future in futures)
                if under_way:
                    print(f"stopping: {under_way} requests are under way and waited for", file=sys.stderr)

    def save(self) -> None:
        """state.json as things stand."""
        with self._lock:
            self._save()

    def _one(self, endpoint: Endpoint, problem: Problem, messages: list[Message]) -> None:
        """Ask and record, in a thread of the pool: Ctrl-C strikes the main thread only, so never half-way through."""
        try:
            reply = endpoint.ask(messages)
        except Failed as failed:
            if not endpoint.stopped.is_set():
                self._note(endpoint, problem, failed)
            return
        except UserError:
            endpoint.stopped.set()  # before another thread sends the next request
            raise
        with self._lock:
            self._failed_in_a_row = 0
            row = self._record(problem, reply)
            self.directory.add(row)
            self._tokens[0] += row.tokens("prompt_tokens")
            self._tokens[1] += row.tokens("completion_tokens")
            if time.monotonic() - self._saved > SAVE_EVERY:
                self._save()

    def _note(self, endpoint: Endpoint, problem: Problem, failed: Failed) -> None:
        with self._lock:
            self.directory.failures[problem.id] = str(failed)
            self._failed_in_a_row += 1
            if self._failed_in_a_row >= GIVE_UP:
                endpoint.stopped.set()
                raise UserError(
                    f"the last {GIVE_UP} requests all failed: {failed}. What was answered is kept; mend the cause and "
                    "give the same command."
                )

    def _save(self) -> None:
        self.directory.save(self._cost(*self._tokens))
        self._saved = time.monotonic()

    def _so_far(self) -> str:
        cost = self._cost(*self._tokens)
        return f"{sum(self._tokens)} tokens" + ("" if cost is None else f", cost {cost:.4f}")
