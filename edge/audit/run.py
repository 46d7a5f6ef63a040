"""`patchline-edge audit`: a subscriber that keeps its own ledger and says whether every verdict arrived.

It trusts nobody: every message is checked, what it heard is on disk before the broker is told so, and what it
cannot know, because the broker had kept no session for it, is counted apart and never for good.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import threading
from pathlib import Path

from edge.audit.listener import Listener
from edge.audit.options import AuditOptions, choose_session, choose_topic
from edge.audit.report import Report
from edge.audit.store import LedgerFile
from edge.audit.view import open_view
from edge.errors import SettingsError
from edge.files.atomic import write_file
from edge.publishers.mqtt.credentials import read_password, tls_context
from edge.settings.tree import Settings


def run_audit(settings: Settings, options: AuditOptions, stop: threading.Event) -> Report:
    """Listen until the time is over, everything up to `until_seq` is there, or `stop` is set.

    Raises:
        SettingsError: an option, a certificate, key or password file, or the ledger file cannot be used.
        DeliveryError: the broker refuses us for a reason that waiting does not mend.
        PatchlineError: the ledger cannot be written any more.
    """
    read_password(settings.mqtt)
    tls_context(settings.mqtt)
    with contextlib.ExitStack() as resources:
        store = None if options.ledger is None else resources.enter_context(LedgerFile(options.ledger))
        topic, session = choose_topic(settings, options, store), choose_session(settings, options, store)
        view = resources.enter_context(open_view(options.interval_s))
        audit = Listener(settings, options, store, topic=topic, session=session, stop=stop, view=view)
        audit.listen()
        return audit.report()


def write_report(report: Report, path: Path) -> None:
    """Write `report` as JSON.

    Raises:
        SettingsError: the file cannot be written.
    """
    text = json.dumps(dataclasses.asdict(report), indent=2, ensure_ascii=False)
    try:
        write_file(path, f"{text}\n".encode())
    except OSError as error:
        raise SettingsError(f"--json {path}: cannot be written ({error.strerror})") from error
