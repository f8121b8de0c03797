"""Token ids -> text, one token at a time, with stop strings.

What is said after each token depends on the tokens alone, never on how rounds were cut, so a stop string ends a
speculative run exactly where it ends an autoregressive one. Incomplete UTF-8 is held back, and so is text that
may yet turn out to be the beginning of a stop string.
"""

from transformers import PreTrainedTokenizerBase


class Detokenizer:
    """The text of one generation. `text` is what may be shown; `stopped`: a stop string was completed."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stop: tuple[str, ...] = ()) -> None:
        self._tokenizer, self._stop = tokenizer, stop
        self._ids: list[int] = []
        self._prefix = self._read = 0  # ids[prefix:read] were decoded before and give the context of what follows
        self._held = ""  # decoded, not yet shown
        self.text = ""
        self.stopped = False

    def push(self, token: int) -> str:
        """Take one token -> the text that may now be shown ("" while some is held back)."""
        self._ids.append(token)
        before = self._decode(self._ids[self._prefix : self._read])
        now = self._decode(self._ids[self._prefix :])
        if len(now) <= len(before) or now.endswith("\ufffd"):
            return ""
        self._prefix, self._read = self._read, len(self._ids)
        return self._show(now[len(before) :])

    def finish(self) -> str:
        """No more tokens: show what was held back."""
        before = self._decode(self._ids[self._prefix : self._read])
        rest = "" if self.stopped else self._held + self._decode(self._ids[self._prefix :])[len(before) :]
        self._held = ""
        self.text += rest
        return rest

    def _show(self, new: str) -> str:
        self._held += new
        ends = [at for at in (self._held.find(stop) for stop in self._stop) if at >= 0]
        if ends:
            self.stopped = True
            shown, self._held = self._held[: min(ends)], ""
        else:
            cut = len(self._held) - self._suspect()
            shown, self._held = self._held[:cut], self._held[cut:]
        self.text += shown
        return shown

    def _suspect(self) -> int:
        """Length of the longest end of the held text that begins a stop string."""
        longest = max((len(stop) for stop in self._stop), default=1) - 1
        for size in range(min(longest, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-size:]) for stop in self._stop):
                return size
        return 0

    def _decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
