"""`facetrain detect`: faces in images, videos and cameras, and what is made of them."""

from typing import Annotated

import typer

from facetrain.cli import console

_FRAMES = "Which frames, and which faces"
_RESULTS = "What is written"
_COVERS = "Crops and covers"

EXAMPLES = """
facetrain detect party.jpg --json > faces.json
facetrain detect clip.mp4 --save blur=hidden.mp4 --save csv=faces.csv
facetrain detect photos/ --save crops=faces --align 112
facetrain detect 0 --show
"""


def run(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE",
            help="Images, videos, folders, patterns such as 'photos/*.jpg', @list.txt or - (paths, one a line), "
            "addresses, cameras (0, 1 …).",
        ),
    ],
    *,
    weights: Annotated[
        str,
        typer.Option("--weights", "-w", help="A name, a file (ONNX or checkpoint) or a run; see `facetrain weights`."),
    ] = "yunet_n",
    family: Annotated[
        str | None, typer.Option(help="Detector family of an ONNX file; by default it is recognised.")
    ] = None,
    size: Annotated[
        str,
        typer.Option(
            help="How an image is shown: auto (as often as faces of all sizes ask for), original, vga, 640 or WxH."
        ),
    ] = "auto",
    min_face: Annotated[
        float | None, typer.Option(help="Look for faces from this size on, in pixels; smaller ones take longer.")
    ] = None,
    score: Annotated[
        float | None, typer.Option(help="Least score of a face, 0 to 1. By default 0.5, and less for covers.")
    ] = None,
    at_precision: Annotated[
        float | None,
        typer.Option(help="In place of --score: the one that gives this precision, by the file of weights: 0.95."),
    ] = None,
    nms: Annotated[float, typer.Option(help="Of faces that overlap by a higher IoU only the best stays.")] = 0.45,
    device: Annotated[str, typer.Option(help="cpu, cuda, a GPU's number, or mps (checkpoints).")] = "cpu",
    threads: Annotated[int | None, typer.Option(help="CPU threads; all that are there by default.")] = None,
    batch: Annotated[int, typer.Option(help="Images of one size that a checkpoint on a GPU looks at together.")] = 1,
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", help="Folder for the drawn images; by default ./detections.", rich_help_panel=_RESULTS
        ),
    ] = None,
    draw: Annotated[
        bool | None,
        typer.Option(
            "--draw/--no-draw",
            help="Write drawn images. By default yes, unless --json, --save or --show is given.",
            rich_help_panel=_RESULTS,
        ),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print boxes and landmarks as JSON.", rich_help_panel=_RESULTS)
    ] = False,
    save: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FORMAT=PATH",
            help="Write results: drawn, json, jsonl, csv, crops, blur, pixelate, black, results, or a label format "
            "such as coco, yolo, labelv2. PATH: a file for json, jsonl, csv (- is standard output), else a folder, or "
            "a file for one image or video. May be repeated.",
            rich_help_panel=_RESULTS,
        ),
    ] = None,
    show: Annotated[
        bool,
        typer.Option("--show", help="Show what is found in a window; q or Esc ends.", rich_help_panel=_RESULTS),
    ] = False,
    every: Annotated[int, typer.Option(help="Of videos each N-th frame alone.", rich_help_panel=_FRAMES)] = 1,
    from_: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="TIME",
            help="Begin here: 12.5, 1:30. A video that is written holds this part alone.",
            rich_help_panel=_FRAMES,
        ),
    ] = "0",
    to: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="End here: a time of the video, not a length.", rich_help_panel=_FRAMES),
    ] = None,
    region: Annotated[
        list[str] | None,
        typer.Option(
            metavar="X1,Y1,X2,Y2",
            help="Faces count here alone; pixels, or percent: 0,0,50%,100%.",
            rich_help_panel=_FRAMES,
        ),
    ] = None,
    excepted: Annotated[
        list[str] | None,
        typer.Option(
            "--except",
            metavar="PART|NUMBER",
            help="Faces do not count in this part (0,0,50%,100%: the left half), or with --track of this number.",
            rich_help_panel=_FRAMES,
        ),
    ] = None,
    shard: Annotated[
        str,
        typer.Option(metavar="K/N", help="The K-th of N parts alone, by a hash of the names.", rich_help_panel=_FRAMES),
    ] = "1/1",
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Leave out what the file of --save jsonl=FILE holds, go on behind it.",
            rich_help_panel=_RESULTS,
        ),
    ] = False,
    track: Annotated[
        bool,
        typer.Option(
            "--track",
            help="Number the same face in all frames of a video: `id`, from the second frame on.",
            rich_help_panel=_FRAMES,
        ),
    ] = False,
    margin: Annotated[
        float | None,
        typer.Option(help="Around crops and covers, as a part of a face's sides.", rich_help_panel=_COVERS),
    ] = None,
    crop_size: Annotated[
        int | None, typer.Option(help="Crops are squares of so many pixels.", rich_help_panel=_COVERS)
    ] = None,
    align: Annotated[
        int | None,
        typer.Option(
            help="Crops are squares of so many pixels with eyes, nose and mouth where recognisers want them: 112.",
            rich_help_panel=_COVERS,
        ),
    ] = None,
    shape: Annotated[
        str | None, typer.Option(help="Of covers: ellipse (default) or box.", rich_help_panel=_COVERS)
    ] = None,
    feather: Annotated[
        float | None,
        typer.Option(help="How soft a cover's edge is, as a part of a face's sides.", rich_help_panel=_COVERS),
    ] = None,
    hold: Annotated[
        float | None,
        typer.Option(help="Seconds that a cover stays before and after a face is seen; 0.5.", rich_help_panel=_COVERS),
    ] = None,
    keep_exif: Annotated[
        bool,
        typer.Option("--keep-exif", help="Keep a photograph's EXIF, without its thumbnail.", rich_help_panel=_COVERS),
    ] = False,
) -> None:
    """Find faces in images, videos and cameras, and draw, list, cut out or cover them."""
    from facetrain.cli.detect_job import DetectJob
    from facetrain.detect.detector import check_settings, check_size
    from facetrain.detect.looked import Wishes
    from facetrain.detect.selection import parse_selection
    from facetrain.detect.shards import parse_shard
    from facetrain.media.cut import Cut, parse_time

    if at_precision is not None:
        score = _score_at(at_precision, score, weights, family)
    check_settings(0.5 if score is None else score, nms, threads=threads, batch=batch)
    check_size(size, min_face)
    cut = Cut(every, parse_time(from_, "from"), None if to is None else parse_time(to, "to"))
    selection = parse_selection(region or (), excepted or (), tracked=track)
    wishes = Wishes(
        {"weights": weights, "score": 0.5 if score is None else score, "nms": nms, "size": size, "landmark_names": []},
        console.write,
        margin=margin,
        crop_size=crop_size,
        align=align,
        shape=shape,
        feather=feather,
        hold=hold,
        keep_exif=keep_exif or None,
        resume=resume or None,
        depends={
            **{"min_face": min_face, "region": region or [], "excepted": excepted or [], "tracked": track},
            **{"every": every, "begin": str(cut.start), "end": None if cut.end is None else str(cut.end)},
        },
    )
    job = DetectJob(wishes, score, min_face, selection, track)
    job.prepare(save or (), output, draw=draw, json=json, show=show)
    job.find(paths, cut, parse_shard(shard))
    job.open(family=family, device=device, threads=threads, batch=batch)
    try:
        with console.interruptible() as interruption:
            job.look(threads, batch)
        code = job.finish(interrupted=bool(interruption))
    finally:
        job.close(interrupted=True)  # where something else ended it, what is there is whole all the same
    raise typer.Exit(code)


def _score_at(precision: float, score: float | None, weights: str, family: str | None) -> float:
    """The score that a file of weights names for a precision; says it."""
    from facetrain.core.errors import UsageError
    from facetrain.detect.detector import FaceDetector
    from facetrain.detect.operating_points import score_at

    if score is not None:
        raise UsageError("--at-precision and --score exclude each other", "leave one of them out")
    point, where = score_at(FaceDetector(weights, threads=1, family=family).operating_points, precision, weights)
    span = "" if point.low is None or point.high is None else f" (95 % interval {point.low:.2f} to {point.high:.2f})"
    console.say(
        f"score {point.score:.3f}{span}: precision {precision:g} and recall {point.recall:.2f} on {where}, each "
        "at its original size"
    )
    return point.score
