"""What `patchline-edge run` does before its first verdict, one after the other: seconds as JSON on standard output.

`python -m benchmarks.start_phases STARTED BUNDLE CACHE`: STARTED is time.time() of whoever starts this process.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path


def main() -> None:
    """Time every phase."""
    started, bundle_directory, cache = float(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
    phases: dict[str, float] = {}

    def done(phase: str) -> None:
        phases[phase] = time.time() - started - sum(phases.values())

    import edge.line.service  # noqa: PLC0415 — the import is a phase
    from edge.bundle.bundle import read_bundle  # noqa: PLC0415
    from edge.engine.threads import use_one_blas_thread  # noqa: PLC0415
    from edge.inspection.golden import run_golden  # noqa: PLC0415
    from edge.inspection.inspector import Inspector  # noqa: PLC0415
    from edge.inspection.options import InspectorOptions  # noqa: PLC0415
    from edge.records import Frame, FrameIdentity  # noqa: PLC0415

    assert edge.line.service is not None
    use_one_blas_thread()  # as the service does
    done("interpreter and imports")
    bundle = read_bundle(bundle_directory)
    done("bundle read and hashed")
    inspector = Inspector(bundle, InspectorOptions(cache_dir=cache))
    done("network compiled beside indexing the bank")
    run_golden(inspector, bundle)
    done("self-test")
    inspector.inspect(Frame(FrameIdentity(0, time.time(), time.monotonic()), bundle.golden[0].image))
    done("first verdict")
    print(json.dumps(phases))


if __name__ == "__main__":
    main()
