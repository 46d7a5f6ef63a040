"""Latencies of any number of verdicts in bounded memory: counts in buckets that are 1 % wide. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

_SMALLEST_MS = 0.1
_LARGEST_MS = 1e11  # three years: with the smallest it bounds the number of buckets to 2,800
_GROWTH = math.log(1.01)


class Histogram:
    """Milliseconds. A percentile is the upper edge of its bucket: at most 1 % too high, never too low."""

    def __init__(self) -> None:
        """Start with none."""
        self._buckets: Counter[int] = Counter()
        self.count = 0
        self.minimum_ms = math.inf  # negative where the clocks of the two machines differ
        self.maximum_ms = -math.inf

    def add(self, latency_ms: float) -> None:
        """Count one."""
        bounded = min(max(latency_ms, _SMALLEST_MS), _LARGEST_MS)
        self._buckets[math.ceil(math.log(bounded / _SMALLEST_MS) / _GROWTH)] += 1
        self.count += 1
        self.minimum_ms = min(self.minimum_ms, latency_ms)
        self.maximum_ms = max(self.maximum_ms, latency_ms)

    def percentile(self, share: float) -> float:
        """The latency that `share` (0 to 1) of all do not exceed; there must be one."""
        rank = max(1, math.ceil(share * self.count))
        seen = 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            if seen >= rank:
                edge_ms = _SMALLEST_MS * math.exp(bucket * _GROWTH)
                return min(edge_ms, self.maximum_ms)
        return self.maximum_ms

    def as_json(self) -> dict[str, int | float]:
        """Count and, where there is any, minimum, p50, p99 and maximum in milliseconds."""
        if not self.count:
            return {"count": 0}
        figures = {
            "min": self.minimum_ms,
            "p50": self.percentile(0.50),
            "p99": self.percentile(0.99),
            "max": self.maximum_ms,
        }
        return {"count": self.count} | {name: round(value, 1) for name, value in figures.items()}

    def state(self) -> dict[str, object]:
        """Everything, for `restore`."""
        if not self.count:
            return {}
        buckets = {str(bucket): count for bucket, count in self._buckets.items()}
        return {"buckets": buckets, "minimum_ms": self.minimum_ms, "maximum_ms": self.maximum_ms}

    @classmethod
    def restore(cls, state: Mapping[str, object]) -> Histogram:
        """The histogram that gave `state`."""
        histogram = cls()
        match state:
            case {"buckets": dict(buckets), "minimum_ms": float(minimum_ms), "maximum_ms": float(maximum_ms)}:
                histogram._buckets.update({int(bucket): int(count) for bucket, count in buckets.items()})
                histogram.count = histogram._buckets.total()
                histogram.minimum_ms, histogram.maximum_ms = minimum_ms, maximum_ms
        return histogram
