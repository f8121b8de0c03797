"""A distillation of a tiny target on its own answers: a run of seconds, in this process or as a user starts it."""

import json

from safetensors.torch import load_file

from tests.training.runs import finish, start
from toolkit import chat, config, methods
from toolkit.engine.types import Request, Sampling
from toolkit.hub import ModelConfig, Models
from toolkit.loading import identify
from toolkit.training import main

ANSWERS, LENGTH = 100, 32  # texts, tokens of each at most
EVERY, STEPS = 20, 60


def write_answers(path, target, count=ANSWERS, length=LENGTH):
    """What the target (a ModelConfig as a mapping) says to questions about sums, as train/collect.py writes it."""
    models = Models(config.parse(ModelConfig, target, "test"))
    decoder = methods.decoder(methods.resolve("baseline", "test"), models)
    asked = [
        chat.encode([{"role": "user", "content": f"What is {i} + {i * 7 % 13}?"}], models.target.tokenizer)
        for i in range(count)
    ]
    done = decoder.generate([Request(i, prompt) for i, prompt in enumerate(asked)], Sampling(max_new_tokens=length))
    rows = [
        {"key": f"sums/{one.id}", "input_ids": list(prompt), "output_ids": one.tokens, "finish": one.finish}
        for prompt, one in zip(asked, done, strict=True)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    parts = path.with_suffix(".parts")
    parts.mkdir()
    settings = {"max_new_tokens": length, "temperature": 0.0, "seed": 0}
    (parts / "identity.json").write_text(json.dumps({"target": identify(models.config), "settings": settings}))
    return path


class Distilling:
    """A recipe in a directory, and its output."""

    def __init__(self, directory, target, answers, **changes):
        self.recipe, self.out = directory / "distil.yaml", directory / "out" / "draft"
        self.work = self.out.parent / ".runs" / self.out.name
        recipe = {
            "target": target,
            "data": {"answers": [str(answers)], "valid": 0.2},
            "student": {"name": "target", "draft_from": {"layers": [1]}},
            "frozen": ["embed_tokens"],
            "stored": "float32",  # compared to the last bits
            "train": {"epochs": 6, "lr": 0.01, "batch": 8, "eval_every": EVERY},
            "out": str(self.out),
        }
        self.recipe.write_text(json.dumps(recipe | changes))  # YAML is a superset of JSON

    def run(self, *overrides):
        """In this process -> exit code."""
        return main.distill([str(self.recipe), *overrides])

    def start(self, *overrides, processes=1):
        return start("train/distill.py", self.recipe, *overrides, processes=processes)

    def launch(self, *overrides, processes=1):
        """As a user starts it, to its end -> what it said."""
        return finish(self.start(*overrides, processes=processes))

    def manifest(self):
        return json.loads((self.out / "manifest.json").read_text())

    def training(self):
        return self.manifest()["training"]

    def gain(self):
        """How much tau has risen on held-out answers."""
        return self.training()["best"]["tau"] - self.training()["untrained"]["tau"]

    def weights(self, file="model.safetensors"):
        return load_file(self.out / file)

    def checkpoints(self):
        """The steps that have a whole checkpoint."""
        return sorted(int(path.name.split("-")[1]) for path in self.work.glob("step-*"))
