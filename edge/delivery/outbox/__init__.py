"""The durable queue between inspection and broker: `outbox` keeps its rules, the others what it is made of."""
