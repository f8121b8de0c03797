"""Series told apart three ways: by colour (also to the colour-blind), by the shape of their marks, by dashes.

The colours of a theme stand 3:1 or more against its background. style.css has those of both themes under these places.
"""

from dataclasses import dataclass

COLOURS = ["#1f6fb4", "#c2410c", "#0f7b5f", "#8b4bb0", "#8a6d00", "#c03673", "#0e7490", "#5f6672"]
DASHES = ["", "6 3", "2 3"]
# corners of a mark, in radii around its middle; none: a circle
SHAPES: list[list[tuple[float, float]]] = [
    [],
    [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
    [(0, -1.25), (1.15, 0.85), (-1.15, 0.85)],
    [(0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)],
    [(0, 1.25), (1.15, -0.85), (-1.15, -0.85)],
    [(-0.4, -1.2), (0.4, -1.2), (0.4, -0.4), (1.2, -0.4), (1.2, 0.4), (0.4, 0.4), (0.4, 1.2), (-0.4, 1.2)]
    + [(-0.4, 0.4), (-1.2, 0.4), (-1.2, -0.4), (-0.4, -0.4)],
    [(0, -1.25), (1.2, -0.35), (0.75, 1.05), (-0.75, 1.05), (-1.2, -0.35)],
]


@dataclass(frozen=True)
class Look:
    """Of a series, by its place in the chart; alike again only after 56."""

    place: int

    @property
    def colour(self) -> int:
        return self.place % len(COLOURS)

    @property
    def shape(self) -> int:
        return self.place % len(SHAPES)

    @property
    def dash(self) -> str:
        return DASHES[self.place // len(COLOURS) % len(DASHES)]
