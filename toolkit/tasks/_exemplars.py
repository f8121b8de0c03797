"""Our own worked examples for few-shot prompts: eight of grade-school level, four of competition level.

Each is written out twice, as a chain of thought (full sentences) and as a chain of draft (steps of at most
five words, parted by semicolons). The answer is kept apart: the prompt decides how it is marked.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Exemplar:
    """A question, two ways to work it out, and its answer."""

    question: str
    cot: str
    cod: str
    answer: str


GRADE_SCHOOL = (
    Exemplar(
        "A bakery packs muffins in trays of 12. On Monday it filled 7 trays and had 5 muffins left over. "
        "How many muffins did it bake on Monday?",
        "Each tray holds 12 muffins, so 7 trays hold 12 * 7 = 84 muffins. "
        "With the 5 that were left over, the bakery baked 84 + 5 = 89 muffins.",
        "12 * 7 = 84; 84 + 5 = 89.",
        "89",
    ),
    Exemplar(
        "Ravi has 60 stickers. He keeps a third of them and shares the rest equally among 4 friends. "
        "How many stickers does each friend get?",
        "A third of 60 stickers is 60 / 3 = 20, which Ravi keeps. That leaves 60 - 20 = 40 stickers to share. "
        "Each of the 4 friends gets 40 / 4 = 10 stickers.",
        "60 / 3 = 20; 60 - 20 = 40; 40 / 4 = 10.",
        "10",
    ),
    Exemplar(
        "A ferry ticket costs $9 for an adult and $4 for a child. How many dollars do 2 adults and 3 children pay?",
        "The 2 adults pay 2 * 9 = 18 dollars. The 3 children pay 3 * 4 = 12 dollars. "
        "Together they pay 18 + 12 = 30 dollars.",
        "2 * 9 = 18; 3 * 4 = 12; 18 + 12 = 30.",
        "30",
    ),
    Exemplar(
        "Mei reads 15 pages on each of the five weekdays and 25 pages on each day of the weekend. "
        "How many pages does she read in a week?",
        "On weekdays Mei reads 5 * 15 = 75 pages. At the weekend she reads 2 * 25 = 50 pages. "
        "In the whole week she reads 75 + 50 = 125 pages.",
        "5 * 15 = 75; 2 * 25 = 50; 75 + 50 = 125.",
        "125",
    ),
    Exemplar(
        "A tank that holds 200 liters is 40% full. A pump adds 15 liters a minute. "
        "After how many minutes is the tank full?",
        "The tank already holds 40% of 200 liters, which is 0.4 * 200 = 80 liters. "
        "So 200 - 80 = 120 liters are missing. At 15 liters a minute this takes 120 / 15 = 8 minutes.",
        "0.4 * 200 = 80; 200 - 80 = 120; 120 / 15 = 8.",
        "8",
    ),
    Exemplar(
        "Tomas is 6 years younger than Ines. Together they are 40 years old. How old is Ines?",
        "Call the age of Ines x; then Tomas is x - 6. Together x + x - 6 = 40, so 2x = 46. "
        "Ines is 46 / 2 = 23 years old.",
        "Ines x, Tomas x-6; 2x - 6 = 40; 2x = 46; x = 23.",
        "23",
    ),
    Exemplar(
        "A jacket is marked $80. It is sold at 25% off, and then $5 of tax is added. How many dollars are paid for it?",
        "The discount is 25% of 80 dollars, which is 0.25 * 80 = 20 dollars. The price falls to 80 - 20 = 60 dollars. "
        "With the tax, 60 + 5 = 65 dollars are paid.",
        "0.25 * 80 = 20; 80 - 20 = 60; 60 + 5 = 65.",
        "65",
    ),
    Exemplar(
        "A rope of 18 meters is cut into pieces of 1.5 meters. Four of the pieces are thrown away. "
        "How many pieces are left?",
        "Cutting 18 meters into pieces of 1.5 meters gives 18 / 1.5 = 12 pieces. "
        "After 4 of them are thrown away, 12 - 4 = 8 pieces are left.",
        "18 / 1.5 = 12; 12 - 4 = 8.",
        "8",
    ),
)

COMPETITION = (
    Exemplar(
        "If $3x - 7 = 2x + 5$, what is the value of $x^2$?",
        "Subtracting $2x$ from both sides gives $x - 7 = 5$, so $x = 12$. Therefore $x^2 = 12^2 = 144$.",
        "$x - 7 = 5$; $x = 12$; $x^2 = 144$.",
        "144",
    ),
    Exemplar(
        "What fraction of the integers from 1 to 20 are divisible by 3 or by 5?",
        "There are 6 multiples of 3 and 4 multiples of 5 up to 20, and 15 is counted in both. "
        r"So $6 + 4 - 1 = 9$ of the 20 integers qualify, which is the fraction $\frac{9}{20}$.",
        r"multiples of 3: 6; multiples of 5: 4; both: 15; 6+4-1 = 9; $\frac{9}{20}$.",
        r"\frac{9}{20}",
    ),
    Exemplar(
        "The point $(2, 5)$ is reflected over the line $y = x$ and then moved 3 units to the right. "
        "What are its coordinates after that?",
        "Reflecting over $y = x$ swaps the coordinates, which gives $(5, 2)$. "
        "Moving 3 units to the right adds 3 to the first coordinate, which gives $(8, 2)$.",
        "reflect: $(5, 2)$; right 3: $(8, 2)$.",
        "(8, 2)",
    ),
    Exemplar(
        "For how many integers $n$ is $n^2 - 4n < 5$?",
        "The inequality is $n^2 - 4n - 5 < 0$, that is $(n - 5)(n + 1) < 0$, which holds for $-1 < n < 5$. "
        "The integers in this range are 0, 1, 2, 3 and 4, so there are 5 of them.",
        "$(n-5)(n+1) < 0$; $-1 < n < 5$; $n$: 0 to 4; 5 integers.",
        "5",
    ),
)
