from __future__ import annotations

import hashlib
import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from edge.errors import ExportError
from export.datasets.fetch import fetch_archive, fetch_dataset
from export.datasets.public import Archive

FILES = {"cards/readme.txt": b"two pictures", "cards/train/good/0.png": bytes(range(256)) * 400}


class Server:
    """An HTTP server on loopback: answers what is in `files`, and cuts off on demand."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.cut_at: int | None = None
        self.announced: int | None = None  # instead of the true length
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                data = server.files.get(self.path.rpartition("/")[2])
                if data is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(server.announced or len(data)))
                self.end_headers()
                self.wfile.write(data[: server.cut_at])

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 — the name is the base class's
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()
        self.address = f"http://127.0.0.1:{self._http.server_port}/mirror"

    def close(self) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server()
    yield server
    server.close()


def make_tar(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, contents in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(contents)
            tar.addfile(member, io.BytesIO(contents))
    return stream.getvalue()


def make_zip(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, contents in files.items():
            archive.writestr(name, contents)
    return stream.getvalue()


def publish(server: Server, name: str, data: bytes, directory: str = "cards") -> tuple[Archive, str]:
    """The archive's record, as it is published elsewhere, and its address here."""
    server.files[name] = data
    archive = Archive(f"https://example.org/{name}", hashlib.sha256(data).hexdigest(), directory)
    return archive, f"{server.address}/{name}"


def contents_of(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


@pytest.mark.parametrize(("name", "make"), [("cards.tar", make_tar), ("cards.zip", make_zip)])
def test_an_archive_is_fetched_checked_and_extracted(
    server: Server, tmp_path: Path, name: str, make: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    archive, address = publish(server, name, make(FILES))
    root = fetch_archive(archive, tmp_path / "data" / "cards", address)
    assert root == tmp_path / "data" / "cards" / "cards"
    assert contents_of(root.parent) == FILES
    assert list((tmp_path / "data").iterdir()) == [root.parent]  # nothing else is left
    assert f"downloading {name}, MB: 0/1" in capfd.readouterr().err


def test_an_empty_directory_may_be_fetched_into_and_a_filled_one_not(server: Server, tmp_path: Path) -> None:
    archive, address = publish(server, "cards.tar", make_tar(FILES))
    (tmp_path / "cards").mkdir()
    fetch_archive(archive, tmp_path / "cards", address)
    with pytest.raises(ExportError, match="cards: holds something already; give another directory"):
        fetch_archive(archive, tmp_path / "cards", address)
    assert contents_of(tmp_path / "cards") == FILES


def refused(archive: Archive, address: str, tmp_path: Path, message: str) -> None:
    """Refused, and nothing is left behind."""
    with pytest.raises(ExportError, match=message):
        fetch_archive(archive, tmp_path / "cards", address)
    assert list(tmp_path.iterdir()) == []


def test_another_archive_than_the_published_one_is_not_extracted(server: Server, tmp_path: Path) -> None:
    archive, address = publish(server, "cards.tar", make_tar(FILES))
    server.files["cards.tar"] = make_tar({"cards/readme.txt": b"altered"})
    refused(archive, address, tmp_path, rf"expected sha256 {archive.sha256[:12]}…, got ")


def test_a_connection_that_breaks_off_is_refused(server: Server, tmp_path: Path) -> None:
    archive, address = publish(server, "cards.tar", make_tar(FILES))
    server.cut_at = 1000
    refused(archive, address, tmp_path, "cannot be fetched into .*nothing was left behind")


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/cards.tar", "file:///etc/passwd", "cards.tar"])
def test_an_address_that_cannot_be_read_is_refused(server: Server, tmp_path: Path, address: str) -> None:
    archive, _ = publish(server, "cards.tar", make_tar(FILES))
    refused(archive, address, tmp_path, "cannot be fetched into")


def test_an_archive_that_is_not_there_is_refused(server: Server, tmp_path: Path) -> None:
    archive, address = publish(server, "cards.tar", make_tar(FILES))
    server.files.clear()
    refused(archive, address, tmp_path, "404")


def test_a_tar_that_reaches_outside_is_refused(server: Server, tmp_path: Path) -> None:
    archive, address = publish(server, "cards.tar", make_tar({"cards/0.png": b"", "../evil.txt": b"here"}))
    refused(archive, address, tmp_path, r"cards\.tar: cannot be extracted safely .*evil")


def test_a_zip_that_reaches_outside_stays_inside(server: Server, tmp_path: Path) -> None:
    archive, address = publish(server, "cards.zip", make_zip({"cards/0.png": b"", "../evil.txt": b"here"}))
    fetch_archive(archive, tmp_path / "in" / "cards", address)
    assert contents_of(tmp_path) == {"in/cards/cards/0.png": b"", "in/cards/evil.txt": b"here"}


@pytest.mark.parametrize("name", ["cards.tar", "cards.zip"])
def test_what_is_no_archive_is_refused(server: Server, tmp_path: Path, name: str) -> None:
    archive, address = publish(server, name, b"a page that says please log in")
    refused(archive, address, tmp_path, "cannot be extracted safely")


def test_an_archive_without_its_directory_is_refused(server: Server, tmp_path: Path) -> None:
    archive, address = publish(server, "cards.tar", make_tar({"other/0.png": b""}))
    refused(archive, address, tmp_path, "no cards in the archive")


def test_an_archive_larger_than_the_disk_is_refused_before_it_is_downloaded(server: Server, tmp_path: Path) -> None:
    archive, address = publish(server, "cards.tar", make_tar(FILES))
    server.announced = 10**18
    refused(archive, address, tmp_path, r"needs 2100000000\.0 GB")


def test_a_failed_fetch_says_how_to_do_it_by_hand(server: Server, tmp_path: Path) -> None:
    server.files["VisA_20220922.tar"] = make_tar(FILES)
    with pytest.raises(ExportError) as caught:
        fetch_dataset("visa", tmp_path / "visa", base=server.address)
    first, second, *_ = str(caught.value).splitlines()
    assert f"{server.address}/VisA_20220922.tar: not the published file: expected sha256 2eb8690c803a…" in first
    assert second == "By hand, on any machine with a network:"
    assert "tar -xf VisA_20220922.tar -C visa" in str(caught.value)


def test_a_dataset_without_a_public_address_is_explained(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"(?s)mvtec_ad: its publisher gives it out by hand.*fill in the form"):
        fetch_dataset("mvtec_ad", tmp_path / "mvtec")
    assert list(tmp_path.iterdir()) == []
