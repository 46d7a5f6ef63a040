"""What is logged and counted of commands: one line for each that is heard, now and then one for those that are not."""

from __future__ import annotations

import logging
from collections import Counter

from edge.protocol.commands import Answer, Ignored, Request
from edge.protocol.text import bounded
from edge.records import Values

log = logging.getLogger("patchline.commands")

_COMPLAIN_EVERY_S = 60.0


class CommandLog:
    """Nothing of a payload or of correlation data is logged. `unheard` may be called from any thread."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._unheard = 0  # not complained of yet
        self._complain_at_s = 0.0

    def heard(self) -> None:
        """A command was taken; `note` follows."""
        self._counts["commands"] += 1

    def unheard(self) -> None:
        """There was no room for a command."""
        self._counts["commands_unheard"] += 1

    def flooded(self, now_s: float) -> None:
        """A command came above the rate, at `now_s`, monotonic seconds."""
        self.unheard()
        self._unheard += 1
        if now_s >= self._complain_at_s:
            log.warning(
                "too many commands: those above commands.max_per_s are neither executed nor answered",
                extra={"fields": {"unheard": self._unheard}},
            )
            self._unheard = 0
            self._complain_at_s = now_s + _COMPLAIN_EVERY_S

    def note(
        self, name: str, request: Request, outcome: Answer | Ignored, *, repeated: bool = False, sent: bool = False
    ) -> None:
        """The one line of this request, whose command is called `name`."""
        ok = isinstance(outcome, Answer) and outcome.ok
        error = outcome.error if isinstance(outcome, Answer) else outcome.why
        self._counts["commands_refused"] += not ok
        fields: dict[str, str | int] = {"command": name, "ok": int(ok)}
        if not ok:
            fields["error"] = error
        fields |= {
            "repeated": int(repeated),
            "answered": int(sent),
            "response_topic": bounded(request.response_topic, 200),
        }
        log.log(logging.INFO if ok else logging.WARNING, "command", extra={"fields": fields})

    def report(self) -> Values:
        """Counters for `/health`."""
        return {name: self._counts[name] for name in ("commands", "commands_refused", "commands_unheard")}
