"""The model card of an artifact: README.md, rendered from its manifest and from nothing else.

`huggingface_hub` makes the metadata and fills `card_template.md`; `sections` and `usage` write the text. A figure that
the manifest does not have is not in the card: what was not measured is said to be so.
"""

from pathlib import Path

import yaml
from huggingface_hub import ModelCard

from toolkit import artifact
from toolkit.artifact import Manifest
from toolkit.errors import UserError
from toolkit.export import sections, usage
from toolkit.export.metadata import TAG, card_data, problems
from toolkit.files import write_atomic

__all__ = ["FILE", "check", "problems", "read", "render", "write"]

FILE = "README.md"
TEMPLATE = Path(__file__).with_name("card_template.md")


def render(manifest: Manifest, name: str) -> ModelCard:
    """The card. `name`: what the artifact is called there, as a rule its directory's name."""
    return ModelCard.from_template(
        card_data(manifest, name),
        template_path=str(TEMPLATE),
        title=name,
        summary=sections.summary(manifest),
        measured=sections.measured(manifest),
        use=usage.how_to(manifest, name),
        data=sections.data(manifest),
        training=sections.training(manifest),
        again=sections.again(manifest),
        limits=sections.limits(manifest),
        versions=sections.versions(manifest),
    )


def write(directory: Path) -> Path:
    """Render the card of the artifact in the directory, over an earlier one -> its path."""
    card = render(artifact.read(directory), directory.resolve().name)
    check(card, directory / artifact.MANIFEST)
    with artifact.writing(directory):
        write_atomic(directory / FILE, f"{card}\n".encode())
    return directory / FILE


def read(directory: Path) -> ModelCard:
    """The card that lies there, its metadata checked; UserError where it is none of ours or the hub would refuse it."""
    path = directory / FILE
    try:
        card = ModelCard(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:  # ValueError: a broken model-index, not UTF-8
        raise UserError(f"{path}: not readable as a model card ({error}). `draftsmith card {directory}`.") from None
    if TAG not in (card.data.tags or []):
        raise UserError(
            f"{path}: its metadata lacks the tag '{TAG}', so it was not rendered from the manifest (PEFT leaves a card "
            f"with blanks). `draftsmith card {directory}` writes one over it."
        )
    check(card, path)
    return card


def check(card: ModelCard, path: Path) -> None:
    """UserError that lists what the hub would refuse. `path`: where to mend it."""
    if wrong := problems(card):
        raise UserError(f"{path}: the hub would refuse the card's metadata:\n" + "\n".join(f"- {one}" for one in wrong))


def check_online(card: ModelCard, path: Path) -> None:
    """UserError with what the hub's own validator says. Sends the card's text to the hub, and nothing else."""
    from huggingface_hub.errors import HTTPError  # of the client that this version of the library uses

    try:
        card.validate()
    except ValueError as error:
        raise UserError(f"{path}: the hub refuses the card's metadata: {error}") from error
    except (HTTPError, OSError) as error:
        raise UserError(f"the hub's validator could not be asked ({error}); leave out --online.") from error
