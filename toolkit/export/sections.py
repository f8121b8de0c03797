"""The sections of a model card as Markdown, each from the part of the manifest that it is about.

Figures are the manifest's, rounded for reading; what it does not say is said to be unknown, or left out.
"""

from collections.abc import Sequence
from typing import Any

import yaml

from toolkit.artifact import Manifest
from toolkit.export import judged, routers
from toolkit.export.figures import number, percent
from toolkit.export.metadata import base_name, base_repository
from toolkit.export.tables import QUALITY, SPEED, Row, grid, plain, table

NOTHING = "Nothing measured yet."
_POINTS = 8  # of the loss curve
_HELD_OUT = ("step", "tau", "accepted of proposed", "by position")
_SETTINGS = (
    *("student", "head", "vocabulary", "loss", "unroll", "on_policy", "lora", "train"),
    *("judge", "collect"),
)  # parts of a recipe
_SHORT = 12  # characters of a SHA-256
_COUNTS = {
    "rows": "rows",
    "valid_rows": "rows held out",
    "tokens": "tokens",
    "answer_tokens": "tokens in the loss",
}
_KINDS = {
    "lora": "a LoRA adapter in PEFT's format",
    "delta": "a set of the tensors that training changed",
    "eagle3": "an EAGLE-3 head in the speculators format",
    "model": "a full model in Hugging Face format",
    "specdecpp": "an acceptance head (SpecDec++)",
    "jointadaspec": "tables of when to stop drafting and how leniently to verify (JointAdaSpec)",
    "autojudge": "a classifier of which mismatches matter (AutoJudge)",
    "consensus": "a gate between two drafts and their target (Consensus AutoJudge)",
    "router": "a router: which of several drafts serves a prompt",
}
_FINGERPRINTS = {  # what they are of, where it is not token ids
    **dict.fromkeys(("specdecpp", "jointadaspec"), "of the traces"),
    "autojudge": "of the mined rows",
    "router": "of the measured times",
}
_SOFTWARE = ("python", "torch", "transformers")  # in a manifest's hardware, and told apart from it in the card


def summary(manifest: Manifest) -> str:
    """What it is, in a few lines."""
    lines = [f"- What: {what(manifest)}", f"- Method: {manifest.method}"]
    if base := base_name(manifest):
        repository = base_repository(manifest)
        link = f"[{repository}](https://huggingface.co/{repository})" if repository else f"`{base}`"
        lines.append(f"- Base model: {link}")
    if manifest.composes:
        others = [bound(identity) for role, identity in manifest.binds.items() if role != "target"]
        drafts = "".join(f"{' and' if i else ' with'} the draft {one}" for i, one in enumerate(others))
        together = ("target", "pair", "trio")[len(others)] if len(others) < 3 else "company"
        lines.append(f"- Decides for: {bound(manifest.binds['target'])}{drafts}, and for no other {together}")
    elif "target" not in manifest.provides and "target" in manifest.binds:
        lines.append(f"- Drafts for: {bound(manifest.binds['target'])}, and for no other model")
    licence = manifest.licence or "unknown; see the base model"
    lines += [f"- Licence: {licence}", f"- Created: {manifest.created}"]
    return "\n".join(lines)


def what(manifest: Manifest) -> str:
    """The artifact's kind and role in words."""
    roles = " and ".join(manifest.provides)
    layers = manifest.base.get("draft_from")
    made = f", made of layers {', '.join(map(str, layers['layers']))} of its target" if layers else ""
    names = ", ".join(f"`{name}`" for name in manifest.shares)
    shared = f"; not stored, as they are its target's: {names}" if names else ""
    return f"{_KINDS[manifest.kind]} that serves as {roles} in speculative decoding{made}{shared}"


def bound(identity: dict[str, Any]) -> str:
    """The model that an artifact was trained with."""
    adapters = ", ".join(f"`{digest[:_SHORT]}`" for digest in identity["adapters"])
    weights = f"weights `{identity['fingerprint'][:_SHORT]}`"
    return f"`{identity['name']}` ({weights}{', with the LoRA adapters ' + adapters if adapters else ''})"


def measured(manifest: Manifest) -> str:
    """Accuracy and speed, each with what it was measured on and the file that has every row behind it."""
    if not manifest.metrics:
        return NOTHING
    quality = [row for row in manifest.metrics if row.get("accuracy") is not None]
    speed = [row for row in manifest.metrics if any(row.get(key) is not None for key in ("tau", "tokens_per_s"))]
    parts = []
    if quality:
        parts.append("Accuracy:\n\n" + table(QUALITY, quality))
    if speed:
        parts.append("Speed:\n\n" + table(SPEED, speed))
    notes = (
        "Brackets: 95% intervals (accuracy: Wilson; speedup: bootstrap over blocks of prompts). Cut: share of the "
        "answers that ran into the token limit. tau: emitted tokens a target forward. Acceptance: of all drafts, the "
        "share accepted at each position. Lossless: the outputs follow the target's own distribution."
    )
    return "\n\n".join([*parts, notes])


def data(manifest: Manifest) -> str:
    """Where the rows came from, how many there are and what was left out."""
    found = manifest.data
    lines = [f"- `{yaml.safe_dump(one, default_flow_style=True, width=1000).strip()}`" for one in _sources(manifest)]
    config = manifest.recipe.get("config", {}).get("data", {})
    if config.get("responses"):
        lines.append(f"- answers: generated, `{config['responses']}`, to these prompts")
    counts = [f"{found[key]:,} {words}" for key, words in _COUNTS.items() if found.get(key) is not None]
    if counts:
        lines.append(f"- {', '.join(counts)}")
    if "dropped" in found:
        dropped = ", ".join(f"{count:,} {reason}" for reason, count in found["dropped"].items())
        lines.append(f"- dropped: {dropped or 'none'}")
    if "fingerprint" in found:
        whose = _FINGERPRINTS.get(manifest.kind, "of all token ids")
        lines.append(f"- fingerprint {whose} (SHA-256): `{found['fingerprint']}`")
    return "\n".join(lines) or "Not recorded."


def training(manifest: Manifest) -> str:
    """The run's figures, the loss curve and the settings."""
    found = manifest.training
    figures = found | {key: value for key, value in _hardware(manifest).items() if key not in _SOFTWARE}
    rows = [
        [key.replace("_", " "), plain(value)]
        for key, value in figures.items()
        if isinstance(value, str | int | float) and value != ""  # a machine without a GPU has ""
    ]
    parts = [grid(["", "value"], rows)] if rows else []
    parts += judged.quality(found) + routers.quality(found)
    if curve := found.get("eval_loss"):
        points = [[str(step), f"{loss:.4f}"] for step, loss in _thinned(curve)]
        parts.append("Held-out loss:\n\n" + grid(["step", "loss"], points))
    if curve := found.get("curve"):
        points = [_held_out(row) for row in curve]
        parts.append("Held-out answers of the target, by simulation:\n\n" + grid(_HELD_OUT, points))
    config = manifest.recipe.get("config", {})
    if settings := {key: config[key] for key in _SETTINGS if config.get(key) is not None}:
        parts.append(f"Settings:\n\n```yaml\n{yaml.safe_dump(settings, sort_keys=False).strip()}\n```")
    if "prompts" in manifest.smoke:
        parts.append(f"After it was saved it was loaded again and decoded {manifest.smoke['prompts']} prompts.")
    return "\n\n".join(parts) or "Not recorded."


def _held_out(row: Row) -> list[str]:
    positions = ", ".join(percent(share) for share in row["accepted_by_position"])
    return [str(row["step"]), number(row["tau"], 2), percent(row["acceptance"]), positions]


def again(manifest: Manifest) -> str:
    """The command that made it."""
    recipe, code = manifest.recipe, manifest.code
    command = f"```\n{recipe['command']}\n```" if recipe.get("command") else "The command was not recorded."
    commit = f", commit `{code['commit']}`" if code.get("commit") else ""
    changed = ", with uncommitted changes" if code.get("dirty") else ""
    where = f"Recipe `{recipe['path']}`, d" if recipe.get("path") else "D"
    return f"{command}\n\n{where}raftsmith `{code.get('version', 'unknown')}`{commit}{changed}."


def limits(manifest: Manifest) -> str:
    """What must be known before it is used."""
    lines = []
    if manifest.composes:
        lines += _deciding(manifest)
    elif "target" not in manifest.provides:
        lines.append(
            "As a draft under a lossless acceptance rule it changes how fast the target writes, never what it writes; "
            "under a lossy rule the target's answers change too."
        )
        lines.append(
            "Acceptance is that of the target named above; under another target, or other adapters, it is another."
        )
    if "draft_vocabulary" in manifest.training:
        lines.append(
            "It was trained as a draft that has only as many tokens as are listed under Training; the other rows of "
            "its head are its base's. Over its own tokens the logits are unchanged. What was measured is the draft "
            "without the others; with them its acceptance may differ."
        )
    if "target" in manifest.provides:
        lines.append(
            "It changes the model's answers; outside the kind of problem it was trained on, perhaps for the worse."
        )
    lines.append(
        "Prompts unlike the training data may be drafted or answered less well; only what is listed was measured."
    )
    lines.append("Speeds hold for the hardware, batch and engine they were measured on.")
    lines.append("The limits, biases and licence terms of the base model remain.")
    return "\n".join(f"- {line}" for line in lines)


def _deciding(manifest: Manifest) -> list[str]:
    """Of what is a part of a method: what it changes, and where it was learned."""
    if manifest.kind == routers.KIND:
        return routers.LIMITS
    if "length" not in manifest.provides:
        return judged.limits(manifest)
    lossy = " Where it says how leniently to verify, they change, unless its kappa allows no lenience."
    return [
        "How long a window is changes how fast the target writes, never what it writes."
        + (lossy if "accept" in manifest.provides else ""),
        "It was learned at one temperature, on the costs of one machine; elsewhere other lengths are best.",
    ]


def versions(manifest: Manifest) -> str:
    machine = _hardware(manifest)
    found = manifest.training.get("versions", {}) | {key: machine[key] for key in _SOFTWARE if key in machine}
    return "\n".join(f"- {name}: `{version}`" for name, version in found.items()) or "Not recorded."


def _hardware(manifest: Manifest) -> Row:
    """What training ran on, as parts; in a word or two it is a figure like the others."""
    found = manifest.training.get("hardware", {})
    return found if isinstance(found, dict) else {}


def _sources(manifest: Manifest) -> list[Any]:
    return manifest.data.get("sources", [])


def _thinned(curve: Sequence[Sequence[float]]) -> list[Sequence[float]]:
    """A few points of the curve, evenly spaced, the first, the last and the lowest among them."""
    last = len(curve) - 1
    even = {round(i * last / (_POINTS - 1)) for i in range(_POINTS)}
    lowest = min(range(len(curve)), key=lambda i: curve[i][1])
    return [curve[i] for i in sorted(even | {lowest})]
