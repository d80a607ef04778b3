"""OUT, a folder on this machine or wherever ``pyarrow.fs`` reaches: files appear in it whole.

What is being written has another name, one that readers of tables pass over.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from service.batch.job_error import JobError

_LOCK = "_lock"
_UNFINISHED = "_new-"


@dataclass(frozen=True)
class Folder:
    """A folder of files; ``shown`` is what a user calls it."""

    shown: str
    files: pafs.FileSystem
    path: str

    @classmethod
    def at(cls, out: str) -> Folder:
        """A path or a URL; it need not be there yet. Raises ``JobError``."""
        try:
            if "://" in out:
                files, path = pafs.FileSystem.from_uri(out)
            else:
                files, path = pafs.LocalFileSystem(), str(Path(out).resolve())
            found = cls(shown=out.rstrip("/"), files=files, path=path.rstrip("/"))
            if files.get_file_info(found.path).type == pafs.FileType.File:
                raise JobError(f"{out} is a file: expected a folder, or a name that is free")
        except (OSError, ValueError, pa.ArrowException) as error:
            raise JobError(f"{out}: {error}; expected a folder or a URL to write to") from error
        return found

    @property
    def local(self) -> Path | None:
        """Where it is on this machine, None where it is not."""
        return Path(self.path) if isinstance(self.files, pafs.LocalFileSystem) else None

    def within(self, name: str) -> Folder:
        """A folder in it."""
        return Folder(f"{self.shown}/{name}", self.files, f"{self.path}/{name}")

    def make(self) -> None:
        """Create it where it is not there."""
        self.files.create_dir(self.path, recursive=True)

    def names(self) -> list[str]:
        """What is in it, sorted; nothing where it is not there."""
        selector = pafs.FileSelector(self.path, allow_not_found=True)
        return sorted(entry.base_name for entry in self.files.get_file_info(selector))

    def read(self, name: str) -> bytes | None:
        """A file's content, None where there is none."""
        try:
            with self.files.open_input_stream(f"{self.path}/{name}") as stream:
                content: bytes = stream.read()
        except FileNotFoundError:
            return None
        return content

    def write(self, name: str, content: bytes | pa.Buffer) -> None:
        """Write or replace a file; it is there whole or not at all, after a crash too."""
        try:
            self._write(f"{self.path}/{_UNFINISHED}{name}", f"{self.path}/{name}", content)
        except OSError as error:
            raise JobError(
                f"{self.shown}/{name} cannot be written ({error}): make room or mend the "
                "permissions, then go on with the same command"
            ) from error

    def _write(self, unfinished: str, path: str, content: bytes | pa.Buffer) -> None:
        if self.local is None:
            with self.files.open_output_stream(unfinished) as stream:
                stream.write(content)
        else:
            with open(unfinished, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        self.files.move(unfinished, path)

    def write_table(self, name: str, table: pa.Table) -> None:
        """As Parquet; equal tables give equal bytes."""
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        self.write(name, sink.getvalue())

    def table(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """A Parquet file in it."""
        return pq.ParquetFile(f"{self.path}/{name}", filesystem=self.files).read(columns)

    def footer(self, name: str) -> pq.FileMetaData:
        """What a Parquet file says of itself."""
        return pq.read_metadata(f"{self.path}/{name}", filesystem=self.files)

    def delete(self, name: str) -> None:
        """Delete a file."""
        self.files.delete_file(f"{self.path}/{name}")

    def delete_all(self) -> None:
        """Delete the folder with what is in it."""
        self.files.delete_dir(self.path)

    def sweep(self) -> None:
        """Delete what a writer that was killed had begun."""
        for name in self.names():
            if name.startswith(_UNFINISHED):
                self.delete(name)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Nobody else on this machine writes to it meanwhile; raises ``JobError``.

        Only of a local folder: object stores have no locks.
        """
        if self.local is None:
            yield
            return
        import fcntl

        with (self.local / _LOCK).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not os.path.samestat(os.fstat(lock.fileno()), os.stat(self.local / _LOCK)):
                    raise BlockingIOError("the lock of one that has just ended")
            except OSError as error:
                raise JobError(
                    f"{self.shown}: another oodgate score writes to it; wait for its end, or "
                    "choose another --out"
                ) from error
            try:
                yield
            finally:
                (self.local / _LOCK).unlink(missing_ok=True)
