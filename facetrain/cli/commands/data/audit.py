"""`facetrain data audit`: labels and detectors held against each other, as a page and a list to decide in."""

from pathlib import Path
from typing import Annotated

import typer

from facetrain.cli import console
from facetrain.cli.label_flags import FORMAT
from facetrain.core.errors import UsageError
from facetrain.core.suggest import choices_hint

EXAMPLES = """
facetrain data audit my_faces --report audit
facetrain data audit my_faces --split val -w yunet_n -w my_run
facetrain data audit my_faces --apply audit/findings.csv --to corrected
"""


def run(
    data: Annotated[Path, typer.Argument(metavar="DIR", help="A labelled set, or a label file.")],
    *,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            "--weights", "-w", help="A name, a file or a run; by default yunet_n. May be repeated: several are fused."
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="Part of the set: train or val.")] = "train",
    report: Annotated[
        Path | None, typer.Option(help="Folder for the page and findings.csv, the list to decide in.")
    ] = None,
    apply: Annotated[Path | None, typer.Option(help="A list with decisions: write the corrected set to --to.")] = None,
    to: Annotated[Path | None, typer.Option("--to", help="With --apply: folder for the corrected set.")] = None,
    copy: Annotated[bool, typer.Option("--copy", help="With --apply: copy the images, do not link to them.")] = False,
    score: Annotated[float, typer.Option(help="Least score of a face that no label has.")] = 0.6,
    off: Annotated[
        float, typer.Option(help="Distance of landmarks that is told, as a share of the face's size.")
    ] = 0.12,
    flip: Annotated[bool, typer.Option("--flip", help="Look at the mirrored image too, and merge.")] = False,
    scales: Annotated[str, typer.Option(help="Look at these scales, such as 0.5,1,2, and merge.")] = "1",
    family: Annotated[
        str | None, typer.Option(help="Detector family of ONNX files; by default it is recognised.")
    ] = None,
    format: FORMAT = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, a GPU's number, or mps (checkpoints).")] = "cpu",
    threads: Annotated[int | None, typer.Option(help="CPU threads; all that are there by default.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Find faces that no label has, labels that nobody sees, and landmarks far off."""
    from facetrain.cli.text.audit import applied_document, applied_text, audit_document, audit_text
    from facetrain.data.layout import Part, Reading, find_split
    from facetrain.label.audit import Doubts
    from facetrain.label.audit_page import check_page_folder, write_page
    from facetrain.label.audit_run import apply_list, run_audit
    from facetrain.label.look import Looks, Observers

    if split not in ("train", "val"):
        raise UsageError(f"--split {split}: no part of a set", choices_hint(split, ("train", "val")))
    part: Part = "val" if split == "val" else "train"
    if (apply is None) != (to is None):
        raise UsageError("--apply and --to belong together", "give both, or neither")
    if apply is not None and to is not None:
        applied = apply_list(apply, data, part, to, Reading(format), copy=copy)
        console.result(applied_document(applied), applied_text(applied), as_json=json)
        return
    find_split(data, part, Reading(format))  # before detectors are opened, which takes longer
    doubts = Doubts(score=score, off=off)
    if report is not None:
        check_page_folder(report)
    looks = Looks(score=doubts.seen, flip=flip, scales=console.parse_scales(scales))
    observers = Observers(weights or ["yunet_n"], looks, family=family, device=device, threads=threads)
    with console.interruptible("nothing was written"), console.progress("images") as advance:
        found = run_audit(data, part, observers, doubts, Reading(format), lambda done, total: advance(1, total=total))
    for _, error in found.failures:
        console.say_error(error)
    if report is not None:
        title = f"{data}, {part}, looked at by {', '.join(weights or ['yunet_n'])}"
        unreadable = [error.message for _, error in found.failures]
        console.say(f"page: {write_page(report, title, found.findings, found.images, unreadable)}")
    console.result(audit_document(found), audit_text(found), as_json=json)
    if found.failures:
        raise typer.Exit(1)
