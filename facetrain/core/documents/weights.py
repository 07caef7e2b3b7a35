"""`facetrain weights --json` and `facetrain weights get NAME --json`."""

from typing import Annotated, Literal, TypedDict


class ApWithInterval(TypedDict):
    """AP on 400 validation images of WIDER FACE, with its 95 % interval."""

    estimate: Annotated[float, "the AP"]
    low: Annotated[float, "lower end"]
    high: Annotated[float, "upper end"]


class WeightsFile(TypedDict):
    """A file of weights."""

    path: Annotated[str, "where it lies, or would lie"]
    address: Annotated[str | None, "where it is fetched from; null for bundled ones"]
    bytes: Annotated[int, "its size"]
    sha256: Annotated[str, "of its content"]
    state: Annotated[Literal["absent", "whole", "damaged"], "on this machine"]


class NamedWeights(TypedDict):
    """Weights that have a name."""

    name: Annotated[str, "for `weights`"]
    kind: Annotated[Literal["bundled", "public"], "comes along, or is fetched when asked for"]
    what: Annotated[str, "they are"]
    licence: Annotated[str, "as its source states it"]
    licence_from: Annotated[str, "where it does"]
    ap: Annotated[dict[str, ApWithInterval], "easy, medium and hard"]
    files: Annotated[list[WeightsFile], "to detect with (.onnx), to train from and to export (.pt, .pth)"]


class OtherFile(TypedDict):
    """A file that is recognised and not fetched."""

    sha256: Annotated[str, "of its content"]
    name: Annotated[str, "of the weights that it holds"]
    path: Annotated[str, "of the file in their source"]
    elsewhere: Annotated[str | None, "where others have it under another name"]


class WeightsDocument(TypedDict):
    """`facetrain weights --json`."""

    weights: Annotated[list[NamedWeights], "bundled ones first"]
    cache: Annotated[str, "folder of public weights"]
    other_files: Annotated[list[OtherFile], "that are recognised"]


class FetchedFile(TypedDict):
    """A file in the cache, whole."""

    path: Annotated[str, "where it lies"]
    address: Annotated[str, "where it came from"]
    bytes: Annotated[int, "its size"]
    sha256: Annotated[str, "of its content"]
    fetched: Annotated[bool, "now; false where it was there"]


class FetchedDocument(TypedDict):
    """`facetrain weights get NAME --json`."""

    name: Annotated[str, "of the weights"]
    licence: Annotated[str, "as its source states it"]
    licence_from: Annotated[str, "where it does"]
    files: Annotated[list[FetchedFile], "one or two"]
