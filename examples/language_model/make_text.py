"""Writes `text.jsonl`: sums in words, cut into what stands before a character and that character.

python make_text.py [how many]
"""

import json
import random
import sys
from pathlib import Path

ONES = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]  # fmt: skip
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]


def in_words(number: int) -> str:
    """A number below 100."""
    if number < len(ONES):
        return ONES[number]
    tens, ones = divmod(number, 10)
    return TENS[tens - 2] + (f"-{ONES[ones]}" if ones else "")


def rows(count: int, seed: int = 0) -> list[dict[str, str]]:
    """So many different examples, the same for the same seed."""
    rng = random.Random(seed)
    found: dict[str, str] = {}
    while len(found) < count:
        one, other = rng.randrange(50), rng.randrange(50)
        sentence = f"{in_words(one)} plus {in_words(other)} is {in_words(one + other)}."
        at = rng.randrange(1, len(sentence))
        found[sentence[:at][-32:]] = sentence[at]
    return [{"context": context, "next": following} for context, following in found.items()]


if __name__ == "__main__":
    lines = [json.dumps(row) + "\n" for row in rows(int(sys.argv[1]) if len(sys.argv) > 1 else 8000)]
    (Path(__file__).parent / "text.jsonl").write_text("".join(lines))
