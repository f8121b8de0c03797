"""Disjoint splits of an endless stream of questions: each belongs to the split that its own hash names."""

import hashlib

NAMES = ("train", "valid", "test")
_BY_HASH = (*NAMES, "train")  # modulo 4: half of all are for training


class Sieve:
    """Lets each question of one split through once."""

    def __init__(self, split: str) -> None:
        self.split = split
        self.seen: set[str] = set()

    def take(self, question: str) -> str | None:
        """The question's SHA-256; None where it is another split's, or was here before."""
        digest = hashlib.sha256(question.encode()).hexdigest()
        if digest in self.seen or _BY_HASH[int(digest, 16) % len(_BY_HASH)] != self.split:
            return None
        self.seen.add(digest)
        return digest
