"""A batch job in this process: parts, going on after an end, and what is refused."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
from PIL import Image
from ray.exceptions import RayActorError

from calibration.multiple import strangers
from calibration.table import SCORE_SCHEMA
from service.batch import on_ray
from service.batch.folder import Folder
from service.batch.images import batches, pixels_of
from service.batch.job import Job, Source
from service.batch.job_error import JobError
from service.batch.local import scored_here
from service.batch.parts import Position, Scored, spans_of, standing
from service.batch.ray_start import Cluster
from service.batch.record import FILE, Record, model_facts
from service.scorer import Scorer, open_scorer
from train.data import Row, open_data


@dataclass(frozen=True)
class Rows:
    """A chunk of given rows."""

    rows: tuple[Row, ...]

    def read(self) -> Iterator[Row]:
        return iter(self.rows)


@dataclass
class Bar:
    """Remembers what was shown."""

    shown: list[tuple[str, int]] = field(default_factory=list)
    figures: dict[str, str] = field(default_factory=dict)
    done: int = 0

    @contextmanager
    def __call__(self, label: str, initial: int) -> Iterator[Bar]:
        self.shown.append((label, initial))
        yield self

    def advance(self, count: int, **figures: str) -> None:
        self.done += count
        self.figures = figures or self.figures


@pytest.fixture(scope="module")
def scorer(bundle_dir: Path) -> Scorer:
    return open_scorer(str(bundle_dir), None, None, True)


@pytest.fixture(scope="module")
def chunks() -> list[Rows]:
    """60 digits in chunks of 25, 25 and 10, and one that is no image."""
    rows = [row for row, _ in zip(open_data("digits:test"), range(59), strict=False)]
    rows.insert(30, Row(id="broken.png", image=b"junk", label=3))
    return [Rows(tuple(rows[:25])), Rows(tuple(rows[25:50])), Rows(tuple(rows[50:]))]


Make = Callable[..., tuple[Job, Source]]


@pytest.fixture
def make(scorer: Scorer, chunks: list[Rows]) -> Make:
    """A job into a folder and where its rows come from; parts of 16 rows, batches of 7."""

    def made(out: Path | str, fdr: float | None = None, **changes: Any) -> tuple[Job, Source]:
        schema = scorer.schema()
        record = Record(
            inputs={"data": "digits"},
            model=model_facts(scorer),
            options={"fdr": fdr, "alpha": None},
        )
        job = Job(
            folder=Folder.at(str(out)),
            schema=schema,
            record=record,
            rows=60,
            bar=Bar(),
            count=lambda _: None,
            check=lambda *_: None,
            report=lambda: None,
            part_rows=16,
        )
        return (
            replace(job, **changes),
            lambda start: scored_here(scorer, schema, chunks, start, 7),
        )

    return made


def run(job: Job, source: Source) -> Record:
    return job.run(source)


@pytest.fixture
def whole(make: Make, tmp_path: Path) -> Path:
    """A table that nothing has disturbed."""
    assert run(*make(tmp_path / "whole")).state == "finished"
    return tmp_path / "whole"


def parts(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.parquet"))}


def test_parts_are_in_order_and_full(whole: Path, chunks: list[Rows]) -> None:
    sizes = [pq.read_metadata(whole / name).num_rows for name in parts(whole)]
    assert sizes == [16, 16, 16, 12]
    expected = [row.id for chunk in chunks for row in chunk.rows]
    assert pq.read_table(whole)["id"].to_pylist() == expected
    metadata = pq.read_schema(whole / "part-00000.parquet").metadata
    assert metadata.items() >= SCORE_SCHEMA.metadata.items()


def test_each_part_says_which_rows_it_holds(whole: Path) -> None:
    folder = Folder.at(str(whole))
    found = [spans_of(folder, name) for name in parts(whole)]
    assert found == [
        [(0, 0, 16)],
        [(0, 16, 9), (1, 0, 7)],
        [(1, 7, 16)],
        [(1, 23, 2), (2, 0, 10)],
    ]
    assert standing(folder).next == Position(2, 10)


def failing_after(source: Source, rows: int) -> Source:
    def made(start: Position) -> Iterator[Scored]:
        done = 0
        for scored in source(start):
            if done >= rows:
                raise OSError("the machine went away")
            done += scored.table.num_rows
            yield scored

    return made


def test_the_time_of_each_part_is_kept(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that of a process that is killed, which can write no more, it counts too."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    job, source = make(tmp_path)
    seconds: list[float] = []

    def slow(start: Position) -> Iterator[Scored]:
        for scored in source(start):
            yield scored
            now[0] += 10
            seconds.append(json.loads((tmp_path / FILE).read_text())["seconds"])

    assert run(job, slow).seconds == 100
    # batches end after 7, 14, 21, 25, 32, 39, 46, 50, 57, 60 rows; parts have 16
    assert seconds == [0, 0, 20, 20, 40, 40, 40, 70, 70, 70]


@pytest.mark.parametrize("fdr", [None, 0.2])
@pytest.mark.parametrize("rows", [0, 5, 17, 25, 33, 48, 57])
def test_a_job_that_was_ended_goes_on_to_the_same_files(
    make: Make, tmp_path: Path, rows: int, fdr: float | None
) -> None:
    whole, out = tmp_path / "undisturbed", tmp_path / "out"
    run(*make(whole, fdr))
    job, source = make(out, fdr)
    with pytest.raises(OSError, match="went away"):
        run(job, failing_after(source, rows))
    assert json.loads((out / FILE).read_text())["state"] == "scoring"
    seen: list[int] = []
    job, _ = make(out, fdr, count=lambda table: seen.append(table.num_rows))
    assert run(job, source).sittings == 2
    assert parts(out) == parts(whole)
    assert sum(seen) == 60
    assert {path.name for path in out.iterdir()} == {FILE, *parts(whole)}


def test_a_job_that_was_ended_while_deciding_goes_on(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = tmp_path / "undisturbed", tmp_path / "out"
    run(*make(whole, 0.2))
    real, written = Folder.write, []

    def write(self: Folder, name: str, content: Any) -> None:
        if self.path == str(out) and name == "part-00002.parquet":
            raise OSError("full")
        written.append(name)
        real(self, name, content)

    job, source = make(out, 0.2)
    with monkeypatch.context() as patch:
        patch.setattr(Folder, "write", write)
        with pytest.raises(OSError, match="full"):
            run(job, source)
    assert json.loads((out / FILE).read_text())["state"] == "deciding"

    def nothing(_: Position) -> Iterator[Scored]:
        raise AssertionError("all is scored")

    run(job, nothing)
    assert parts(out) == parts(whole)
    assert "fdr_rejected" in pq.read_table(out).column_names


def test_a_finished_job_is_found(make: Make, whole: Path) -> None:
    job, _ = make(whole)
    found = job.finished()
    assert found is not None
    assert sum(found.counts.values()) == 60
    assert found.counts["error"] == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": {"data": "other"}}, "inputs data 'digits', now it is 'other'"),
        ({"model": {"name": "digits", "version": "x"}}, "now it is 'x'"),
        ({"options": {"fdr": 0.1, "alpha": None}}, "options fdr None, now it is 0.1"),
    ],
)
def test_a_table_is_never_mixed(
    make: Make, whole: Path, changes: dict[str, Any], message: str
) -> None:
    job, source = make(whole)
    other = replace(job, record=replace(job.record, **changes))
    before = parts(whole)
    with pytest.raises(JobError, match=message):
        run(other, source)
    assert parts(whole) == before


@pytest.mark.parametrize("name", ["part-00000.parquet", "mine.txt"])
def test_out_must_be_empty(make: Make, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(JobError, match=f"is not an empty folder.*{name}"):
        run(*make(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_out_is_a_file(make: Make, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(JobError, match="is a file"):
        make(tmp_path / "out")


def test_a_part_that_is_missing(make: Make, tmp_path: Path) -> None:
    job, source = make(tmp_path)
    with pytest.raises(OSError, match="away"):
        run(job, failing_after(source, 50))
    (tmp_path / "part-00001.parquet").unlink()
    with pytest.raises(JobError, match="no part-00001"):
        run(job, source)


def test_only_one_at_a_time(make: Make, tmp_path: Path) -> None:
    job, source = make(tmp_path)
    with job.folder.held(), pytest.raises(JobError, match="another oodgate score"):
        run(job, source)
    assert run(job, source).state == "finished"


def test_rows_that_are_missing_at_the_end(make: Make, tmp_path: Path) -> None:
    job, source = make(tmp_path, rows=61)
    with pytest.raises(JobError, match="60 rows were scored, expected 61"):
        run(job, source)


def test_a_url_is_written_to_like_a_path(make: Make, whole: Path, tmp_path: Path) -> None:
    run(*make((tmp_path / "by-url").as_uri()))
    assert parts(tmp_path / "by-url") == parts(whole)


def test_progress(make: Make, tmp_path: Path) -> None:
    bar = Bar()
    job, source = make(tmp_path, bar=bar)
    run(job, source)
    assert bar.shown == [("scoring", 0)]
    assert bar.done == 60
    assert bar.figures["errors"] == "1"
    assert bar.figures["rejected"].endswith("%")


def test_a_broken_record(make: Make, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("{")
    with pytest.raises(JobError, match="not readable"):
        run(*make(tmp_path))


def test_pixels_of_a_slice(scorer: Scorer, chunks: list[Rows]) -> None:
    (batch,) = batches(chunks[1].rows, scorer.spec, 100)
    for i in (0, 4, 5, 6):
        alone, all_ = pixels_of(batch.slice(i, 3), scorer.spec), pixels_of(batch, scorer.spec)
        first = i - (i > 5)
        assert (alone == all_[first : first + len(alone)]).all()
        assert len(alone) == 3 - (i <= 5 < i + 3)
    assert isinstance(batch, pa.RecordBatch)


def test_fdr_names_those_that_all_p_values_say(
    make: Make, scorer: Scorer, chunks: list[Rows], tmp_path: Path
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (20, 8, 8), dtype=np.uint8)
    strange = Rows(tuple(Row(id=f"n{i}", image=png(x), label=None) for i, x in enumerate(noise)))
    job, _ = make(tmp_path, 0.2, rows=80)
    run(job, lambda start: scored_here(scorer, job.schema, [*chunks, strange], start, 7))
    table = pq.read_table(tmp_path)
    good = table.filter(table["p_value"].is_valid())
    expected = strangers(good["p_value"].to_numpy(), 0.2)
    assert good["fdr_rejected"].to_pylist() == expected.tolist()
    assert 10 <= expected.sum() < 60
    assert table["fdr_rejected"].null_count == 1


def png(pixels: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def test_what_another_job_has_left_is_not_taken_over(make: Make, tmp_path: Path) -> None:
    whole, out = tmp_path / "undisturbed", tmp_path / "out"
    run(*make(whole, 0.2))
    job, source = make(out, 0.2)
    with pytest.raises(OSError, match="away"):
        run(job, failing_after(source, 40))
    (out / FILE).unlink()
    run(job, source)
    assert parts(out) == parts(whole)


def test_a_finished_job_that_lacks_a_part(make: Make, whole: Path) -> None:
    (whole / "part-00003.parquet").unlink()
    with pytest.raises(JobError, match="found 48 rows of a finished job, expected 60"):
        make(whole)[0].finished()


@pytest.mark.parametrize("lost_after", [7, 25, 32, 60])
def test_rows_that_ray_gives_again_are_dropped(
    scorer: Scorer,
    chunks: list[Rows],
    make: Make,
    tmp_path: Path,
    whole: Path,
    monkeypatch: pytest.MonkeyPatch,
    lost_after: int,
) -> None:
    """A Ray that fails after some rows, also after the last and short batch of a chunk."""
    schema = scorer.schema()
    failures: list[int] = []

    def streamed(left: on_ray.Left, *_: object) -> Iterator[Scored]:
        (chunks, _spec, size, start), done = left, 0
        for scored in scored_here(scorer, schema, chunks, start, size):
            yield scored
            done += scored.table.num_rows
            if done >= lost_after and not failures:
                failures.append(done)
                raise RayActorError

    monkeypatch.setattr(on_ray, "_streamed", streamed)
    monkeypatch.setattr(ray, "put", lambda value: value)
    said: list[str] = []
    job, _ = make(tmp_path / "out")
    run(
        job,
        lambda start: on_ray.scored_on_ray(
            Cluster(), scorer, schema, chunks, 7, said.append, start
        ),
    )
    assert parts(tmp_path / "out") == parts(whole)
    assert len(said) == len(failures) == 1
