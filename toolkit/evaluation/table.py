"""The tables a run prints and writes: speed, where the time goes, acceptance by position, quality.

Each states its set, its number of prompts and what must be known to read it. No table mixes the two sets, but for
seconds per correct answer, whose column says so. Built once as text, then drawn by rich or written as Markdown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from itertools import groupby

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from toolkit.evaluation.equality import Equality
from toolkit.evaluation.score import ACCURACY, BASELINE, PHASES, Quality, Speed
from toolkit.evaluation.stats import FEWEST_BLOCKS, NO_DIFFERENCE
from toolkit.export.figures import NONE, number, percent, share, times

WIDTH = 120
CUDA_PHASES = (
    "on CUDA prefill, draft and host are the time to launch their work, not to do it: the loop waits for the device "
    "once a round, in verify, which holds what the others left running. Totals are right"
)


@dataclass
class Table:
    title: str
    columns: list[str]
    rows: list[list[str]]
    notes: list[str]


def speed_table(
    speeds: Sequence[Speed], equality: dict[str, Equality], untimed: Mapping[str, str] | None = None
) -> Table:
    """`untimed`: method -> why it is not in the speed set."""
    columns = ["method", "exact", "tok/s", "speedup [95%]", "tau", "accepted", "acc. len", "= AR greedy", "s/correct*"]
    rows = [
        [
            s.method,
            "yes" if s.lossless else "no",
            number(s.tokens_per_second, 1),
            _speedup(s),
            number(s.tau, 2),
            percent(s.acceptance_rate),
            number(s.acceptance_length, 2),
            _equal(equality.get(s.method)),
            number(s.seconds_per_correct, 1),
        ]
        for s in speeds
    ]
    notes = [
        "speedup: tokens/s over the baseline's, same prompts, alternating; tau: emitted tokens / target forwards; "
        "accepted: of proposed tokens; acc. len: 1 + accepted / drafts",
        "* prefill, and the quality set's tokens an answer at the pace after it, over the quality set's accuracy",
    ]
    title = f"Speed ({_count(speeds)}, batch {max(s.batch for s in speeds)}, timed)"
    left_out = [f"not timed: {method}: {reason}" for method, reason in (untimed or {}).items()]
    return Table(title, columns, rows, notes + speed_warnings(speeds) + left_out)


def time_table(speeds: Sequence[Speed], memory: str, device: str) -> Table:
    """`memory`: what the peak is of; `device`: the target's, `cpu` or `cuda`."""
    columns = ["method", *PHASES, "first token ms", "ms/round", "peak MiB"]
    rows = [
        [
            s.method,
            *(percent(s.shares.get(phase)) for phase in PHASES),
            number(s.first_token_seconds, 0, 1000),
            number(s.round_seconds, 1, 1000),
            number(s.peak_memory, 0, 2**-20),
        ]
        for s in speeds
    ]
    notes = [f"peak: {memory}"]
    if device == "cuda":
        notes.append(CUDA_PHASES)
    return Table(f"Where the time goes (speed set, {_count(speeds)})", columns, rows, notes)


def position_table(speeds: Sequence[Speed], positions: int = 8) -> Table | None:
    """Unconditional / conditional acceptance at the first positions; None when nobody drafted."""
    drafting = [s for s in speeds if s.drafts]
    width = min(positions, max((len(s.unconditional) for s in drafting), default=0))
    if not width:
        return None
    rows = []
    for s in drafting:
        both = list(zip(s.unconditional, s.conditional, strict=True))[:width]
        shown = [f"{u:.0%} / " + (NONE if c is None else f"{c:.0%}") for u, c in both]
        rows.append([s.method, *shown, *[NONE] * (width - len(both))])
    note = "accepted at this position: of all drafts / of drafts whose earlier tokens were accepted and that reach it"
    columns = ["method", *(str(i + 1) for i in range(width))]
    return Table(f"Acceptance by position (speed set, {_count(drafting)})", columns, rows, [note])


def quality_table(qualities: Sequence[Quality], metric: str | None) -> Table:
    """metric: what the share of right answers is called; None where nothing is judged."""
    score = metric or ACCURACY
    columns = [
        "method",
        "exact",
        "n",
        f"{score} [95%]",
        "lost / gained",
        "p",
        "D",
        "tokens",
        "cut",
        "errors",
    ]
    rows = [
        [
            q.method,
            "yes" if q.lossless else "no",
            str(q.n),
            "= AR (lossless)" if q.inherited else _accuracy(q),
            f"{q.paired.lost} / {q.paired.gained}" if q.paired else NONE,
            f"{q.paired.p:.2g}" if q.paired and q.paired.p is not None else NONE,
            number(q.divergence, 3),
            NONE if q.inherited else number(q.mean_tokens, 0),
            NONE if q.inherited else percent(q.cut),
            NONE if q.inherited else str(q.errors),
        ]
        for q in qualities
    ]
    ran = [q for q in qualities if not q.inherited]
    count = f"n={max(q.n for q in ran)}" if ran else "n=0"
    note = (
        "Wilson interval over prompts; lost / gained: answers right with AR and wrong here / the reverse; p: McNemar's "
        "exact test, of these answers alone; "
        "D: distance between what was emitted and the target's law, summed over verified places, a token; "
        "cut: share that ran into the token limit, counted as wrong"
    )
    if len(ran) < len(qualities):
        note += ". A lossless method has AR's accuracy and is not run"
    return Table(f"Quality ({count}, batched, never timed)", columns, rows, [note, *_verdicts(qualities, score)])


def _verdicts(qualities: Sequence[Quality], score: str) -> list[str]:
    """What the answers beside the baseline's show, and of how many answers a prompt."""
    compared = [q for q in qualities if q.paired]
    notes = []
    for verdict in (NO_DIFFERENCE, "lower", "higher"):
        names = [q.method for q in compared if q.paired.verdict == verdict]
        if names:
            notes.append(f"{score} beside AR's, {verdict}: {', '.join(names)}")
    if len([q for q in compared if q.paired.p is not None]) > 1:
        notes.append("p is not corrected for the number of methods")
    seeded = [f"{q.method} ({q.answers})" for q in qualities if q.answers > q.n]
    if seeded:
        notes.append(
            f"n counts prompts; answers of several seeds: {', '.join(seeded)}; those of a prompt are not independent, "
            "so a bootstrap over prompts stands in for p"
        )
    return notes


def speed_warnings(speeds: Sequence[Speed]) -> list[str]:
    """What makes a speedup suspect, or no speedup."""
    notes = []
    for s in speeds:
        if s.batch == 1 and s.lossless and s.speedup and s.tau and s.speedup.low > s.tau:
            notes.append(
                f"WARNING: {s.method} is exact and faster than its {s.tau:.2f} tokens a target forward allow: "
                "the baseline was slow"
            )
        if s.errors:
            notes.append(f"{s.method}: {s.errors} rows failed and are in no figure; records.jsonl has the tracebacks")
        if s.apart:
            notes.append(
                f"{s.method}: {s.apart} of its blocks were timed in another session than the baseline's (the run was "
                "killed or extended); a new out=DIR times all side by side"
            )
        if s.unpaired:
            notes.append(
                f"{s.method}: {s.unpaired} of its rows are not in the speedup, as their batch failed in part or was "
                "decoded at another size than the baseline's"
            )
    undecided = [s.method for s in speeds if s.speedup and s.speedup.low <= 1 <= s.speedup.high]
    if undecided:
        notes.append(f"speed beside the baseline's, {NO_DIFFERENCE} (1 is within the interval): {', '.join(undecided)}")
    few = [s for s in speeds if 0 < s.blocks < FEWEST_BLOCKS]
    for blocks, group in groupby(sorted(few, key=lambda s: s.blocks), key=lambda s: s.blocks):
        names = ", ".join(s.method for s in group)
        count = "1 block" if blocks == 1 else f"{blocks} blocks"
        notes.append(f"{names}: {count}: too few for an interval ({FEWEST_BLOCKS} or more)")
    return notes


def render(tables: Sequence[Table], notes: Sequence[str]) -> RenderableType:
    parts: list[RenderableType] = []
    for table in tables:
        drawn = RichTable(title=table.title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
        for i, column in enumerate(table.columns):
            drawn.add_column(column, justify="right" if i else "left", no_wrap=True)
        for row in table.rows:
            drawn.add_row(*row)
        parts += [drawn, *(Text(note, style="dim") for note in table.notes), Text("")]
    return Group(*parts, *(Text(note) for note in notes))


def show(tables: Sequence[Table], notes: Sequence[str]) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=max([WIDTH, *map(_width, tables)]))
    console.print(render(tables, notes))


def markdown(title: str, tables: Sequence[Table], notes: Sequence[str]) -> str:
    parts = [f"# {title}\n"]
    for table in tables:
        lines = [table.columns, ["---"] + ["---:"] * (len(table.columns) - 1), *table.rows]
        grid = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        parts.append(f"## {table.title}\n\n{grid}\n\n" + "".join(f"- {note}\n" for note in table.notes))
    if notes:
        parts.append("## Notes\n\n" + "".join(f"- {note}\n" for note in notes))
    return "\n".join(parts)


def _width(table: Table) -> int:
    """Columns of the screen, at most: names of cells are long, and a file has room."""
    return 1 + sum(3 + max(map(len, column)) for column in zip(table.columns, *table.rows, strict=True))


def _speedup(speed: Speed) -> str:
    if speed.method == BASELINE:
        return "1.00x"
    return NONE if speed.speedup is None else times(*astuple(speed.speedup))


def _accuracy(quality: Quality) -> str:
    return NONE if quality.accuracy is None else share(*astuple(quality.accuracy))


def _equal(equality: Equality | None) -> str:
    if equality is None:
        return NONE
    ties = f" +{equality.near_ties} near-tie" if equality.near_ties else ""
    bugs = f" {equality.bugs} DIFFER" if equality.bugs else ""
    return f"{equality.equal}/{equality.n}{ties}{bugs}"


def _count(speeds: Sequence[Speed]) -> str:
    counts = sorted({s.n for s in speeds})
    return "n=" + "–".join(str(count) for count in (counts[0], counts[-1])[: len(counts)])
