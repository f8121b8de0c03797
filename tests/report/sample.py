"""An invented page with every kind of part, texts that mean harm, and figures that are missing or without end."""

import math

import numpy as np

from toolkit.evaluation.stats import Interval
from toolkit.report.page import Chart, Column, Example, Page, Point, Section, Series, Span, Table, Text

SCRIPT = "<script>document.title = 'taken'</script>"
CONTROLS = "bell \x07, back \x08, escape \x1b[31m, null \x00, delete \x7f"
BIDI = "abc \u202edesrever\u202c \u2066isolate\u2069 \u200bno width\ufeff"
HARMFUL = f"{SCRIPT} \"quotes' & ]]> --> </style></script></pre></details>\n{CONTROLS}\n{BIDI} \ud800 `|` *x* $x^2$"

METHODS = ["baseline", "ngram", "draft_k=4", "eagle3", "smollm2-cot-jointadaspec:k1.0,cascade=2", "fuzzy", SCRIPT]
TASKS = ["gsm8k", "math medium", "humaneval"]

COLUMNS = [
    Column("method", "method"),
    Column("exact", "exact", help="its output law is the target's own"),
    Column("speedup", "speedup", "ratio", "high", "tokens a second over the baseline's"),
    Column("tokens_per_second", "tokens/s", "number", "high"),
    Column("accuracy", "accuracy", "percent", "high"),
    Column("first_token_ms", "first token", "ms", "low"),
    Column("latency_s", "latency, p95", "seconds", "low"),
    Column("peak_bytes", "peak memory", "bytes"),
    Column("prompts", "n", "count"),
    Column("verdict", "speed is"),
]


def page(seed: int = 0, methods: int = len(METHODS)) -> Page:
    """Different for each seed."""
    rng = np.random.default_rng(seed)
    names = METHODS[:methods]
    return Page(
        f"Speculative decoding of SmolLM2-135M, run {seed}",
        "Every method beside plain autoregression, on three tasks.\n\nInvented figures, for tests of how a page looks.",
        [
            Section("headline", "Headline", "What each is worth.\n\nIn two paragraphs.", _headline(rng, names)),
            Section("charts", "Charts", "", _charts(rng, names)),
            Section("examples", "Example generations", "What the drafts said.", [_example(rng, i) for i in range(3)]),
            Section("harm", HARMFUL, HARMFUL, [Text(HARMFUL, warning=True), Text(HARMFUL), *_harmful()]),
            Section("nothing", "Nothing", "", [Table("empty", "An empty table", COLUMNS[:3], [])]),
        ],
    )


def around(value: float, width: float = 0.08) -> Interval:
    return Interval(value, value * (1 - width), value * (1 + width))


def _headline(rng: np.random.Generator, names: list[str]) -> list[Table | Text]:
    rows = [
        [
            name,
            i < 4,
            None if i == 0 else around(1 + float(rng.random())),
            around(20 + 20 * float(rng.random())),
            around(0.3 + 0.3 * float(rng.random())),
            100 + 50 * float(rng.random()),
            1 + 3 * float(rng.random()),
            int(2**30 * (1 + rng.random())),
            24,
            None if i == 0 else "no difference shown" if i == 1 else "faster",
        ]
        for i, name in enumerate(names)
    ]
    rows.append(
        ["no bounds", False, Interval(1.2, math.nan, math.nan), None, Interval(0.1, 0.0, math.inf), *[None] * 5]
    )
    notes = ["temperature 0, at most 128 new tokens", HARMFUL]
    return [
        Text("A run of this report was killed.", warning=True),
        Table("headline", "All methods", COLUMNS, rows, notes),
    ]


def _charts(rng: np.random.Generator, names: list[str]) -> list[Chart]:
    by_task = [Series(name, [_ranged(rng, task) for task in TASKS]) for name in names[1:4]]
    phases = [
        Series(phase, [Point(name, share) for name in names])
        for phase, share in {"prefill": 0.1, "draft": 0.3, "verify": 0.5, "host": 0.1}.items()
    ]
    positions = [
        Series(name, [Point(k, float(0.9 ** (k * (1 + i / 4)))) for k in range(1, 9)])
        for i, name in enumerate(names[1:])
    ]
    placed = [Series(name, [_placed(rng, name, i)]) for i, name in enumerate(names)]
    return [
        Chart("pareto", "Speed and accuracy", "scatter", "speedup", "accuracy", placed, 1.0, [], "ratio", "percent"),
        Chart(
            "by_task", "Speedup by task", "bars", "task", "speedup over AR", by_task, 1.0, ["a note"], y_form="ratio"
        ),
        Chart("positions", "Acceptance by position", "lines", "position", "accepted", positions, y_form="percent"),
        Chart("phases", "Where the time goes", "stacked", "method", "share of the time", phases, y_form="percent"),
    ]


def _ranged(rng: np.random.Generator, task: str) -> Point:
    found = around(0.8 + float(rng.random()), 0.05 + 0.1 * float(rng.random()))
    return Point(task, found.value, y_range=(found.low, found.high))


def _placed(rng: np.random.Generator, name: str, i: int) -> Point:
    x, y = 1 + 0.2 * i, 0.5 - 0.03 * i - (0.1 if i % 3 == 1 else 0)
    return Point(x, y, name, (x - 0.05, x + 0.06), (y - 0.08, y + 0.08), marked=i % 3 != 1)


def _example(rng: np.random.Generator, i: int) -> Example:
    words = [
        "Natalia",
        "sold",
        "48",
        "/",
        "2",
        "=",
        "24",
        "clips",
        "in",
        "May,",
        "so",
        "she",
        "sold",
        "48",
        "+",
        "24",
        "=",
        "72",
        "clips",
        "altogether.\n####",
        "72",
    ]
    prompt = [("system", "You are brief."), ("user", "How many clips did Natalia sell? " + "More of it. " * (40 * i))]
    spans: list[Span] = []
    for word in words:
        kind = rng.choice(["accepted", "accepted", "accepted", "target"])
        spans.append(Span(f"{word} ", str(kind)))
        if kind == "target":
            spans.insert(-1, Span(" and\n" if rng.random() < 0.3 else "the ", "rejected"))
    facts = [("tau", "2.31"), ("accepted", "71%"), ("answer", "right")]
    return Example(f"gsm8k-{i}", METHODS[1 + i], spans, facts, prompt)


def _harmful() -> list[Table | Chart | Example]:
    table = Table("harm", HARMFUL, [Column("text", HARMFUL, help=HARMFUL)], [[HARMFUL], ["=1+1"]], [HARMFUL])
    points = [Point(HARMFUL, 1.0, HARMFUL), Point("b", math.nan), Point("c", 2.0, y_range=(math.nan, math.nan))]
    chart = Chart("harm", HARMFUL, "bars", HARMFUL, HARMFUL, [Series(HARMFUL, points), Series("_b", points[2:])])
    spans = [Span(HARMFUL, kind) for kind in ("prompt", "accepted", "target", "rejected", "prompt")]
    return [table, chart, Example(HARMFUL, HARMFUL, spans, [(HARMFUL, HARMFUL)], [(HARMFUL, HARMFUL)])]
