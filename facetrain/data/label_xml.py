"""Label files in XML, read in a stream by defusedxml: no entities, nothing from elsewhere, and lines for messages."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.sax import SAXParseException
from xml.sax.handler import ContentHandler

from defusedxml.common import DefusedXmlException
from defusedxml.expatreader import DefusedExpatParser

from facetrain.core.errors import DataError
from facetrain.core.files import is_lfs_pointer
from facetrain.data.label_text import MalformedError

_CHUNK = 1 << 20  # bytes parsed at once
_DEEPEST = 100  # elements within each other; labels need five


@dataclass(slots=True)
class Element:
    """An element of a label file with all that stands in it. line: from 1."""

    tag: str
    line: int
    attributes: dict[str, str]
    text: str = ""
    children: list["Element"] = field(default_factory=list)

    def child(self, tag: str) -> "Element | None":
        """The first child of a tag."""
        return next((child for child in self.children if child.tag == tag), None)

    def said(self, tag: str) -> str:
        """The text of the first child of a tag, "" where there is none."""
        child = self.child(tag)
        return "" if child is None else child.text.strip()

    def attribute(self, name: str) -> str:
        """The value of an attribute. Raises MalformedError where there is none."""
        if name not in self.attributes:
            raise MalformedError(f"<{self.tag}>", f"has no `{name}`")
        return self.attributes[name]


def elements(path: Path, tag: str) -> Iterator[Element]:
    """The elements of a tag, each once it is complete; what stands outside of them is not kept.

    Raises DataError that names the line of what is no XML, or is one that attacks its reader.
    """
    parser = DefusedExpatParser()
    handler = _Handler(tag, parser)
    parser.setContentHandler(handler)
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                if is_lfs_pointer(chunk):
                    raise DataError(f"{path}: a git-lfs pointer, not a label file", "run `git lfs pull` there")
                parser.feed(chunk)
                yield from handler.taken()
            parser.close()
        yield from handler.taken()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except SAXParseException as error:
        what = f"not XML: {error.getMessage()}"
        raise DataError(f"{path}:{error.getLineNumber() or 1}: {what}", "was the file cut off?") from error
    except DefusedXmlException as error:
        what = "entities or parts from elsewhere are declared; label files need none"
        raise DataError(f"{path}: refused: {what}", "take the DOCTYPE out if you trust it") from error
    except (UnicodeError, LookupError, ValueError) as error:
        raise DataError(f"{path}: not XML: {error}") from error


class _Handler(ContentHandler):
    """Builds the elements of one tag while the parser goes through the file."""

    def __init__(self, tag: str, parser: DefusedExpatParser) -> None:
        super().__init__()
        self._tag, self._parser = tag, parser
        self._open: list[Element] = []
        self._texts: list[str] = []
        self._done: list[Element] = []

    def taken(self) -> list[Element]:
        done, self._done = self._done, []
        return done

    def startElement(self, name: str, attrs: Any) -> None:  # noqa: N802 (SAX)
        if not self._open and name != self._tag:
            return
        element = Element(name, self._parser.getLineNumber() or 0, dict(attrs.items()))
        if self._open:
            self._open[-1].children.append(element)
        self._open.append(element)
        self._texts.clear()
        if len(self._open) > _DEEPEST:
            raise ValueError(f"more than {_DEEPEST} elements within each other")

    def characters(self, content: str) -> None:
        if self._open and not content.isspace():
            self._texts.append(content)

    def endElement(self, name: str) -> None:  # noqa: N802 (SAX)
        if self._open:
            element = self._open.pop()
            if self._texts:  # what stands before the last of its children is not told
                element.text = "".join(self._texts)
                self._texts.clear()
            if not self._open:
                self._done.append(element)
