"""Frames a second of a video on one core: decoded alone, and with faces found; and memory over many frames.

    python tests/benchmarks/video_speed.py [--weights yunet_n] [--frames 600] [--long 10000]

The video is made here: H.264, 640x480, drawn faces that move over noise. Nothing is drawn or written. The rounds take
turns, and the median of each kind counts. The table goes to stderr, JSON to stdout.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 3


def make_video(path: Path, frames: int) -> None:
    import av
    import numpy as np

    from facetrain.core.images import fit_image
    from facetrain.data.sample_set.make import draw_image

    drawn, _ = fit_image(draw_image(0, 0, 0)[0], 1280, 960)
    drawn = np.pad(drawn, ((0, max(960 - drawn.shape[0], 0)), (0, max(1280 - drawn.shape[1], 0)), (0, 0)), "wrap")
    random = np.random.default_rng(0)
    noise = random.integers(-6, 7, (8, 480, 640, 3), np.int16)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "veryfast", "crf": "23"})
        stream.width, stream.height, stream.pix_fmt = 640, 480, "yuv420p"
        for number in range(frames):
            # back and forth over the picture, as a hand-held camera moves
            x, y = (abs((number * step) % (2 * most) - most) for step, most in ((3, 639), (2, 479)))
            view = drawn[y : y + 480, x : x + 640].astype(np.int16) + noise[number % 8]
            frame = av.VideoFrame.from_ndarray(np.clip(view, 0, 255).astype(np.uint8), format="bgr24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def source(path: Path):  # type: ignore[no-untyped-def]
    from facetrain.media.videos import Video

    return Video(path.name, str(path), Path(path.name), path=path)


def rate(path: Path, detector) -> tuple[float, float, int]:  # type: ignore[no-untyped-def]
    """Frames a second, frames a second of the processor's time, faces; without a detector they are decoded alone."""
    from facetrain.detect.looked import Looked
    from facetrain.detect.run import detect_sources

    begun, busy = time.perf_counter(), time.process_time()
    if detector is None:
        frames, faces = sum(1 for _ in source(path).frames(lambda width, height: 1.0)), 0
    else:
        looked = [len(one.faces) for one in detect_sources(detector, [source(path)]) if isinstance(one, Looked)]
        frames, faces = len(looked), sum(looked)
    return frames / (time.perf_counter() - begun), frames / (time.process_time() - busy), faces


def resident() -> float:
    """MiB that this process holds now."""
    return int(Path("/proc/self/status").read_text().partition("VmRSS:")[2].split()[0]) / 1024


def memory(path: Path, detector) -> dict[str, float]:  # type: ignore[no-untyped-def]
    """MiB after the first hundred frames, at the end, and the most at any hundredth."""
    from facetrain.detect.looked import Looked
    from facetrain.detect.run import detect_sources

    seen: list[float] = []
    for number, outcome in enumerate(detect_sources(detector, [source(path)])):
        if isinstance(outcome, Looked) and number % 100 == 99:
            seen.append(resident())
    return {"begin_mib": round(seen[0], 1), "end_mib": round(seen[-1], 1), "most_mib": round(max(seen), 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", default="yunet_n", help="as of facetrain detect")
    parser.add_argument("--frames", type=int, default=600, help="of the video that is timed (600)")
    parser.add_argument("--long", type=int, default=0, help="frames of the video whose memory is watched; none without")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    from facetrain import FaceDetector
    from facetrain.core.machine import cpu_name, library_versions

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "video.mp4")
        make_video(path, options.frames)
        detectors = {
            "decode": None,
            "detect, size=auto": FaceDetector(options.weights, threads=1, size="auto"),
            "detect, size=original": FaceDetector(options.weights, threads=1, size="original"),
        }
        rates: dict[str, list[float]] = {name: [] for name in detectors}
        busy: dict[str, list[float]] = {name: [] for name in detectors}
        faces = dict.fromkeys(detectors, 0)
        for _ in range(ROUNDS):
            for name, detector in detectors.items():
                one, other, faces[name] = rate(path, detector)
                rates[name].append(one)
                busy[name].append(other)
        result = {
            "cpu": cpu_name(),
            "versions": library_versions(("av", "numpy", "onnxruntime", "cv2")),
            "frames": options.frames,
            "frames_per_s": {name: round(statistics.median(values), 1) for name, values in rates.items()},
            # what it would be if nothing else ran on the core
            "frames_per_cpu_s": {name: round(statistics.median(values), 1) for name, values in busy.items()},
            "spread": {name: [round(min(values), 1), round(max(values), 1)] for name, values in rates.items()},
            "faces": faces,
        }
        if options.long:
            make_video(path, options.long)
            result["memory"] = {"frames": options.long, **memory(path, detectors["detect, size=original"])}
    for name, value in result["frames_per_s"].items():
        print(
            f"{name:24} {value:8.1f} frames/s  {result['spread'][name]}  {result['frames_per_cpu_s'][name]} of CPU",
            file=sys.stderr,
        )
    if options.long:
        print(f"memory: {result['memory']}", file=sys.stderr)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
