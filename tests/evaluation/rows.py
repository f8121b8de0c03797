"""Hand-made rows, whose figures can be worked out on paper."""

from toolkit.evaluation.records import Record


def row(method="ngram", prompt="p0", *, tokens=10, seconds=1.0, block=0, windows=(), **changes) -> Record:
    """A row that decoded `tokens` tokens alone in `seconds`, by rounds of (proposed, accepted)."""
    windows = windows or [(0, 0)] * tokens
    widest = max(proposed for proposed, _ in windows)
    values = {
        "set": "speed",
        "method": method,
        "prompt_id": prompt,
        "seed": 0,
        "repeat": 0,
        "resume_key": f"{method}-{prompt}",
        "session": "s1",
        "block": block,
        "batch": 1,
        "batch_key": f"{method}-{prompt}",
        "method_config": {"proposer": {"type": "none"}},
        "temperature": 0.0,
        "tokens": list(range(tokens)),
        "n_tokens": tokens,
        "finish": "length",
        "rounds": len(windows),
        "drafts": sum(proposed > 0 for proposed, _ in windows),
        "proposed": sum(proposed for proposed, _ in windows),
        "accepted": sum(accepted for _, accepted in windows),
        "proposed_at": [sum(p > i for p, _ in windows) for i in range(widest)],
        "reached_at": [sum(p > i and a >= i for p, a in windows) for i in range(widest)],
        "accepted_at": [sum(a > i for _, a in windows) for i in range(widest)],
        "times": {
            "prefill": 0.1 * seconds,
            "draft": 0.2 * seconds,
            "verify": 0.6 * seconds,
            "host": 0.1 * seconds,
            "total": seconds,
        },
        "first_token_seconds": 0.05,
    }
    return Record(**values | changes)
