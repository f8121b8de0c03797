"""Distillation of a draft, from recipe to artifact: `train/distill.py`.

The student reads the target's own answers and learns the target's law at every answer token (or, `loss: lm`, plain text
by its next tokens). Validation is what drafting is for: tau on held-out answers of the target. Without answers, which
only `lm` can do without, it is tau on held-out documents: what would stand if the target said them.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from toolkit import artifact, binding, config, delta, hub, loading
from toolkit.binding import Identity
from toolkit.engine.vocabulary import Vocabulary
from toolkit.errors import UserError
from toolkit.loading import TARGET, ModelConfig, identify, read_tokenizer
from toolkit.training import documents, drafts, finish, losses, processes, texts, vocab
from toolkit.training.distill_learner import DistillLearner, OnPolicyConfig
from toolkit.training.documents import DocumentsConfig
from toolkit.training.drafts import DraftRecipe
from toolkit.training.features import Teacher
from toolkit.training.losses import LossConfig
from toolkit.training.student import Student, StudentLora
from toolkit.training.texts import Text, Texts, TextsConfig

LM = "lm"  # the loss of plain fine-tuning on documents


@dataclass
class VocabularyConfig:
    """Trim the student's head to the most frequent tokens of the answers."""

    size: int


@dataclass
class DistillRecipe(DraftRecipe):
    """`student: {name: target, draft_from: {layers: [0, 15, 29]}}`, or a small model of the target's family.

    With `lora`, also a draft that was trained before: adapters over one draft can be in use side by side.
    """

    data: TextsConfig = field(default_factory=lambda: TextsConfig([]))
    method: str = "distilled on the target's answers"
    student: ModelConfig = field(default_factory=lambda: ModelConfig(TARGET))
    loss: LossConfig = field(default_factory=LossConfig)  # also `loss: lm`, with `documents`
    documents: DocumentsConfig | None = None  # trained on instead of answers
    on_policy: OnPolicyConfig = field(default_factory=OnPolicyConfig)
    lora: StudentLora | None = None
    frozen: list[str] = field(default_factory=list)  # modules that stay as they are, as in [embed_tokens]
    vocabulary: VocabularyConfig | None = None  # null: the target's
    k: int = 4  # window at which tau is measured
    stored: Literal["float32", "bfloat16"] = "bfloat16"  # dtype of the files; training keeps float32


def load(path: Path | str, overrides: list[str]) -> DistillRecipe:
    """The recipe with overrides applied, its values checked. UserError says what is wrong with it."""
    recipe = config.load(DistillRecipe, path, overrides)
    drafts.check(recipe, path)
    plain, policy, lora = recipe.loss == LossConfig(LM), recipe.on_policy, recipe.lora
    if not plain:
        losses.check(recipe.loss, f"{path}: key 'loss")
    whole, weights = recipe.student == ModelConfig(TARGET), recipe.loss.weights
    rules = [  # key, value, whether it will do, what was expected
        ("student", recipe.student.name, not whole or lora, "draft_from with it, a smaller model, or a lora"),
        ("student.quant", recipe.student.quant, recipe.student.quant == "none", "none: it is trained"),
        ("data.answers", recipe.data.answers, plain or recipe.data.answers, "one file or more"),
        ("documents", recipe.documents, (recipe.documents is not None) == plain, f"some with `loss: {LM}`, else none"),
        ("on_policy.share", policy.share, 0 <= policy.share <= 1, "a share from 0 to 1"),
        ("on_policy.share", policy.share, not (plain and policy.share), f"0 with `loss: {LM}`"),
        (
            "loss",
            sorted(weights),
            "ce" not in weights or not policy.share,
            "no ce on policy: its own words are no target",
        ),
        ("on_policy.temperature", policy.temperature, policy.temperature > 0, "above 0"),
        ("lora", lora, lora is None or (lora.rank >= 1 and lora.alpha > 0), "rank 1 or more, alpha above 0"),
        ("frozen", recipe.frozen, not (lora and recipe.frozen), "none: with a lora all else is frozen anyway"),
        ("k", recipe.k, 1 <= recipe.k <= 32, "1 to 32"),
    ]
    config.require(path, rules)
    if recipe.documents:
        documents.check(recipe.documents, path)
    return dataclasses.replace(recipe, out=recipe.out or f"checkpoints/{Path(path).stem}")


def run(recipe: DistillRecipe, command: dict[str, Any]) -> Path:
    """Train, keep the best student by tau, write and try the artifact -> its directory."""
    where, binds = command["path"], bound(recipe)
    return drafts.run(
        recipe,
        command,
        lambda teacher, loaded: Distilled(recipe, teacher, loaded, binds, where),
        binds,
        lambda: read(recipe, binds["target"], where),
    )


def bound(recipe: DistillRecipe) -> dict[str, Identity]:
    """What the artifact is bound to: its target, and the base of a LoRA of another model.

    UserError where the student is an artifact for another target.
    """
    target = identify(recipe.target)
    directory = Path(recipe.student.name).expanduser()
    if recipe.student.name != TARGET and (directory / artifact.MANIFEST).is_file():
        manifest = artifact.read(directory)
        if "target" in manifest.binds and "target" not in manifest.provides:
            binding.check(directory, manifest.binds["target"], target)
    added = recipe.lora is not None and recipe.student.name != TARGET
    return {"target": target} | ({"base": identify(recipe.student, recipe.target)} if added else {})


def read(recipe: DistillRecipe, target: Identity, where: Path | str) -> Texts:
    """What is trained on, and the held-out answers (where there are none: documents) at which tau is measured."""
    if recipe.documents is None:
        return texts.load(recipe.data, target, where)
    found = documents.load(recipe.documents, read_tokenizer(recipe.target), where)
    if not recipe.data.answers:
        return found
    answers = texts.load(recipe.data, target, where)
    return Texts(found.train, answers.valid, answers.dropped, [*found.sources, *answers.sources])


class Distilled:
    """A student in training: a `drafts.Draft`."""

    provides = ["draft"]

    def __init__(
        self, recipe: DistillRecipe, teacher: Teacher, loaded: Texts, binds: dict[str, Identity], where: Path | str
    ) -> None:
        loss = LossConfig("ce") if recipe.documents else recipe.loss
        self.kind = "lora" if recipe.lora else delta.KIND if recipe.student.name == TARGET else "model"
        self.base = {} if self.kind == "model" else finish.base(recipe.student)
        self.layers = [teacher.final] if losses.needs_teacher(loss) else []
        self.student = student(recipe, teacher, loaded.train, where)
        if self.student.trimmed:
            vocab.say(self.student.vocabulary, loaded.valid)
        self.shares = self.student.shares if self.kind == delta.KIND else []
        self.learner = DistillLearner(self.student, teacher, loss, recipe.k, recipe.on_policy, recipe.train.seed)
        self._base_name = binds.get("base", binds["target"])["name"]
        self._recipe, self._tokenizer = recipe, teacher.tokenizer

    def write(self, directory: Path) -> None:
        self.student.write(self.kind, directory, self._recipe.stored, self._base_name, self._tokenizer)


def student(recipe: DistillRecipe, teacher: Teacher, train: Sequence[Text], where: Path | str) -> Student:
    """The recipe's student as training begins, in float32. UserError where it does not speak the target's language."""
    placed = processes.placed(recipe.student, recipe.target)
    dtype = "float32" if recipe.student.dtype == "auto" else recipe.student.dtype
    given = loading.spelled_out(dataclasses.replace(placed, dtype=dtype, quant="none"), recipe.target)
    model, tokenizer, origin = loading.load(given, recipe.target)
    width = hub.check_compatible(
        (recipe.target.name, teacher.tokenizer.get_vocab(), teacher.vocab),
        (recipe.student.name, tokenizer.get_vocab(), model.get_input_embeddings().num_embeddings),
    )
    inherited = origin.vocabulary is not None
    if inherited and recipe.vocabulary:
        raise UserError(
            f"{where}: key 'vocabulary': student '{recipe.student.name}' says only {len(origin.vocabulary)} tokens "
            "already. Leave the key out."
        )
    if inherited:
        vocabulary = origin.vocabulary.below(width)
    elif recipe.vocabulary:
        vocabulary = vocab.chosen(recipe.vocabulary.size, train, teacher.runner.eos_ids, width)
    else:
        vocabulary = Vocabulary(torch.arange(width), width)
    made = Student(
        model.to(teacher.device),
        vocabulary.to(teacher.device),
        trimmed=recipe.vocabulary is not None or inherited,
        inherited=inherited,
    )
    if recipe.lora:
        made.adapt(recipe.lora, str(where))
    else:
        made.freeze(recipe.frozen, str(where))
    return made
