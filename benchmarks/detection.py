"""Detection against facenet-pytorch's own MTCNN.detect, called serially on the same enlarged images.

python benchmarks/detection.py [--photos 12] [--workers 2]

The crowd photographs of stages/packaged_photos.py; recall as `lr_faces` measures it. The other library uses as many
threads as it likes. Workers are started before the clock is. Processor seconds stand beside those of the clock.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from corpus import print_table
from facenet_pytorch import MTCNN
from PIL import Image

from charreg.core.params import DetectionOptions, LrFacesOptions, read_all_params
from charreg.photos.crowds import make_packaged_photos
from charreg.photos.detection import DetectedFace, detect_faces
from charreg.photos.executors import open_executor, run_chunk
from charreg.photos.extraction import RECALL_SIDES, match_boxes
from charreg.photos.sources import Photo, find_photos


def theirs(photo: Photo, network: MTCNN, scale: float) -> list[DetectedFace]:
    with Image.open(photo.path) as image:
        rgb = image.convert("RGB")
    enlarged = rgb.resize((round(rgb.width * scale), round(rgb.height * scale)), Image.Resampling.BICUBIC)
    boxes, scores = network.detect(enlarged)
    found = [] if boxes is None else zip((boxes / scale).tolist(), scores, strict=True)
    nowhere = np.zeros((5, 2))
    return [DetectedFace(x0, y0, x1 - x0, y1 - y0, score, scale, nowhere) for (x0, y0, x1, y1), score in found]


def ours(item: tuple[Photo, DetectionOptions]) -> tuple[list[DetectedFace], float]:
    """The faces of a photograph, and processor seconds."""
    photo, detection = item
    begin = time.process_time()
    with Image.open(photo.path) as image:
        faces = detect_faces(np.asarray(image.convert("RGB")), detection)
    return faces, time.process_time() - begin


def recall(photos: list[Photo], found: list[list[DetectedFace]], params: LrFacesOptions) -> float:
    true = hits = 0
    for photo, faces in zip(photos, found, strict=True):
        kept = [face for face in faces if face.score >= params.min_score]
        matched = {match for match in match_boxes(kept, photo.boxes, params.match_iou) if match is not None}
        counted = {
            place
            for place, box in enumerate(photo.boxes)
            if RECALL_SIDES[0] <= max(box.width, box.height) <= RECALL_SIDES[1]
        }
        true, hits = true + len(counted), hits + len(counted & matched)
    return hits / true


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=12)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    params = read_all_params(Path("params.yaml"))
    (scale,) = params.detection.scales
    count = {"train": 1, "web": (args.photos + 1) // 2, "cctv": args.photos // 2}
    with tempfile.TemporaryDirectory() as folder, open_executor(f"processes:{args.workers}") as workers:
        composed = params.packaged_photos.model_copy(update={"photos": count})
        make_packaged_photos(Path(folder) / "packaged", composed, params.seed)
        places = [Path(folder) / "packaged/photos" / role for role in ("web", "cctv")]
        photos = [photo for place in places for photo in find_photos("packaged", place).photos][: args.photos]
        items = [(photo, params.detection) for photo in photos]
        network = MTCNN(keep_all=True, min_face_size=params.detection.min_face, thresholds=params.detection.thresholds)
        theirs(photos[0], network, scale)
        ours(items[0])
        for future in [workers.pool.submit(run_chunk, ours, items[:1]) for _ in range(2 * args.workers)]:
            future.result()

        clock, cpu = time.perf_counter(), time.process_time()
        their_faces = [theirs(photo, network, scale) for photo in photos]
        their_seconds, their_cpu = time.perf_counter() - clock, time.process_time() - cpu

        clock = time.perf_counter()
        futures = [workers.pool.submit(run_chunk, ours, [item]) for item in items]
        our_results = [future.result()[0][0] for future in futures]
        our_seconds, our_cpu = time.perf_counter() - clock, sum(seconds for _, seconds in our_results)
    rows = [
        (f"MTCNN.detect, serial, {torch.get_num_threads()} threads", len(photos) / their_seconds,
         their_cpu / len(photos), 1.0, recall(photos, their_faces, params.lr_faces)),
        (f"charreg, processes:{args.workers}", len(photos) / our_seconds, our_cpu / len(photos),
         their_seconds / our_seconds, recall(photos, [faces for faces, _ in our_results], params.lr_faces)),
    ]  # fmt: skip
    print_table(("", "photos/s", "cpu s/photo", "speed-up", "recall"), rows)


if __name__ == "__main__":
    main()
