"""Which series each scraper has been shown: one that is new to it stands at 0 first. Pure.

A counter that appears at 5 is no increase for Prometheus, so that the first failure of a task would never alert.
docs/adr/001 has the reasons.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

__all__ = ["EVERYTHING", "Scrapers"]

#: Nothing is held back: for people and tools.
EVERYTHING = math.inf
#: So long (seconds) after a start without a checkpoint a scraper that is not known is taken for one from before.
YOUNG = 60.0
#: How many scrapers are remembered.
LIMIT = 100


class Scrapers:
    """For each scraper the birth of the newest series that it was shown; kept in the checkpoint."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._started = clock()
        self._shown: dict[str, float] = {}
        self._restored = False

    def hold_back(self, scraper: str | None) -> float:
        """Series born after this stand at 0 on the next page of `scraper`; None is a person or a tool."""
        if scraper is None:
            return EVERYTHING
        # Prometheus adds the whole of a counter that was back at 0: a scraper that may have seen it is shown all.
        young = not self._restored and self._clock() - self._started < YOUNG
        return self._shown.get(scraper, 0.0 if young else EVERYTHING)

    def turn(self, scraper: str | None, newest: float) -> float:
        """Note that `scraper` gets a page up to the series born at `newest`; returns hold_back() of that page."""
        hold_back = self.hold_back(scraper)
        if scraper is not None:
            self._shown.pop(scraper, None)  # the latest last
            self._shown[scraper] = newest
            while len(self._shown) > LIMIT:
                del self._shown[next(iter(self._shown))]
        return hold_back

    def copy(self) -> Scrapers:
        """As it is before a turn that may come to nothing."""
        same = Scrapers(self._clock)
        same._started, same._shown, same._restored = self._started, dict(self._shown), self._restored
        return same

    def dump(self) -> dict[str, float]:
        """What a checkpoint keeps."""
        return dict(self._shown)

    def restore(self, state: Mapping[str, float]) -> None:
        """Take over what `dump` returned."""
        self._shown = {str(scraper): float(born) for scraper, born in state.items()}
        self._restored = True
