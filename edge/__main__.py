"""`patchline-edge` from its start: what must be known before native libraries are loaded, then the command line."""

from __future__ import annotations

from edge.terminal import refuse_small_address_space, run_app


def main() -> None:
    """Entry point."""
    run_app(_run)


def _run() -> None:
    refuse_small_address_space()
    from edge.cli.main import app  # noqa: PLC0415 — loads what a small address space crashes

    app()


if __name__ == "__main__":
    main()
