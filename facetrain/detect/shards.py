"""A part of the work for each of several machines, the same part wherever it is asked for: `--shard 3/64`."""

import hashlib
import re
from dataclasses import dataclass

from facetrain.core.errors import UsageError

_SHARD = re.compile(r"(\d{1,9})/(\d{1,9})", re.ASCII)


@dataclass(frozen=True)
class Shard:
    """number: from 1 to `of`; 1 of 1 is everything."""

    number: int = 1
    of: int = 1

    def holds(self, name: str) -> bool:
        """Whether a source belongs to this part, by a hash of its name: what else there is makes no difference."""
        if self.of == 1:
            return True
        digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
        return int.from_bytes(digest[:8], "big") % self.of == self.number - 1


def parse_shard(text: str) -> Shard:
    """The part that `3/64` means. Raises UsageError."""
    found = _SHARD.fullmatch(text.strip())
    if found is None:
        raise UsageError(f"`shard` {text}: not NUMBER/COUNT", "such as 3/64")
    number, count = int(found[1]), int(found[2])
    if not 1 <= number <= count:
        hint = f"there are 1/{count} to {count}/{count}" if count else "such as 3/64"
        raise UsageError(f"`shard` {text}: no such part", hint)
    return Shard(number, count)
