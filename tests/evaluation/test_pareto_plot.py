"""The picture: names of the front never lie on each other, and whoever is below it has none."""

import itertools

import pytest
from matplotlib import pyplot as plt
from matplotlib.text import Annotation, Text

from toolkit.evaluation import pareto_plot
from toolkit.evaluation.pareto_plot import spread
from toolkit.evaluation.pareto_points import Point, dominated
from toolkit.evaluation.score import BASELINE, Quality, Speed
from toolkit.evaluation.stats import Interval, wilson


@pytest.mark.parametrize(
    ("heights", "found"),
    [
        ([0.9, 0.5, 0.1], [0.9, 0.5, 0.1]),
        ([0.5, 0.5, 0.5], [0.5, 0.4, 0.3]),
        ([0.15, 0.1, 0.05], [0.2, 0.1, 0.0]),
        ([1.0, 1.0, 0.02, 0.01], [1.0, 0.9, 0.1, 0.0]),
        ([0.3], [0.3]),
        ([], []),
    ],
)
def test_names_are_spread(heights, found):
    assert spread(heights, 0.1) == pytest.approx(found)


def test_more_names_than_room_are_as_far_apart_as_they_can_be():
    assert spread([0.5] * 5, 0.9) == pytest.approx([1.0, 0.75, 0.5, 0.25, 0.0])


def point(method, family, speed, accuracy, *, control=False):
    quality = Quality(method, False, False, 200, 0, wilson(accuracy, 200))
    timed = Speed(method, False, 24, 24, 0, 1, 1000, 1.0, 1000.0, None, 500, 500, 900, 500, 0.5, 2.0, 2.0)
    around = Interval(speed, speed - 0.05, speed + 0.05)
    return Point(method, family, {}, method == BASELINE, control, quality, timed, around, None, None)


def test_the_front_is_named_and_no_two_names_overlap(tmp_path, monkeypatch):
    """Forty-five points, nineteen of them on the front and all but one of these within two percent of each other."""
    placed = [point(BASELINE, BASELINE, 1.0, 0.58)]
    placed += [point(f"judge_threshold={i}_k=16", "judge", 1.5 + 0.002 * i, 0.58 - 0.001 * i) for i in range(18)]
    placed += [point(f"topk_k={i}_k=8", "topk", 1.2 + 0.01 * i, 0.3 - 0.01 * i) for i in range(25)]
    placed += [point("all", "topk", 2.5, 0.05, control=True)]
    beaten = dominated(placed)
    kept = []
    monkeypatch.setattr(pareto_plot, "save", lambda figure, *paths: kept.append(figure))
    pareto_plot.draw(placed, beaten, (1.0, 0.0), tmp_path / "x.png")
    [figure] = kept
    figure.canvas.draw()
    [axes] = figure.axes
    names = [child for child in axes.get_children() if isinstance(child, Annotation)]
    assert [name.get_text() for name in names] == [f"judge_threshold={i}_k=16" for i in range(18)] + ["all"]
    boxes = [Text.get_window_extent(name) for name in names]  # an annotation's own has its line in it
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    whole = figure.bbox
    assert all(whole.x0 <= box.x0 and box.x1 <= whole.x1 and box.x0 > axes.bbox.x1 for box in boxes)
    assert [text.get_text() for text in figure.legends[0].get_texts()][:3] == [BASELINE, "judge", "topk"]
    plt.close(figure)
