"""An artifact in a few lines, for `draftsmith describe` and `draftsmith check`."""

from pathlib import Path

from toolkit.artifact import Manifest


def summary(manifest: Manifest, directory: Path) -> str:
    """What it is, what it goes with, how it was made, what is known of it."""
    lines = {
        "artifact": f"{directory} ({manifest.kind})",
        "provides": ", ".join(manifest.provides),
        "method": manifest.method,
        "base": _base(manifest),
        **{f"binds {role}": _identity(bound) for role, bound in manifest.binds.items()},
        "data": _data(manifest),
        "training": _training(manifest),
        "measured": _measured(manifest),
        "smoke": smoke(manifest),
        "recipe": manifest.recipe.get("path", "not recorded"),
        "licence": manifest.licence or "unknown",
        "created": manifest.created,
    }
    width = max(map(len, lines))
    return "\n".join(f"{title:<{width}}  {text}" for title, text in lines.items())


def _base(manifest: Manifest) -> str:
    if not manifest.base:
        return "its target" if manifest.shares else "none: a whole model" if manifest.kind == "model" else "none"
    made_of = manifest.base.get("draft_from")
    layers = f", its layers {', '.join(map(str, made_of['layers']))}" if made_of else ""
    return f"{manifest.base['name']}{layers}"


def _identity(bound: dict[str, object]) -> str:
    digests = [f"{digest[:12]}..." for digest in bound["adapters"]]
    adapters = f", adapters {', '.join(digests)}" if digests else ""
    return f"{bound['name']}, weights {bound['fingerprint'][:12]}...{adapters}"


def _data(manifest: Manifest) -> str:
    found = manifest.data
    return f"{found.get('rows', '?')} rows, fingerprint {found.get('fingerprint', '?')[:12]}..."


def _training(manifest: Manifest) -> str:
    found = manifest.training
    named = {
        "best held-out loss": found.get("best_eval_loss"),
        "best held-out tau": found.get("best", {}).get("tau"),
        "crossed AUC": found.get("auc", {}).get("crossed", {}).get("value"),
        "held-out accuracy": found.get("val_accuracy"),
        "regret, ms a token": found.get("test", {}).get("regret", {}).get("routed", {}).get("value"),
    }
    steps = [f"{found['steps']} steps"] if "steps" in found else []
    return ", ".join([*steps, *(f"{name} {value:.4f}" for name, value in named.items() if value is not None)]) or "?"


def _measured(manifest: Manifest) -> str:
    rows = manifest.metrics
    tasks = ", ".join(sorted({row["task"] for row in rows if "task" in row}))
    return f"{len(rows)} rows on {tasks or 'no named task'}" if rows else "nothing yet"


def smoke(manifest: Manifest) -> str:
    """What came of trying it."""
    if "skipped" in manifest.smoke:
        return f"skipped: {manifest.smoke['skipped']}"
    return ", ".join(f"{key} {value}" for key, value in manifest.smoke.items()) or "not recorded"
