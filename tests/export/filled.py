"""Fields of a manifest with every kind of figure, all invented."""

TARGET = {
    "name": "HuggingFaceTB/SmolLM2-135M-Instruct",
    "fingerprint": "3" * 64,
    "tokenizer": "4" * 64,
    "adapters": ["5" * 64, "6" * 64],
}
METRICS = [
    {
        "task": "gsm8k",
        "style": "cod",
        "method": "drafted",
        "temperature": 0.7,
        "k": 4,
        "n": 24,
        "tau": 2.3456,
        "acceptance": [0.7123, 0.4321],
        "tokens_per_s": 61.27,
        "speedup": 1.418,
        "speedup_low": 1.307,
        "speedup_high": 1.522,
        "seconds_per_correct": 17.86,
        "lossless": True,
        "hardware": "an invented CPU",
        "result_file": "results/invented/summary.json",
    },
    {
        "task": "steps",
        "method": "baseline",
        "accuracy": 0.5372,
        "accuracy_low": 0.4681,
        "accuracy_high": 0.6049,
        "n": 201,
        "cut": 0.0149,
        "tokens": 83.4,
        "lossless": True,
    },
]
FILLED = {
    "base": {"name": "smollm2-135m"},
    "binds": {"target": TARGET | {"adapters": []}},
    "recipe": {
        "path": "recipes/train/mine.yaml",
        "command": "accelerate launch train/lora.py recipes/train/mine.yaml",
        "config": {"lora": {"rank": 16, "alpha": 32}, "train": {"lr": 0.0002}, "data": {"max_length": 384}},
    },
    "data": {
        "fingerprint": "7" * 64,
        "rows": 1140,
        "valid_rows": 59,
        "tokens": 181234,
        "sources": [{"type": "gsm8k", "split": "train", "limit": 200}],
        "dropped": {"overlong": 13},
    },
    "training": {
        "steps": 285,
        "epochs": 0.9876,
        "best_eval_loss": 0.43219,
        "world_size": 2,
        "eval_loss": [[20 * i, 2.0 - i / 31] for i in range(1, 15)],
        "hardware": {"cpu": "an invented CPU", "gpu": "", "threads": 3, "python": "3.99.1", "torch": "9.8.7"},
    },
    "metrics": METRICS,
    "smoke": {"prompts": 4, "tokens": 171},
}
DRAFT = FILLED | {
    "provides": ["draft"],
    "base": {"name": "target", "draft_from": {"layers": [0, 29]}},
    "binds": {"target": TARGET},
}
CURVE = [
    {"step": 0, "tau": 1.0432, "acceptance": 0.0141, "accepted_by_position": [0.0411, 0.0023, None]},
    {"step": 285, "tau": 2.7182, "acceptance": 0.4321, "accepted_by_position": [0.6891, 0.4712, 0.3217]},
]
RUN = {"steps": 285, "best_step": 285, "best": CURVE[1], "untrained": CURVE[0], "curve": CURVE, "world_size": 2}
HEAD = DRAFT | {"kind": "eagle3", "provides": ["proposer"], "base": {}, "shares": ["embed_tokens"], "training": RUN}
DELTA = DRAFT | {"kind": "delta", "shares": ["model.embed_tokens"], "training": RUN}
