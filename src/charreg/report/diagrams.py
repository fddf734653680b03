"""The paper's two schematic figures, as small vector files.

A diagram is a list of boxes and a list of arrows between them. Lengths are px of a page 900 px wide; y points down.
"""

import io
import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path as Line

from charreg.core.files import write_bytes

WIDTH = 900
PT = 0.72  # of one px: the page is nine inches wide
Point = tuple[float, float]

INK, GREY, RED = "#2b2b2b", "#8a8a8a", "#c62828"
BLUE, ORANGE, GREEN, PURPLE = "#2f6fab", "#c2601a", "#2e7d4f", "#6b3f8f"
DASHES = (0, (3, 2))
SIDES: dict[str, tuple[Point, dict[str, Any]]] = {
    "below": ((0, 1), {"va": "top"}),
    "above": ((0, -1), {"va": "bottom"}),
    "left": ((-1, 0), {"ha": "right"}),
    "right": ((1, 0), {"ha": "left"}),
}

CR, INV, SR, FR = (rf"$\phi_{{\mathrm{{{name}}}}}$" for name in ("cr", "inv", "sr", "fr"))
D_INV, D_F = r"$D_{\mathrm{inv}}$", "$D_f$"
L_SR, L_CR, L_CR_SR, L_CR_GAN, L_GAN = (
    rf"$L_{{\mathrm{{{name}}}}}$" for name in ("sr", "cr", "cr\\_sr", "cr\\_gan", "gan")
)
LAMBDA_CR, LAMBDA_CR_SR, LAMBDA_CR_GAN = (rf"$\lambda_{{\mathrm{{{name}}}}}$" for name in ("cr", "cr\\_sr", "cr\\_gan"))


@dataclass(frozen=True)
class Kind:
    """How the boxes of one kind look."""

    width: float
    height: float
    fill: str
    edge: str
    ink: str = INK
    corner: float = 1
    dashed: bool = False


KINDS = {  # a small square is a 16x16 face, a large one 64x64; a pale one was made by a network
    "artificial": Kind(36, 36, BLUE, BLUE, "white"),
    "like artificial": Kind(36, 36, "#dbe9f6", BLUE, BLUE),
    "genuine": Kind(36, 36, ORANGE, ORANGE, "white"),
    "like genuine": Kind(36, 36, "#fbe6d5", ORANGE, ORANGE),
    "hr": Kind(52, 52, GREEN, GREEN, "white"),
    "like hr": Kind(52, 52, "#d9efe1", GREEN, GREEN),
    "features": Kind(14, 44, "#d9efe1", GREEN, GREEN),
    "network": Kind(60, 40, "white", INK, corner=7),
    "frozen": Kind(60, 40, "#e4e4e4", GREY, corner=7, dashed=True),
    "judge": Kind(54, 40, "#ece2f4", PURPLE, PURPLE, corner=7),
    "loss": Kind(94, 40, "#fff4cc", "#a67c00", corner=18),
}
PANEL = Kind(0, 0, "white", "#cfcfcf", corner=4)


@dataclass(frozen=True)
class Box:
    """Something with a centre; `note` stands at its `side`, `tall` is for a network that several rows pass."""

    x: float
    y: float
    kind: str
    text: str
    note: str = ""
    side: str = "below"
    tall: float = 0
    px: float = 13  # of its text

    @property
    def half(self) -> Point:
        """Half its width and half its height."""
        kind = KINDS[self.kind]
        return kind.width / 2, (self.tall or kind.height) / 2

    def nearest(self, point: Point) -> Point:
        """Its point nearest to another, where a straight arrow from there ends."""
        (x, y), (half_x, half_y) = point, self.half
        return min(max(x, self.x - half_x), self.x + half_x), min(max(y, self.y - half_y), self.y + half_y)


@dataclass(frozen=True)
class Arrow:
    """What goes from one box to another, along corners; with `back`, its gradient returns the same way."""

    start: str
    end: str
    label: str = ""
    corners: Sequence[Point] = ()
    back: bool = False
    test: bool = False  # on the way of a genuine face at test time


@dataclass(frozen=True)
class Diagram:
    """Panels are (x, y, width, height, title); words are (x, y, text) from the left."""

    height: float
    panels: Sequence[tuple[float, float, float, float, str]]
    boxes: Mapping[str, Box]
    arrows: Sequence[Arrow]
    words: Sequence[tuple[float, float, str]]

    def route(self, arrow: Arrow) -> list[Point]:
        """The points an arrow passes, from the edge of its first box to the edge of its last."""
        start, end = self.boxes[arrow.start], self.boxes[arrow.end]
        if arrow.corners:
            return [start.nearest(arrow.corners[0]), *arrow.corners, end.nearest(arrow.corners[-1])]
        small, large = sorted((start, end), key=lambda box: box.half[0] * box.half[1])
        at = large.nearest((small.x, small.y))
        ends = [small.nearest(at), at]
        return ends if small is start else ends[::-1]


DESIGNS = Diagram(
    height=806,
    panels=(
        (8, 8, 884, 224, "(a)  Supervised SR, learned from artificial LR"),
        (8, 240, 884, 248, "(b)  Cycle-consistent translation of genuine LR, learned without pairs"),
        (8, 496, 884, 258, "(c)  CR: regularise the genuine face, then super-resolve it"),
    ),
    boxes={
        "a.A": Box(245, 100, "artificial", "A", "artificial LR"),
        "a.net": Box(345, 143, "network", "SR\nnet", tall=134),
        "a.SR(A)": Box(450, 100, "like hr", "SR(A)"),
        "a.loss": Box(552, 100, "loss", "pixel loss"),
        "a.H": Box(655, 100, "hr", "H", "HR"),
        "a.G": Box(245, 186, "genuine", "G", "genuine LR"),
        "a.S": Box(450, 186, "like hr", "S", "super-resolved"),
        "b.G": Box(245, 352, "genuine", "G", "genuine LR"),
        "b.up": Box(345, 352, "network", "LR to\nHR"),
        "b.S": Box(450, 352, "like hr", "S"),
        "b.down": Box(552, 352, "network", "HR to\nLR"),
        "b.back": Box(655, 352, "like genuine", "G'", "translated back"),
        "b.cycle": Box(450, 290, "loss", "cycle loss"),
        "b.D": Box(450, 440, "judge", "D"),
        "b.H": Box(655, 440, "hr", "H", "HR, unpaired"),
        "c.A": Box(245, 584, "artificial", "A", "artificial\nLR", "left"),
        "c.SR": Box(345, 643, "network", "SR\nnet", tall=166),
        "c.SR(A)": Box(450, 584, "like hr", "SR(A)"),
        "c.loss": Box(552, 584, "loss", "pixel loss"),
        "c.H": Box(655, 584, "hr", "H", "HR"),
        "c.D": Box(245, 643, "judge", "D", "A or R?", "left"),
        "c.G": Box(50, 702, "genuine", "G", "genuine LR"),
        "c.CR": Box(145, 702, "network", "CR\nnet"),
        "c.R": Box(245, 702, "like artificial", "R", "regulated LR"),
        "c.S": Box(450, 702, "like hr", "S", "super-resolved"),
    },
    arrows=(
        Arrow("a.H", "a.A", "down-sampling", [(655, 54), (245, 54)]),
        Arrow("a.A", "a.net"),
        Arrow("a.net", "a.SR(A)"),
        Arrow("a.SR(A)", "a.loss"),
        Arrow("a.H", "a.loss"),
        Arrow("a.G", "a.net", test=True),
        Arrow("a.net", "a.S", test=True),
        Arrow("b.G", "b.up", test=True),
        Arrow("b.up", "b.S", test=True),
        Arrow("b.S", "b.down"),
        Arrow("b.down", "b.back"),
        Arrow("b.G", "b.cycle", corners=[(245, 290)]),
        Arrow("b.back", "b.cycle", corners=[(655, 290)]),
        Arrow("b.S", "b.D", "fake"),
        Arrow("b.H", "b.D", "real"),
        Arrow("c.H", "c.A", "down-sampling", [(655, 540), (245, 540)]),
        Arrow("c.A", "c.SR"),
        Arrow("c.SR", "c.SR(A)"),
        Arrow("c.SR(A)", "c.loss"),
        Arrow("c.H", "c.loss"),
        Arrow("c.A", "c.D", "real"),
        Arrow("c.R", "c.D", "fake"),
        Arrow("c.G", "c.CR", test=True),
        Arrow("c.CR", "c.R", test=True),
        Arrow("c.R", "c.SR", test=True),
        Arrow("c.SR", "c.S", test=True),
    ),
    words=(
        (716, 74, "Learned from artificial LR\nfaces and the HR faces\nthey come from."),
        (716, 146, "At test time it meets faces\nunlike all of these."),
        (716, 312, "Learned from genuine LR\nand unpaired HR faces; the\nsame cycle runs from H."),
        (716, 384, "No face is there in both\nresolutions."),
        (716, 570, "The CR net learns from\ngenuine LR faces, the SR\nnet from true pairs."),
        (716, 642, "At test time the SR net\nmeets faces like those it\nhas learned from."),
        (
            12,
            766,
            "Thick arrows: the way of a genuine face at test time.\n"
            "Squares: faces, 16x16 px (small) and 64x64 px (large), given (full colour) or made (pale).",
        ),
    ),
)

OVERVIEW = Diagram(
    height=906,
    panels=(
        (8, 8, 332, 244, "(a)  Characteristic module: the inverse"),
        (348, 8, 544, 244, "(a)  Then the regulariser, with the inverse frozen"),
        (8, 260, 884, 252, "(b)  Super-resolution of artificial and of regulated LR"),
        (8, 520, 332, 236, "(c)  Alignment in LR space"),
        (348, 520, 544, 236, "(d)  Adversarial adaptation in feature space"),
    ),
    boxes={
        "a.A": Box(40, 92, "artificial", "A", "artificial\nLR"),
        "a.inv": Box(115, 92, "network", INV),
        "a.P": Box(190, 92, "like genuine", "P", "pseudo-genuine", "above"),
        "a.D": Box(190, 188, "judge", D_INV),
        "a.G": Box(98, 188, "genuine", "G", "genuine\nLR"),
        "a.loss": Box(286, 188, "loss", "GAN\neq. 5"),
        "r.A": Box(385, 92, "artificial", "A"),
        "r.inv": Box(469, 92, "frozen", INV, "frozen"),
        "r.P": Box(553, 92, "like genuine", "P"),
        "r.cr": Box(640, 140, "network", CR, tall=136),
        "r.cr(P)": Box(725, 92, "like artificial", f"{CR}(P)", px=10.5),
        "r.loss": Box(832, 92, "loss", f"{L_CR}\neq. 6"),
        "r.G": Box(553, 188, "genuine", "G"),
        "r.R": Box(725, 188, "like artificial", "R", "regulated\nLR"),
        "r.D": Box(832, 188, "judge", "D", "see (c)"),
        "b.A": Box(330, 334, "artificial", "A", "artificial LR"),
        "b.sr": Box(440, 382, "network", SR, tall=144),
        "b.sr(A)": Box(550, 334, "like hr", f"{SR}(A)"),
        "b.l_sr": Box(680, 334, "loss", f"{L_SR}: mse\neq. 1–2"),
        "b.H": Box(810, 334, "hr", "H", "HR"),
        "b.G": Box(90, 430, "genuine", "G", "genuine LR"),
        "b.cr": Box(210, 430, "network", CR),
        "b.R": Box(330, 430, "like artificial", "R", "regulated LR", "above"),
        "b.S": Box(550, 430, "like hr", "S", "super-resolved", "above"),
        "b.DS(S)": Box(680, 430, "like artificial", "DS(S)", "down-sampled", "above", px=10.5),
        "b.l_cr_sr": Box(810, 430, "loss", f"{L_CR_SR}: mse\neq. 7"),
        "c.G": Box(40, 596, "genuine", "G", "genuine\nLR"),
        "c.cr": Box(115, 596, "network", CR),
        "c.R": Box(190, 596, "like artificial", "R", "regulated LR", "above"),
        "c.D": Box(190, 692, "judge", "D"),
        "c.A": Box(98, 692, "artificial", "A", "artificial\nLR"),
        "c.loss": Box(286, 692, "loss", f"{L_GAN}\neq. 3–4"),
        "d.G": Box(462, 600, "genuine", "G"),
        "d.cr": Box(385, 600, "network", CR),
        "d.R": Box(385, 692, "like artificial", "R"),
        "d.sr": Box(462, 692, "network", SR),
        "d.S": Box(540, 692, "like hr", "S"),
        "d.H": Box(540, 600, "hr", "H"),
        "d.fr": Box(616, 646, "frozen", FR, "frozen", "above", tall=132),
        "d.f_H": Box(675, 600, "features", "", "features", "above"),
        "d.f_S": Box(675, 692, "features", ""),
        "d.D": Box(741, 646, "judge", D_F, tall=132),
        "d.loss": Box(838, 646, "loss", f"{L_CR_GAN}\neq. 8"),
        "key.given": Box(45, 792, "artificial", "A", "given"),
        "key.made": Box(125, 792, "like artificial", "R", "made"),
        "key.trained": Box(215, 792, "network", "net", "trained"),
        "key.frozen": Box(315, 792, "frozen", "net", "frozen"),
        "key.judge": Box(415, 792, "judge", "D", "discriminator"),
        "key.net": Box(560, 792, "network", "net"),
        "key.loss": Box(720, 792, "loss", "loss"),
    },
    arrows=(
        Arrow("a.A", "a.inv"),
        Arrow("a.inv", "a.P", back=True),
        Arrow("a.P", "a.D", "fake", back=True),
        Arrow("a.G", "a.D", "real"),
        Arrow("a.D", "a.loss", back=True),
        Arrow("r.A", "r.inv"),
        Arrow("r.inv", "r.P"),
        Arrow("r.P", "r.cr"),
        Arrow("r.cr", "r.cr(P)", back=True),
        Arrow("r.cr(P)", "r.loss", "mse", back=True),
        Arrow("r.A", "r.loss", "A is the target", [(385, 56), (832, 56)]),
        Arrow("r.G", "r.cr"),
        Arrow("r.cr", "r.R", back=True),
        Arrow("r.R", "r.D", back=True),
        Arrow("r.D", "r.loss", rf"$\lambda$ {L_GAN}", back=True),
        Arrow("b.A", "b.sr"),
        Arrow("b.sr", "b.sr(A)", back=True),
        Arrow("b.sr(A)", "b.l_sr", back=True),
        Arrow("b.H", "b.l_sr"),
        Arrow("b.G", "b.cr"),
        Arrow("b.cr", "b.R", back=True),
        Arrow("b.R", "b.sr", back=True),
        Arrow("b.sr", "b.S", back=True),
        Arrow("b.S", "b.DS(S)", back=True),
        Arrow("b.DS(S)", "b.l_cr_sr", back=True),
        Arrow("b.R", "b.l_cr_sr", "R is the target", [(330, 488), (810, 488)], back=True),
        Arrow("c.G", "c.cr"),
        Arrow("c.cr", "c.R", back=True),
        Arrow("c.R", "c.D", "fake", back=True),
        Arrow("c.A", "c.D", "real"),
        Arrow("c.D", "c.loss", back=True),
        Arrow("d.G", "d.cr"),
        Arrow("d.cr", "d.R", back=True),
        Arrow("d.R", "d.sr", back=True),
        Arrow("d.sr", "d.S", back=True),
        Arrow("d.H", "d.fr"),
        Arrow("d.S", "d.fr", back=True),
        Arrow("d.fr", "d.f_H"),
        Arrow("d.fr", "d.f_S", back=True),
        Arrow("d.f_H", "d.D", "real"),
        Arrow("d.f_S", "d.D", "fake", back=True),
        Arrow("d.D", "d.loss", back=True),
        Arrow("key.net", "key.loss", "forward", back=True),
    ),
    words=(
        (604, 803, "gradient"),
        (
            12,
            844,
            f"Stage 1: {SR} by eq. 1–2, {FR} on H, {INV} by eq. 5, then {CR} by eq. 6.\n"
            f"Stage 2: {SR} and {CR} together by eq. 9, {L_SR} + {LAMBDA_CR} {L_CR} + {LAMBDA_CR_SR} {L_CR_SR}"
            f" + {LAMBDA_CR_GAN} {L_CR_GAN}.\n"
            f"Test time: {SR}({CR}(G)) of a genuine face, {SR}(A) of an artificial one, without {CR}.",
        ),
    ),
)

DIAGRAMS = {
    "figure1_designs.svg": (
        DESIGNS,
        "Figure 1. Three designs: (a) supervised super-resolution, learned from artificial low-resolution faces and"
        " applied to genuine ones; (b) cycle-consistent translation of genuine faces to high resolution and back,"
        " learned without pairs; (c) characteristic regularisation (CR), which makes a genuine face look like an"
        " artificial one and then super-resolves it",
    ),
    "figure2_overview.svg": (
        OVERVIEW,
        "Figure 2. Overview of CR: (a) the characteristic module, whose inverse first learns to make pseudo-genuine"
        " faces P of artificial ones A and is then frozen, while the regulariser learns to undo it;"
        " (b) super-resolution of artificial faces A and of regulated faces R; (c) alignment of regulated with"
        " artificial faces in LR space; (d) adversarial adaptation in the feature space of a frozen recogniser."
        " A discriminator learns from its own half of its equation and hands on the gradient of the other half;"
        " equations have the paper's numbers",
    ),
}


def draw_diagrams(out: Path) -> dict[str, str]:
    """Write both figures into `out`; returns file name -> caption."""
    for name, (diagram, _) in DIAGRAMS.items():
        content = io.BytesIO()
        with fixed_style():
            draw(diagram).savefig(content, format="svg", metadata={"Date": None, "Creator": None})
        write_bytes(out / name, content.getvalue())
    return {name: caption for name, (_, caption) in DIAGRAMS.items()}


def fixed_style() -> AbstractContextManager[None]:
    """While a figure is drawn and saved: what else would change from machine to machine and from run to run."""
    return mpl.rc_context(
        {
            "svg.fonttype": "path",  # outlines look the same whichever fonts a reader has
            "svg.hashsalt": "charreg",  # of names inside the file
            "font.family": "DejaVu Sans",  # comes with matplotlib
            "mathtext.fontset": "dejavusans",
        }
    )


def draw(diagram: Diagram) -> Figure:
    """The diagram on a white page."""
    figure = Figure(figsize=(WIDTH / 100, diagram.height / 100), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(diagram.height, 0))
    axes.set_axis_off()
    for x, y, width, height, title in diagram.panels:
        _draw_rectangle(axes, (x, y), (width, height), PANEL)
        _write(axes, (x + 10, y + 16), title, 15, ha="left")
    for arrow in diagram.arrows:
        _draw_arrow(axes, diagram.route(arrow), arrow)
    for box in diagram.boxes.values():
        _draw_box(axes, box)
    for x, y, text in diagram.words:
        _write(axes, (x, y), text, ha="left", va="top", linespacing=1.4)
    return figure


def _write(axes: Axes, at: Point, text: str, px: float = 11.5, **style: Any) -> None:
    axes.text(*at, text, **{"fontsize": px * PT, "color": INK, "ha": "center", "va": "center", **style})


def _draw_rectangle(axes: Axes, corner: Point, size: Point, kind: Kind) -> None:
    axes.add_patch(
        FancyBboxPatch(
            corner,
            *size,
            boxstyle=f"round,pad=0,rounding_size={kind.corner}",
            facecolor=kind.fill,
            edgecolor=kind.edge,
            linewidth=1.2 * PT,
            linestyle=DASHES if kind.dashed else "solid",
            joinstyle="round",
            clip_on=False,
        )
    )


def _draw_box(axes: Axes, box: Box) -> None:
    kind, (half_x, half_y) = KINDS[box.kind], box.half
    _draw_rectangle(axes, (box.x - half_x, box.y - half_y), (2 * half_x, 2 * half_y), kind)
    _write(axes, (box.x, box.y), box.text, box.px, color=kind.ink)
    if box.note:
        (dx, dy), aligned = SIDES[box.side]
        _write(axes, (box.x + dx * (half_x + 5), box.y + dy * (half_y + 4)), box.note, **aligned)


def _draw_arrow(axes: Axes, points: list[Point], arrow: Arrow) -> None:
    _draw_line(axes, points, INK, 2.6 if arrow.test else 1.1)
    if arrow.back:
        _draw_line(axes, beside(points, 6)[::-1], RED, 1.1, DASHES)
    if arrow.label:
        longest = max(pairwise(points), key=lambda ends: math.dist(*ends))
        (x, y), (to_x, to_y) = beside(longest if arrow.back else sorted(longest), -4)  # gradients have the other side
        side = "above" if to_x > x else "below" if to_x < x else "right" if to_y > y else "left"
        _write(axes, ((x + to_x) / 2, (y + to_y) / 2), arrow.label, **SIDES[side][1])


def _draw_line(axes: Axes, points: Sequence[Point], colour: str, px: float, dashes: Any = "solid") -> None:
    axes.add_patch(
        FancyArrowPatch(
            path=Line(points),
            arrowstyle=f"-|>,head_length={4 + px},head_width={1.6 + px / 2}",
            mutation_scale=PT,
            linewidth=px * PT,
            linestyle=dashes,
            color=colour,
            capstyle="butt",
            joinstyle="round",
            clip_on=False,
        )
    )


def beside(points: Sequence[Point], distance: float) -> list[Point]:
    """The same way with right angles, `distance` px to the right of one who walks it."""
    steps = np.diff(points, axis=0)
    right = steps[:, ::-1] * (-1, 1) / np.linalg.norm(steps, axis=1, keepdims=True)
    shifts = np.concatenate([right[:1], right[:-1] + right[1:], right[-1:]])
    return [(float(x), float(y)) for x, y in np.asarray(points) + distance * shifts]
