"""The schematic figures: what the files hold, what the arrows say, and that nothing lies on anything else."""

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from charreg.report.diagrams import DESIGNS, OVERVIEW, WIDTH, Arrow, Diagram, beside, draw, draw_diagrams, fixed_style

GIVEN = ("artificial", "genuine", "hr")
WANTED = {
    "figure1_designs.svg": ["SR(A)", "pixel loss", "cycle loss", "HR, unpaired", "genuine LR", "regulated LR"],
    "figure2_overview.svg": [
        *("eq. 1–2", "eq. 3–4", "eq. 5", "eq. 6", "eq. 7", "eq. 8", "eq. 9", "frozen", "gradient", "DS(S)"),
        *(rf"\phi_{{\mathrm{{{name}}}}}" for name in ("cr", "inv", "sr", "fr")),
        *("D_f", r"D_{\mathrm{inv}}", "pseudo-genuine", "(a)", "(b)", "(c)", "(d)"),
    ],
}


def texts_of(path: Path) -> str:
    """The texts of a picture, which stand as comments beside their outlines."""
    builder = ElementTree.TreeBuilder(insert_comments=True)
    root = ElementTree.fromstring(path.read_bytes(), ElementTree.XMLParser(target=builder))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    return "\n".join(element.text or "" for element in root.iter() if element.tag is ElementTree.Comment)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    draw_diagrams(folder)
    return folder


def test_files_are_those_with_captions_and_come_out_the_same(drawn: Path, tmp_path: Path) -> None:
    captions = draw_diagrams(tmp_path)
    assert list(captions) == list(WANTED) == sorted(path.name for path in tmp_path.iterdir())
    for name in captions:
        assert (tmp_path / name).read_bytes() == (drawn / name).read_bytes()
    assert [caption.partition(":")[0] for caption in captions.values()] == [
        "Figure 1. Three designs",
        "Figure 2. Overview of CR",
    ]
    assert not any(set(caption) & set("*_[]\n") for caption in captions.values())  # they are markdown


@pytest.mark.parametrize("name", WANTED)
def test_files_are_small_and_say_what_they_must(name: str, drawn: Path) -> None:
    texts = texts_of(drawn / name)
    assert [word for word in WANTED[name] if word not in texts] == []
    assert (drawn / name).stat().st_size < 150_000


@pytest.mark.parametrize("name", WANTED)
def test_files_refer_to_nothing_outside(name: str, drawn: Path) -> None:
    content = (drawn / name).read_text(encoding="utf-8")
    assert not re.search(r"<!ENTITY|<script|<image|<text|@import", content)
    links = re.findall(r'href="(.*?)"', content) + re.findall(r"url\((.*?)\)", content)
    assert links
    assert all(link.startswith("#") for link in links)


# --- facts -----------------------------------------------------------------------------------------------


def shown_to(diagram: Diagram, judge: str) -> dict[str, str]:
    """What a discriminator compares: real or fake -> kind of the box it comes from."""
    arrows = [arrow for arrow in diagram.arrows if arrow.end == judge]
    return {arrow.label: diagram.boxes[arrow.start].kind for arrow in arrows}


def test_real_is_artificial_for_d_and_genuine_for_its_inverse() -> None:
    assert shown_to(OVERVIEW, "a.D") == {"real": "genuine", "fake": "like genuine"}
    assert shown_to(OVERVIEW, "c.D") == {"real": "artificial", "fake": "like artificial"}
    assert shown_to(DESIGNS, "c.D") == {"real": "artificial", "fake": "like artificial"}
    assert shown_to(DESIGNS, "b.D") == {"real": "hr", "fake": "like hr"}


def passed_by_gradient(diagram: Diagram, loss: str) -> set[str]:
    """The boxes a loss sends its gradient to; inside a network that several rows pass, it stays in its row."""

    def before(arrow: Arrow) -> list[Arrow]:
        box = diagram.boxes[arrow.start]
        found = [other for other in diagram.arrows if other.back and other.end == arrow.start]
        if box.kind != "judge" and box.tall:
            row = diagram.route(arrow)[0][1]
            found = [other for other in found if diagram.route(other)[-1][1] == row]
        return found

    found: list[Arrow] = []
    new = [arrow for arrow in diagram.arrows if arrow.end == loss and arrow.back]
    while new:
        found += new
        new = [other for arrow in new for other in before(arrow)]
    return {arrow.start for arrow in found}


@pytest.mark.parametrize(
    ("loss", "equation", "networks"),
    [
        ("a.loss", "eq. 5", {"a.D", "a.inv"}),
        ("r.loss", "eq. 6", {"r.D", "r.cr"}),
        ("b.l_sr", "eq. 1–2", {"b.sr"}),
        ("b.l_cr_sr", "eq. 7", {"b.sr", "b.cr"}),
        ("c.loss", "eq. 3–4", {"c.D", "c.cr"}),
        ("d.loss", "eq. 8", {"d.D", "d.fr", "d.sr", "d.cr"}),  # through the frozen phi_fr to the image
    ],
)
def test_gradients_of_a_loss_reach_its_networks(loss: str, equation: str, networks: set[str]) -> None:
    boxes = OVERVIEW.boxes
    assert equation in boxes[loss].text
    passed = passed_by_gradient(OVERVIEW, loss)
    assert {name for name in passed if boxes[name].kind in ("network", "frozen", "judge")} == networks
    assert not any(boxes[name].kind in GIVEN for name in passed)


def test_what_is_frozen() -> None:
    boxes = OVERVIEW.boxes
    frozen = {name for name, box in boxes.items() if box.kind == "frozen"}
    assert frozen == {"r.inv", "d.fr", "key.frozen"}
    assert all(boxes[name].note == "frozen" for name in frozen)


def test_artificial_faces_do_without_the_regulariser() -> None:
    """Of artificial faces only P, which the inverse made of one, passes phi_cr; at test time none does."""
    regulators = {name for name, box in OVERVIEW.boxes.items() if "{cr}" in box.text and box.kind == "network"}
    assert regulators == {"r.cr", "b.cr", "c.cr", "d.cr"}
    entering = {OVERVIEW.boxes[arrow.start].text for arrow in OVERVIEW.arrows if arrow.end in regulators}
    assert entering == {"G", "P"}
    assert any(re.search(r"Test time: .* of an artificial one, without .*cr", text) for *_, text in OVERVIEW.words)


def test_way_of_a_genuine_face_at_test_time() -> None:
    ways = {panel: [f"{panel}.G"] for panel in "abc"}
    for arrow in DESIGNS.arrows:
        if arrow.test:
            way = ways[arrow.start[0]]
            assert way[-1] == arrow.start
            way.append(arrow.end)
    assert ways == {
        "a": ["a.G", "a.net", "a.S"],
        "b": ["b.G", "b.up", "b.S"],
        "c": ["c.G", "c.CR", "c.R", "c.SR", "c.S"],
    }


# --- layout ----------------------------------------------------------------------------------------------


def collisions(diagram: Diagram) -> Iterator[str]:
    """What lies on something else, or outside the page."""
    with fixed_style():
        figure = draw(diagram)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        to_px = figure.axes[0].transData.inverted()
        texts = [
            (text.get_text(), text.get_window_extent(canvas.get_renderer()).transformed(to_px))
            for text in figure.findobj(Text)
            if text.get_text()
        ]
    boxes = {
        name: Bbox.from_bounds(box.x - box.half[0], box.y - box.half[1], 2 * box.half[0], 2 * box.half[1])
        for name, box in diagram.boxes.items()
    }
    page = Bbox.from_bounds(0, 0, WIDTH, diagram.height)
    frames = {**boxes, **{title: Bbox.from_bounds(*panel) for *panel, title in diagram.panels}}
    for text, extent in texts:
        if not inside(extent, page):
            yield f"{text} / page"
        yield from (f"{text} / {name}" for name, at in frames.items() if touch(extent, at) and not inside(extent, at))
    yield from (f"{one} / {other}" for (one, at), (other, there) in combinations(texts, 2) if touch(at, there))
    yield from (f"{one} / {other}" for one, other in combinations(boxes, 2) if touch(boxes[one], boxes[other]))
    for arrow in diagram.arrows:
        route = diagram.route(arrow)
        for piece in [*pairwise(route), *(pairwise(beside(route, 6)) if arrow.back else ())]:
            way = Bbox(piece)
            if way.width and way.height:
                yield f"{arrow.start} to {arrow.end} / slanting"
            others = [*texts, *((name, box) for name, box in boxes.items() if name not in (arrow.start, arrow.end))]
            yield from (f"{arrow.start} to {arrow.end} / {name}" for name, extent in others if touch(way, extent))


def touch(one: Bbox, other: Bbox) -> bool:
    return one.xmin < other.xmax and other.xmin < one.xmax and one.ymin < other.ymax and other.ymin < one.ymax


def inside(one: Bbox, other: Bbox) -> bool:
    return other.xmin <= one.xmin and one.xmax <= other.xmax and other.ymin <= one.ymin and one.ymax <= other.ymax


@pytest.mark.parametrize("diagram", [DESIGNS, OVERVIEW], ids=["designs", "overview"])
def test_nothing_lies_on_anything_else(diagram: Diagram) -> None:
    assert list(collisions(diagram)) == []


@pytest.mark.parametrize(
    ("name", "change", "wanted"),
    [
        ("a.S", {"text": "super-resolved"}, "super-resolved / a.S"),
        ("b.cycle", {"y": 262}, f"{DESIGNS.panels[1][-1]} / b.cycle"),
        ("c.A", {"side": "below"}, "c.A to c.D / artificial\nLR"),
        ("c.loss", {"y": 650}, "c.H to c.loss / slanting"),
        ("c.S", {"y": 720}, f"super-resolved / {DESIGNS.panels[2][-1]}"),
    ],
)
def test_collisions_would_be_found(name: str, change: dict[str, Any], wanted: str) -> None:
    box = replace(DESIGNS.boxes[name], **change)
    assert wanted in list(collisions(replace(DESIGNS, boxes={**DESIGNS.boxes, name: box})))
