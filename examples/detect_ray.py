"""Faces of many images by Ray Data, on this machine or on a cluster: a row of Parquet for each image.

    python examples/detect_ray.py photos --output faces
    python examples/detect_ray.py @list.txt --output /shared/faces --address auto

The same command goes on where it was stopped. What an image brings about is told in its row, also the process's death.
"""

import argparse
import os
import sys
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
try:
    import pyarrow as pa
    import pyarrow.parquet as pq
    import ray.data
except ImportError:
    sys.exit("error: Ray Data is not installed: pip install 'ray[data]'")

from facetrain import FaceDetector, FacetrainError
from facetrain.data.each_image import image_names

NUMBERS = pa.list_(pa.float32())  # of a box 4: x1 y1 x2 y2; of a landmark 2: x y
TYPES = {"path": pa.string(), "width": pa.int32(), "height": pa.int32(), "boxes": pa.list_(NUMBERS)}
TYPES |= {"scores": NUMBERS, "landmarks": pa.list_(pa.list_(NUMBERS)), "error": pa.string()}


class Look:
    """Ray starts an actor that died again, and gives its block to one. Who takes a block leaves a note until it is
    through; who finds such a note writes into it what it looks at, so that a third one knows the deadly image."""

    def __init__(self, detector: FaceDetector, notes: Path) -> None:
        self.detector, self.notes = detector, notes

    def __call__(self, batch: pa.Table) -> pa.Table:
        paths, rows = batch["path"].to_pylist(), []
        note = self.notes / sha256(paths[0].encode()).hexdigest()
        died_before = note.exists()
        deadly = note.read_text(encoding="utf-8").splitlines() if died_before else []
        note.touch()
        for path in paths:
            if died_before and path not in deadly:
                note.write_text("\n".join([*deadly, path]), encoding="utf-8")
            rows.append(self.row(path) if path not in deadly else {"path": path, "error": "its process died"})
        note.unlink(missing_ok=True)
        return pa.Table.from_pylist(rows, pa.schema(TYPES.items()))

    def row(self, path: str) -> dict[str, object]:
        try:
            image = self.detector.open(path)
            faces = self.detector.look(image).faces
        except Exception as error:  # whatever it is, it is this image's alone
            return {"path": path, "error": str(error) or repr(error)}
        found = {"boxes": faces.boxes, "scores": faces.scores, "landmarks": faces.landmarks}
        return {"path": path, "width": image.width, "height": image.height} | {k: v.tolist() for k, v in found.items()}


def images_of(source: str) -> list[str]:
    listed = source.startswith("@")
    names = Path(source[1:]).read_text(encoding="utf-8").splitlines() if listed else image_names(Path(source))
    # absolute, because the processes work in other folders
    paths = list(dict.fromkeys(str(Path("" if listed else source).absolute() / name) for name in names if name))
    if not paths:
        raise FacetrainError(f"{source}: no images", "give a folder, or @FILE with a path in each line")
    "".join(paths).encode()  # names of other encodings have no place in a column of text
    return paths


def errors_of(output: Path) -> dict[str, str | None]:
    """Of each image that has a row its error. A file that is cut off, as a killed job leaves it, is removed."""
    found: dict[str, str | None] = {}
    for file in output.glob("*.parquet"):
        try:
            found.update(zip(*pq.read_table(file, columns=["path", "error"]).to_pydict().values(), strict=True))
        except pa.ArrowInvalid:
            file.unlink()
    return found


def detect(paths: list[str], output: Path, detector: FaceDetector, actors: int, block: int) -> None:
    blocks = [pa.table({"path": paths[start : start + block]}) for start in range(0, len(paths), block)]
    # an actor has one block at a time, so that no other one dies with it; of its core a little is left for writing
    pool = ray.data.ActorPoolStrategy(size=min(actors, len(blocks)), max_tasks_in_flight_per_actor=1)
    how = {"compute": pool, "batch_format": "pyarrow", "batch_size": None, "num_cpus": 0.9}
    with TemporaryDirectory(dir=output, prefix="_notes-") as notes:  # readers of Parquet pass over names with a _
        rows = ray.data.from_arrow(blocks).map_batches(Look, fn_constructor_args=(detector, Path(notes)), **how)
        rows.write_parquet(str(output), min_rows_per_file=10_000, ray_remote_args={"num_cpus": 0.1})


def main() -> None:
    parser = argparse.ArgumentParser(description="Faces of many images, to Parquet.")
    parser.add_argument("source", help="a folder, or @FILE with a path in each line")
    parser.add_argument("--output", type=Path, required=True, help="folder of the Parquet files, seen by all machines")
    parser.add_argument("--weights", default="yunet_n", help="a name, or a file that all machines see")
    parser.add_argument("--size", default="original", help="original, auto, vga, 640 or 800x600")
    parser.add_argument("--actors", type=int, help="detectors at a time; one for each core by default")
    parser.add_argument("--block", type=int, default=64, help="images that an actor takes at a time")
    parser.add_argument("--address", help="of a cluster, such as auto; without it one is started on this machine")
    args = parser.parse_args()
    output = args.output.absolute()
    try:
        detector = FaceDetector(args.weights, size=args.size, threads=1)
        paths = images_of(args.source)
        keep = output / "_detector.txt"  # rows of two detectors would not be told apart later
        if keep.exists() and keep.read_text() != repr(detector):
            raise FacetrainError(f"{output}: its rows are of {keep.read_text()}", "choose another --output")
        output.mkdir(parents=True, exist_ok=True)
        keep.write_text(repr(detector))
    except (FacetrainError, OSError, UnicodeError) as error:
        sys.exit(f"error: {error}")
    ray.init(args.address, **({} if args.address else {"include_dashboard": False, "object_store_memory": 256 << 20}))
    done = errors_of(output)
    if todo := [path for path in paths if path not in done]:
        detect(todo, output, detector, args.actors or int(ray.cluster_resources()["CPU"]), args.block)
    print(f"{len(paths):,} images, {sum(map(bool, errors_of(output).values())):,} with an error: {args.output}")


if __name__ == "__main__":
    main()
