"""Whether the pieces of a composition were made for each other; if not, they are refused before anything is decoded."""

from toolkit.engine.types import AcceptanceRule, LengthPolicy, Proposer, Sampling
from toolkit.errors import UserError


def check(proposer: Proposer, length: LengthPolicy, accept: AcceptanceRule) -> None:
    """As `drafts`; and refuse a rule that was trained with another draft, that needs notes which the policy does not
    write, or that needs a gate where none is.
    """
    drafts(proposer, length)
    _own(proposer, "acceptance rule", accept)
    if missing := accept.reads - length.writes:
        raise UserError(
            f"acceptance rule '{kind(accept)}' reads {sorted(missing)[0]!r} of each token, which length policy "
            f"'{kind(length)}' does not write: give both the same policy, kappa and order"
        )
    if accept.needs_gate and not proposer.gates:
        raise UserError(
            f"acceptance {kind(accept)}: takes every token, so its proposer must say where the target is to be asked, "
            "and this one does not. Use proposer 'consensus', or acceptance 'rejection' with this one."
        )


def check_sampling(proposer: Proposer, sampling: Sampling) -> None:
    """Refuse a gate that is to draw tokens."""
    if proposer.gates and not sampling.greedy:
        raise UserError(
            f"proposer {kind(proposer)}: sampling.temperature is {sampling.temperature}; its gate knows most likely "
            "tokens only. Set temperature 0."
        )


def drafts(proposer: Proposer, length: LengthPolicy) -> None:
    """Refuse a policy that reads draft logits where there are none, or that was trained with another draft."""
    if length.reads_logits and not proposer.has_logits:
        raise UserError(
            f"length policy '{kind(length)}' reads draft logits, and proposer '{kind(proposer)}' has none: "
            "use length 'fixed' with it, or a proposer that runs a draft model"
        )
    _own(proposer, "length policy", length)


def _own(proposer: Proposer, role: str, piece: LengthPolicy | AcceptanceRule) -> None:
    if piece.made_for not in (None, proposer.weights):
        raise UserError(
            f"{role} '{kind(piece)}' was trained with another draft than the one of proposer '{kind(proposer)}' "
            f"(weights {piece.made_for[:12]}... there, {proposer.weights[:12] or 'none'}... here): use it with its "
            "own draft, or train it again for this one"
        )


def kind(piece: object) -> str:
    """The type that a recipe calls it by."""
    return type(piece).__module__.rsplit(".", 1)[-1]
