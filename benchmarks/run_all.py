"""Run every benchmark, one after the other, each in a process of its own."""

import subprocess
import sys
from pathlib import Path

SCRIPTS = (
    *(
        "latency",
        "speed",
        "quality",
        "scifact",
        "sparse",
        "backends",
        "late_ladder",
        "pooling_robustness",
        "plaid",
    ),
    *("first_stages", "growth", "expansion", "multihop", "serving", "learning", "training", "swap"),
    *("sessions", "wiki_agent", "fusion", "reasoning", "continual", "diagnostics", "long_texts"),
    "fields",
)


def main() -> int:
    """Return 0 when all ran."""
    folder = Path(__file__).parent
    codes = [
        subprocess.run([sys.executable, str(folder / f"{name}.py")], check=False).returncode
        for name in SCRIPTS
    ]
    return max(codes)


if __name__ == "__main__":
    raise SystemExit(main())
