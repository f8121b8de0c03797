"""The YAML block of a model card: made from a manifest, and checked by the hub's rules without the hub.

The hub refuses a commit whose README breaks them, after the weights were uploaded. The licence identifiers are the list
that its validator names when it refuses one; whether a model of a name exists, only the hub knows (`card --online`).
"""

import math
import re
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from huggingface_hub.errors import HFValidationError
from huggingface_hub.repocard_data import eval_results_to_model_index, model_index_to_eval_results
from huggingface_hub.utils import validate_repo_id

from toolkit import binding
from toolkit.artifact import Manifest

TAG = "draftsmith"  # by it a card of ours is told from the stub that PEFT leaves
TARGET = "target"  # in a manifest's base: made of its own target
DATASETS = {"gsm8k": "openai/gsm8k", "math": "EleutherAI/hendrycks_math"}  # task -> its rows on the hub
RELATIONS = ("adapter", "finetune", "merge", "quantized")
PIPELINE = "text-generation"
LICENCES = frozenset(Path(__file__).with_name("licences.txt").read_text(encoding="ascii").split())
_METRICS = {  # key in a manifest's metrics -> its name
    "accuracy": "accuracy",
    "tau": "tokens a target forward (tau)",
    "speedup": "speedup over plain autoregression",
    "tokens_per_s": "tokens a second",
    "seconds_per_correct": "seconds a correct answer",
}
_TAGS = {"draft": "draft-model"}
_LANGUAGE = re.compile(r"[a-z]{2,3}|code|multilingual")
_REQUIRED = (("task", "type"), ("dataset", "type"), ("dataset", "name"))


def card_data(manifest: Manifest, name: str) -> ModelCardData:
    """The metadata of an artifact. `name`: what the hub lists its results under."""
    base = base_repository(manifest)
    adapter = manifest.kind != "model"
    known_by = {"lora": "peft", "eagle3": "speculators"}.get(manifest.kind, "transformers")
    library = TAG if manifest.composes else known_by
    licence = manifest.licence.lower()
    known = licence in LICENCES
    results = _results(manifest)
    tags = ["speculative-decoding", *(_TAGS[role] for role in manifest.provides if role in _TAGS)]
    return ModelCardData(
        base_model=base,
        base_model_relation=("adapter" if adapter else "finetune") if base else None,
        library_name=library,
        license=licence if known else "other" if licence else "unknown",
        license_name=re.sub(r"[^a-z0-9.-]+", "-", licence) if licence and not known else None,
        pipeline_tag=PIPELINE,
        tags=[*tags, *([manifest.kind] if manifest.kind in ("lora", "eagle3") else []), TAG],
        datasets=sorted({DATASETS[task] for task in _trained_on(manifest) if task in DATASETS}) or None,
        model_name=name if results else None,
        eval_results=results or None,
    )


def base_name(manifest: Manifest) -> str:
    """The model that the artifact is added to or was made of; "" where it is nobody's."""
    name = TARGET if manifest.kind == "eagle3" or manifest.composes else manifest.base.get("name", "")
    return manifest.binds.get("target", {}).get("name", "") if name == TARGET else name


def base_repository(manifest: Manifest) -> str | None:
    """Its id on the hub; None for a path or a tiny model, which are on no hub."""
    repository = binding.repository(base_name(manifest))
    return repository if repository and _is_repository(repository) else None


def problems(card: ModelCard) -> list[str]:
    """What the hub would refuse in a card's metadata, as far as can be told from here; empty: nothing."""
    data = card.data.to_dict()
    if not data:
        return ["no metadata: expected a YAML block between two lines of --- at the top"]
    wrong = [
        f"key '{key}' is {value!r}; expected {expected}"
        for key, value, right, expected in _rules(data)
        if value is not None and not right
    ]
    if "license" not in data:
        wrong.append("key 'license' is missing; expected an identifier of the hub, or 'unknown'")
    return [*wrong, *_index_problems(data.get("model-index"))]


def _rules(data: dict[str, Any]) -> list[tuple[str, Any, bool, str]]:
    """Key, value, whether it will do, what was expected."""
    licences, bases = _listed(data.get("license")), _listed(data.get("base_model"))
    datasets, languages, tags = (_listed(data.get(key)) for key in ("datasets", "language", "tags"))
    name = data.get("license_name")
    relation = data.get("base_model_relation")
    return [
        ("license", data.get("license"), all(one in LICENCES for one in licences), "an identifier that the hub knows"),
        ("license_name", name, bool(re.fullmatch(r"[a-z0-9.-]+", str(name))), "lower-case letters, digits, . and -"),
        ("base_model", data.get("base_model"), all(map(_is_repository, bases)), "ids of models: OWNER/NAME"),
        ("base_model_relation", relation, relation in RELATIONS and bool(bases), f"{_or(RELATIONS)}, of a base_model"),
        ("datasets", data.get("datasets"), all(map(_is_repository, datasets)), "ids of datasets: OWNER/NAME"),
        ("language", data.get("language"), all(map(_is_language, languages)), "ISO 639 codes: en, deu"),
        ("tags", data.get("tags"), all(isinstance(tag, str) and tag for tag in tags), "a list of words"),
        ("library_name", data.get("library_name"), isinstance(data.get("library_name"), str), "a word"),
        ("pipeline_tag", data.get("pipeline_tag"), data.get("pipeline_tag") == PIPELINE, PIPELINE),
    ]


def _index_problems(index: list[dict[str, Any]] | None) -> list[str]:
    if index is None:
        return []
    wrong = []
    for place, result in ((f"model-index.{i}", result) for one in index for i, result in enumerate(one["results"])):
        wrong += [f"key '{place}.{a}.{b}' is empty" for a, b in _REQUIRED if not result.get(a, {}).get(b)]
        for number, metric in enumerate(result["metrics"]):
            value = metric.get("value")
            if not metric.get("type"):
                wrong.append(f"key '{place}.metrics.{number}.type' is empty")
            if not (isinstance(value, str) or (isinstance(value, int | float) and math.isfinite(value))):
                wrong.append(f"key '{place}.metrics.{number}.value' is {value!r}; expected a finite number or a text")
    if not wrong and eval_results_to_model_index(*model_index_to_eval_results(index)) != index:
        wrong.append("key 'model-index': does not survive being read as results and written again")
    return wrong


def _results(manifest: Manifest) -> list[EvalResult]:
    """One result a figure; how it was measured goes into its arguments."""
    return [
        EvalResult(
            task_type=PIPELINE,
            dataset_type=DATASETS.get(row["task"], row["task"]),
            dataset_name=row["task"],
            metric_type=key,
            metric_value=row[key],
            metric_name=", ".join([title, *(str(row[part]) for part in ("style", "method") if row.get(part))]),
            metric_args={name: value for name, value in row.items() if name not in _METRICS and value is not None},
        )
        for row in manifest.metrics
        for key, title in _METRICS.items()
        if "task" in row and row.get(key) is not None
    ]


def _trained_on(manifest: Manifest) -> list[str]:
    """The tasks whose prompts it has seen: a source itself, those mixed in it, or those that its file answers."""
    return [task for source in manifest.data.get("sources", []) for task in _tasks(source)]


def _tasks(source: dict[str, Any] | str) -> list[str]:
    if isinstance(source, str):
        return [source]
    if "tasks" in source:
        return [task for part in source["tasks"] for task in _tasks(part)]
    return [source["type"]] if "type" in source else []


def _listed(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]


def _or(words: tuple[str, ...]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


def _is_language(value: Any) -> bool:
    return isinstance(value, str) and bool(_LANGUAGE.fullmatch(value))


def _is_repository(value: Any) -> bool:
    try:
        validate_repo_id(value)
    except HFValidationError:
        return False
    return True
