"""Text that others have written (names in checkpoints, of files and folders) made inert for where it is put.

Each place has a rule of its own, and every generator applies it, whatever was checked before: nothing in a name may
end a comment, begin a command, or move a cursor. HTML has html.escape, a shell shlex.quote.
"""

import unicodedata

_KEPT = {"\n", "\t"}
# letters and marks of any script, decimal digits, and …
_NAME_CATEGORIES = {"Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Nd"}
_NAME_MARKS = " _.-"
NAME_LENGTH = 64
_MARKDOWN = "\\`*_{}[]<>()#+!|&~$"


def is_name(text: str) -> bool:
    """Whether a text is a plain name: letters of any script, digits, blank, _ . and -, from 1 to 64 of them."""
    return 0 < len(text) <= NAME_LENGTH and bool(text.strip()) and all(map(_is_plain, text))


def _is_plain(character: str) -> bool:
    return character in _NAME_MARKS or unicodedata.category(character) in _NAME_CATEGORIES


def for_cpp_comment(text: str) -> str:
    """For a // comment: any other character than a plain name's and a few harmless marks becomes a blank.

    A line's end would end the comment, a backslash before it would join the next line, `*/` and trigraphs do as much
    elsewhere. So does no letter of any script.
    """
    return "".join(character if _is_plain(character) or character in ",:" else " " for character in text)


def for_markdown(text: str) -> str:
    """For a line or a table's cell of Markdown: nothing in it is a style, a link, an entity or a new line."""
    line = "".join(" " if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c for c in for_terminal(text))
    return "".join(f"\\{c}" if c in _MARKDOWN and not _within_word(line, i) else c for i, c in enumerate(line))


def _within_word(line: str, index: int) -> bool:
    """Whether an underscore stands inside a word, where it is no style: names are full of them."""
    return line[index] == "_" and line[index - 1 : index].isalnum() and line[index + 1 : index + 2].isalnum()


def for_plot(text: str) -> str:
    """For a label in a figure, where $…$ would be read as a formula."""
    return for_terminal(text).replace("\\", "/").replace("$", "\\$")


def for_terminal(text: str) -> str:
    """For a terminal or a log: control characters but line ends and tabs become escapes that can be read.

    So do marks that turn the direction of writing, and line ends that only some programs know.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c in _KEPT or not _acts(c) else _written(c) for c in text)


def _acts(character: str) -> bool:
    category = unicodedata.category(character)
    # joiners shape the letters of some scripts and emoji; all other invisible marks can hide what a text says
    return category in ("Cc", "Zl", "Zp") or (category == "Cf" and character not in "\u200c\u200d")


def _written(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
