"""An artifact to the Hugging Face hub: what its manifest lists, the manifest and the card, in one commit.

Everything that can be checked is checked before anything is sent: the files' hashes, the card, the repository's name,
the login. The token is the environment's or the login's (`hf auth login`) and is given nowhere else.
"""

from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, ModelCard, get_token
from huggingface_hub.errors import HFValidationError, HTTPError  # HTTPError: of the client this version uses
from huggingface_hub.utils import validate_repo_id

from toolkit import artifact
from toolkit.errors import UserError
from toolkit.export import card


@dataclass(frozen=True)
class Upload:
    """What would be sent where."""

    repository: str
    directory: Path
    files: dict[str, int]  # path in the repository -> bytes
    card: ModelCard

    def describe(self) -> str:
        """For a person, before it is sent."""
        width = max(map(len, self.files))
        listed = "\n".join(f"  {name:<{width}}  {size:>13,} bytes" for name, size in self.files.items())
        total = f"{len(self.files)} files, {sum(self.files.values()):,} bytes"
        return f"{self.directory} -> {self.repository} ({total})\n{listed}\n\n{self.card.data.to_yaml()}"


def prepare(directory: Path, repository: str) -> Upload:
    """Check everything that is to be sent, and render the card anew. UserError says what is wrong."""
    manifest = artifact.verify(directory)
    _check_name(repository)
    if (directory / card.FILE).is_file():
        card.read(directory)  # someone else's card is refused, not written over
    card.write(directory)  # figures may have been recorded since the last time
    checked = card.read(directory)
    names = sorted([*manifest.files, artifact.MANIFEST, card.FILE])
    return Upload(repository, directory, {name: (directory / name).stat().st_size for name in names}, checked)


def send(upload: Upload, private: bool) -> str:
    """Make the repository if it is not there and commit the files to it -> the commit's address."""
    if get_token() is None:
        raise UserError("--push needs a login at the Hugging Face hub: run `hf auth login`, or set HF_TOKEN.")
    api = HfApi()
    try:
        api.create_repo(upload.repository, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=upload.repository,
            folder_path=upload.directory,
            allow_patterns=list(upload.files),
            commit_message=f"draftsmith: {upload.directory.resolve().name}",
        )
    except (HTTPError, OSError, ValueError) as error:  # no network, no right to write, what the hub finds invalid
        raise UserError(
            f"{upload.repository}: not uploaded ({error}). Check the name, the token's right to write and the network, "
            "and run the same command again."
        ) from error
    return commit.commit_url


def _check_name(repository: str) -> None:
    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise UserError(f"--push '{repository}': expected OWNER/NAME ({error}).") from None
    if "/" not in repository:
        raise UserError(f"--push '{repository}': expected OWNER/NAME, as in acme/smollm2-135m-draft.")
