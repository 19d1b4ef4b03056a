"""Waiting in tests: as long as it takes on a busy machine. A test fails for what it sees, never for how long that took."""

import time

HANG_S = 6 * 3600  # what has not come by then will never come; pyproject.toml ends a test a little later


def waitUntil(ready, alive=None, pause=0.02):
    """Wait until ``ready()`` holds; fail when it cannot any more because ``alive()`` does not, or when everything hangs."""
    start = time.monotonic()
    while not ready():
        assert alive is None or alive() or ready(), 'ended before what was waited for'
        assert time.monotonic() - start < HANG_S, 'nothing has happened for %d hours' % (HANG_S / 3600)
        time.sleep(pause)
