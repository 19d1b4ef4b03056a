"""Progress on standard output: one line per reporting interval, which Scipion's log window tails."""

from __future__ import annotations

import sys
import time
from datetime import timedelta

_BAR = 24


class Progress:
    """Reports work done, rate and time left.

    On a terminal one line with a bar is redrawn in place; elsewhere a new line is printed every ``interval_s`` seconds.

    Parameters
    ----------
    what : what is going on, "Alignment"
    total : units of work in all
    unit : name of the units
    done : units that an earlier run has done already; they do not count for the rate
    interval_s : seconds between lines
    """

    def __init__(self, what: str, total: int, unit: str = "images", done: int = 0, interval_s: float = 10.0) -> None:
        self.what, self.total, self.unit, self.interval_s = what, total, unit, interval_s
        self.done = self._first = done
        self._start = self._last = time.monotonic()
        self._terminal = sys.stdout.isatty()
        if done:
            print(f"{what}: goes on after {done}/{total} {unit} that are already done", flush=True)

    def step(self, count: int = 1, note: str = "") -> None:
        """Count ``count`` more units of work; ``note`` (a loss, say) is printed with the line."""
        self.done += count
        now = time.monotonic()
        finished = self.done >= self.total
        if not finished and now - self._last < (0.2 if self._terminal else self.interval_s):
            return
        self._last = now
        text = self.line(now, note)
        if self._terminal:
            full = _BAR * min(self.done, self.total) // max(self.total, 1)
            text = f"\r\x1b[K[{'#' * full}{'-' * (_BAR - full)}] {text}"
        print(text, end="\n" if finished or not self._terminal else "", flush=True)

    def line(self, now: float, note: str = "") -> str:
        """The text of one report: done/total, rate, time left, note."""
        rate = (self.done - self._first) / max(now - self._start, 1e-9)
        left = timedelta(seconds=round((self.total - self.done) / rate)) if rate > 0 else "?"
        share = 100 * self.done / max(self.total, 1)
        return (
            f"{self.what}: {self.done}/{self.total} {self.unit} ({share:.1f} %), {rate:.3g} {self.unit}/s, {left} left"
            f"{', ' + note if note else ''}"
        )
