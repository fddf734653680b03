"""A page on this machine: drop a photograph, see it before and after. Wants gradio (extra `[web]`)."""

import os
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from charreg.app.pasting import enlarge_photograph
from charreg.app.upscale import WORDS, triplet
from charreg.app.upscaler import RELEASED, Result, Upscaler
from charreg.core.errors import CharregError
from charreg.photos.images import RejectedImage, decode_picture

MAX_MEGABYTES, MAX_PIXELS = 20, 12_000_000
KEPT_SECONDS = 60  # a browser has to fetch what was made; then it is gone
WAITING = 100  # requests that queue before one is refused
SAMPLES = RELEASED / "samples"
INTRODUCTION = f"""
# charreg
Faces of 8 to 32 px in a photograph are regularised, super-resolved and pasted back. Details are made up: **not for
identifying anybody, not as evidence**. Nothing leaves this machine; uploads and results go after {KEPT_SECONDS} s.
"""


def answer(
    upscaler: Upscaler, path: str | None, strength: float, scale: int
) -> tuple[Any, Image.Image, list[Image.Image], str]:
    """Before and after of one upload, its boxes, its triplets, and what was found.

    The upload is left to the page, which forgets it: two visitors with the same photograph share it. Raises
    CharregError, in words for the page.
    """
    if path is None:
        raise CharregError("no photograph yet: drop one or choose a sample")
    upload = Path(path)
    try:
        content = upload.read_bytes()
        pixels = decode_picture(content, MAX_PIXELS).pixels
    except RejectedImage as fault:
        reason = f"more than {MAX_PIXELS // 10**6} megapixels" if fault.reason == "too_large" else WORDS[fault.reason]
        raise CharregError(f"{upload.name}: {reason}") from None
    chosen = Upscaler(upscaler.network, strength)
    result = chosen(pixels, scale=scale)
    before = enlarge_photograph(pixels, scale)
    triplets = [Image.fromarray(triplet(face)) for face in result.faces]
    return (before, result.image), with_boxes(Image.fromarray(pixels), result), triplets, told(result)


def with_boxes(photograph: Image.Image, result: Result) -> Image.Image:
    """The photograph with a rectangle around every face that was resolved."""
    pen = ImageDraw.Draw(photograph)
    for left, top, width, height in (face.box for face in result.faces):
        pen.rectangle((left, top, left + width, top + height), outline="yellow")
    return photograph


def told(result: Result) -> str:
    """What was found, in one line."""
    parts = [f"{len(result.faces)} faces" if result.faces else WORDS["no_small_face"]]
    if result.left_alone:
        parts.append("left alone: " + ", ".join(f"{n} {WORDS[reason]}" for reason, n in result.left_alone.items()))
    return "; ".join(parts)


def build_page(upscaler: Upscaler) -> Any:
    """The page as gradio.Blocks, its queue set. Raises CharregError without gradio."""
    os.environ.update(GRADIO_ANALYTICS_ENABLED="False", HF_HUB_DISABLE_TELEMETRY="1")
    try:
        import gradio as gr
    except ImportError:
        raise CharregError("charreg web: wants gradio; pip install 'charreg[web]'") from None

    def on_click(path: str | None, strength: float, scale: int) -> Any:
        try:
            return answer(upscaler, path, strength, scale)
        except CharregError as error:
            raise gr.Error(str(error), print_exception=False) from None

    with gr.Blocks(title="charreg", analytics_enabled=False, delete_cache=(KEPT_SECONDS, KEPT_SECONDS)) as page:
        gr.Markdown(INTRODUCTION)
        with gr.Row():
            with gr.Column():
                upload = gr.File(label="Photograph", type="filepath", elem_id="upload")
                strength = gr.Slider(0, 1, upscaler.strength, step=0.05, label="Strength of the regulariser")
                scale = gr.Radio([1, 2, 4], value=4, label="Enlarge the photograph")
                button = gr.Button("Enlarge", variant="primary", elem_id="enlarge")
                samples = sorted(str(path) for path in SAMPLES.glob("*.jpg"))
                gr.Examples(samples, upload, label="Samples", cache_examples=False)
            with gr.Column(scale=2):
                slider = gr.ImageSlider(label="Before and after", format="png", elem_id="result")
                words = gr.Textbox(label="Found", elem_id="found")
        with gr.Row():
            boxes = gr.Image(label="Faces found", format="png")
            triplets = gr.Gallery(label="Genuine, regulated, resolved", columns=3, format="png", elem_id="triplets")
        button.click(
            on_click, [upload, strength, scale], [slider, boxes, triplets, words], api_name="enlarge",
            concurrency_limit=1,
        )  # fmt: skip
    return page.queue(max_size=WAITING)


def serve(port: int, device: str) -> None:
    """Serve the page on 127.0.0.1 until it is interrupted; its files lie in a folder that goes with it."""
    with tempfile.TemporaryDirectory(prefix="charreg-web-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        page = build_page(Upscaler.load(device=device))
        page.launch(
            server_name="127.0.0.1",
            server_port=port,
            share=False,
            max_file_size=f"{MAX_MEGABYTES}mb",
            allowed_paths=[str(SAMPLES)],
            quiet=False,
            inbrowser=False,
        )
