"""Damage the input of series in thousands of ways, by seed; each must end in a message, a flag or a result.

Run: python -m tests.workflow.long_fuzz [cases] [first seed]
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter

from tests.workflow.fuzzing import FORMS, run_case, warm, wrong


def main() -> None:
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    first = int(sys.argv[2]) if len(sys.argv) > 2 else 1000
    counts: Counter[tuple[str, int | None]] = Counter()
    bad = 0
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="xmist-fuzz-") as folder:
        warm(folder)
        for seed in range(first, first + number):
            form, damage, code, err = run_case(folder, seed)
            counts[form, code] += 1
            mistake = wrong(code, err)
            if mistake:
                bad += 1
                print(f"seed {seed} ({form}, {damage}): {mistake}: {err.strip()[:300]}", flush=True)
    print("| format | result | message (2) | flagged (3) | other |\n|---|---|---|---|---|")
    for form in dict.fromkeys(FORMS):
        cells = [counts[form, code] for code in (0, 2, 3)]
        rest = sum(n for (name, code), n in counts.items() if name == form and code not in (0, 2, 3))
        print(f"| {form} | {' | '.join(map(str, cells))} | {rest} |")
    print(f"{number} cases, {bad} ended wrongly; {time.perf_counter() - begin:.0f} s")


if __name__ == "__main__":
    main()
