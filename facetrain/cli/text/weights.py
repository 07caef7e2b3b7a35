"""What `facetrain weights` says: the weights that have a name, and what was fetched."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from facetrain.cli.console import table
from facetrain.core.documents.weights import ApWithInterval, FetchedDocument, NamedWeights, WeightsDocument
from facetrain.core.files import sha256
from facetrain.detect import public
from facetrain.detect.bundled import bundled_ap, bundled_names, bundled_weights
from facetrain.detect.public import OTHER_FILES, PublicWeights, cache_folder, cached, public_weights, state_of
from facetrain.eval.difference import brackets

if TYPE_CHECKING:
    from facetrain.detect.get_weights import CachedFile

_SUBSETS = ("easy", "medium", "hard")


def list_weights() -> WeightsDocument:
    """All weights that have a name, ready for JSON. Nothing is asked of the network."""
    names = sorted({*bundled_names(), *bundled_names(".pt")})
    return {
        "weights": [*map(_bundled, names), *map(_public, public.PUBLIC)],
        "cache": str(cache_folder()),
        "other_files": [
            {"sha256": digest, "name": other.name, "path": other.path, "elsewhere": other.elsewhere}
            for digest, other in OTHER_FILES.items()
        ],
    }


def _bundled(name: str) -> NamedWeights:
    paths = [path for suffix in (".onnx", ".pt") if (path := bundled_weights(name, suffix)).is_file()]
    return {
        "name": name,
        "kind": "bundled",
        "what": "comes along: a training of this project's own",
        "licence": "BSD-3-Clause",
        "licence_from": "the LICENSE file of facetrain",
        "ap": _ap(bundled_ap(name)),
        "files": [
            {"path": str(path), "address": None, "bytes": path.stat().st_size, "sha256": sha256(path), "state": "whole"}
            for path in paths
        ],
    }


def _public(row: PublicWeights) -> NamedWeights:
    return {
        "name": row.name,
        "kind": "public",
        "what": row.what,
        "licence": row.licence,
        "licence_from": row.licence_from,
        "ap": _ap(row.ap),
        "files": [
            {
                "path": str(cached(row, file)),
                "address": f"{row.source}{file.path}",
                "bytes": file.size,
                "sha256": file.sha256,
                "state": state_of(row, file),
            }
            for file in row.files
        ],
    }


def _ap(values: Mapping[str, tuple[float, float, float]]) -> dict[str, ApWithInterval]:
    return {name: {"estimate": value, "low": low, "high": high} for name, (value, low, high) in values.items()}


def list_text(document: WeightsDocument) -> str:
    """The list in tables of at most 80 columns."""
    rows = document["weights"]
    kinds = [["name", "kind", "licence", "where"]]
    kinds += [[row["name"], row["kind"], row["licence"], _where(row)] for row in rows]
    scores = [["name", *_SUBSETS]]
    scores += [[row["name"], *(_score(row["ap"].get(name)) for name in _SUBSETS)] for row in rows]
    published = [row for row in rows if row["kind"] == "public"]
    licences = dict.fromkeys((row["licence"], row["licence_from"]) for row in published)
    others = [(entry["name"], entry["elsewhere"]) for entry in document["other_files"] if entry["elsewhere"]]
    missing = [row["name"] for row in published if any(file["state"] != "whole" for file in row["files"])]
    lines = [
        table(kinds, len(kinds[0])),
        "",
        "AP on 400 validation images of WIDER FACE, 95 % intervals in brackets:",
        "",
        table(scores, len(scores[0])),
        "",
    ]
    lines += [f"{row['name']}: {row['what']}" for row in published]
    lines += [f"{elsewhere} holds {name}" for name, elsewhere in others]
    lines += [
        "",
        *(f"{licence}: by {place}" for licence, place in licences),
        "All were trained on WIDER FACE, whose owners allow research: see the README.",
        f"public weights are kept in {document['cache']}",
    ]
    return "\n".join([*lines, *(f"to fetch: facetrain weights get {name}" for name in missing)])


def _score(ap: ApWithInterval | None) -> str:
    return "-" if ap is None else f"{ap['estimate']:.3f} {brackets(ap['low'], ap['high'], 3)}".removeprefix("0")


def _where(row: NamedWeights) -> str:
    """Where a row's files are, in a few words."""
    if row["kind"] == "bundled":
        return "comes along"
    states = {Path(file["path"]).suffix: file["state"] for file in row["files"]}
    here = [suffix for suffix, state in states.items() if state == "whole"]
    damaged = [suffix for suffix, state in states.items() if state == "damaged"]
    words = [f"in the cache{'' if len(here) == len(states) else f' ({here[0]} alone)'}"] if here else []
    words += [f"damaged: {', '.join(damaged)}"] if damaged else []
    return "; ".join(words) or "not fetched"


def fetched_document(name: str, files: Sequence["CachedFile"]) -> FetchedDocument:
    """What `get` has come to, ready for JSON."""
    row = public_weights(name)
    assert row is not None
    return {
        "name": name,
        "licence": row.licence,
        "licence_from": row.licence_from,
        "files": [
            {
                "path": str(one.path),
                "address": f"{row.source}{one.file.path}",
                "bytes": one.file.size,
                "sha256": one.file.sha256,
                "fetched": one.fetched,
            }
            for one in files
        ],
    }


def fetched_text(name: str, files: Sequence["CachedFile"]) -> str:
    """The same in lines, and what to do next."""
    row = public_weights(name)
    assert row is not None
    lines = [
        f"{one.path}: {one.file.size:,} bytes, {'fetched' if one.fetched else 'was there'}, SHA-256 as it should be"
        for one in files
    ]
    return "\n".join(
        [
            *lines,
            f"licence: {row.licence} ({row.licence_from})",
            f"next: facetrain detect PHOTO --weights {name}",
        ]
    )
