"""Whether a killed run ends as an undisturbed one: ``python -m benchmarks.kill_test agent=iterppo budget=smoke``.

Runs the command once undisturbed, then again with SIGKILL at random moments, each time continued by the same command,
and compares records, metrics and trajectories. What tells the time or the source version is left out of the comparison.
Exits 1 and names what differs, if anything does.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.provenance import source
from benchmarks.same import compare


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kill_test", description=__doc__)
    parser.add_argument("--kills", type=int, default=10, help="how often to kill (default 10)")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    parser.add_argument("--folder", type=Path, help="where the runs are kept; a temporary folder by default")
    options, overrides = parser.parse_known_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        return kill_test(overrides, options.kills, options.seed, options.folder or Path(temporary))


def kill_test(overrides: Sequence[str], kills: int, seed: int, folder: Path) -> int:
    """Do it; 0 if every killed run ended as the undisturbed one, 1 if not, 2 if the source changed meanwhile."""
    began, version = time.monotonic(), source()
    if status := _start(overrides, folder / "undisturbed").wait():
        raise SystemExit(f"The command failed undisturbed, with exit status {status}; mend it first.")
    duration = time.monotonic() - began
    (wanted,) = folder.glob("undisturbed/**/record.json")
    moments, runs, left = random.Random(seed), 0, kills
    while left:
        results, differences = folder / f"killed-{(runs := runs + 1)}", []
        left -= _run_killed(overrides, results, left, duration, moments)
        (record,) = results.glob("**/record.json")
        differences = list(compare(wanted.parent, record.parent))
        print(f"run {runs}: {kills - left} of {kills} kills so far; " + ("equal" if not differences else "DIFFERS"))
        print("".join(f"  {difference}\n" for difference in differences), end="", flush=True)
        if version != source():
            print("The source changed meanwhile, so nothing follows from this; run it again.")
            return 2
        if differences:
            return 1
    return 0


def _start(overrides: Sequence[str], results: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "benchmarks.run", *overrides, f"results={results}"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)


def _run_killed(overrides: Sequence[str], results: Path, kills: int, duration: float, moments: random.Random) -> int:
    """Run to the end with up to ``kills`` kills; returns how many there were. The last process is left alone."""
    for done in range(kills):
        process = _start(overrides, results)
        try:
            if process.wait(timeout=moments.uniform(0, duration)) == 0:
                return done
            raise RuntimeError(f"The command failed by itself with exit status {process.returncode}; mend it first.")
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if status := _start(overrides, results).wait():
        raise RuntimeError(f"After {kills} kills the command failed with exit status {status}.")
    return kills


if __name__ == "__main__":
    sys.exit(main())
