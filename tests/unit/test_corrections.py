"""Corrections: what is read, what is refused, and what becomes of each photo."""

import hashlib
from pathlib import Path

import pytest

from edgetpu_retrain.errors import UserError
from edgetpu_retrain.index import corrections
from tests.indexing import files_in, write_index

A, B, C, D = ("a" * 64, "b" * 64, "c" * 64, "d" * 64)
HEADER = "sha256\tclass\tpath\tnote\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "corrections.tsv"
    path.write_bytes(text.encode())
    return path


def test_a_table_is_read_as_a_page_or_a_spreadsheet_writes_it(tmp_path: Path):
    text = f'\ufeff{HEADER}{A}\trose\tx.jpg\twas "daisy"\n{B.upper()}\t\t"a\tb.jpg"\t\n\n'
    found = corrections.read(write(tmp_path, text.replace("\n", "\r\n")))
    assert {one.sha256: (one.label, one.path, one.note) for one in found.values()} == {
        A: ("rose", "x.jpg", 'was "daisy"'),
        B: ("", "a\tb.jpg", ""),
    }


def test_cells_that_are_protected_from_spreadsheets_are_read_as_they_were(tmp_path: Path):
    """The page writes a quote before what a spreadsheet would compute."""
    text = f"{HEADER}{A}\t'=1+1\t'-x/@.jpg\t'+\n{B}\t'quoted'\t''=x\t-\n{C}\t-1\t=\t\n"
    found = corrections.read(write(tmp_path, text))
    assert {one.sha256: (one.label, one.path, one.note) for one in found.values()} == {
        A: ("=1+1", "-x/@.jpg", "+"),
        B: ("'quoted'", "'=x", "-"),
        C: ("-1", "=", ""),
    }


@pytest.mark.parametrize(
    ("lines", "line", "what"),
    [
        (f"{A}\trose\tx.jpg\t\nzz\trose\tx.jpg\t\n", 3, "'zz' is not a SHA-256"),
        (f"{A}\trose\n", 2, "2 fields"),
        (
            f"{A}\trose\tx\t\n{B}\trose\tx\t\n{A}\tdaisy\tx\t\n",
            4,
            "the same photo a different class",
        ),
        (f'{A}\t"rose"x\tx\t\n', 2, "expected after"),
    ],
)
def test_a_malformed_line_is_an_error_with_its_number(tmp_path: Path, lines, line, what):
    path = write(tmp_path, HEADER + lines)
    with pytest.raises(UserError, match=f"line {line}: .*{what}") as caught:
        corrections.read(path)
    assert str(path) in str(caught.value)


def test_other_files_are_refused(tmp_path: Path):
    with pytest.raises(UserError, match="line 1: the columns must be sha256, class, path, note"):
        corrections.read(write(tmp_path, "path\tclass\n"))
    (tmp_path / "corrections.tsv").write_bytes("sha256".encode("utf-16"))
    with pytest.raises(UserError, match="not UTF-8 text"):
        corrections.read(tmp_path / "corrections.tsv")


def test_every_correction_is_applied_or_reported(tmp_path: Path):
    decided = corrections.read(
        write(
            tmp_path,
            HEADER
            + f"{A}\trose\ta.jpg\t\n{B}\t\tb.jpg\tblurred\n{C}\trose\tc.jpg\t\n{D}\trose\td\t\n",
        )
    )
    photos = [("daisy/moved.jpg", "daisy", A), ("daisy/copy.jpg", "daisy", A)]
    photos += [("daisy/b.jpg", "daisy", B), ("rose/c.jpg", "rose", C), ("rose/e.jpg", "rose", "e")]
    corrector = corrections.Corrector(decided, "corrections.tsv")
    kept = [
        (path, corrector.correct(path, label, sha256), sha256) for path, label, sha256 in photos
    ]
    applied = corrector.applied()
    assert sorted(kept) == [
        ("daisy/b.jpg", "", B),
        ("daisy/copy.jpg", "rose", A),
        ("daisy/moved.jpg", "rose", A),
        ("rose/c.jpg", "rose", C),
        ("rose/e.jpg", "rose", "e"),
    ]
    assert [(one.path, one.folder, one.label, one.outcome) for one in applied] == [
        ("d", "", "rose", "missing"),
        ("daisy/b.jpg", "daisy", "", "left out"),
        ("daisy/copy.jpg", "daisy", "rose", "relabelled"),
        ("daisy/moved.jpg", "daisy", "rose", "relabelled"),
        ("rose/c.jpg", "rose", "rose", "confirmed"),
    ]
    corrections.write_applied(applied, tmp_path / "applied.tsv")
    assert corrections.read_applied(tmp_path / "applied.tsv") == applied


def test_a_class_that_is_not_there_is_an_error_with_its_line(tmp_path: Path):
    decided = corrections.read(write(tmp_path, f"{HEADER}{A}\troze\ta.jpg\t\n{D}\tasdf\td\t\n"))
    corrector = corrections.Corrector(decided, "corrections.tsv")
    for path, folder, sha256 in (("x", "rose", B), ("y", "daisy", A)):
        corrector.correct(path, folder, sha256)
    with pytest.raises(UserError, match=r"line 2: .* class .roze.\. Did you mean rose"):
        corrector.applied()


def test_the_index_follows_corrections(tmp_path: Path):
    photos = tmp_path / "photos"
    identities = {}
    for label in ("daisy", "rose"):
        (photos / label).mkdir(parents=True)
        for i in range(8):
            path = photos / label / f"{i}.bmp"
            path.write_bytes(b"BM" + f"{label} {i}".encode())
            identities[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
    wrong, bad = str(photos / "daisy/3.bmp"), str(photos / "rose/5.bmp")
    lines = f"{identities[wrong]}\trose\t\t\n{identities[bad]}\t\t\t\n"
    path = write(tmp_path, HEADER + lines)
    plain = write_index(photos)
    before = files_in(photos / ".index" / "shards")
    found = write_index(photos, corrections_path=path)
    labels = {photo.path: photo.label for photo in found.photos}
    expected = {p: Path(p).parent.name for p in identities if p != bad} | {wrong: "rose"}
    assert labels == expected
    assert {one.path: one.outcome for one in found.corrected} == {
        wrong: "relabelled",
        bad: "left out",
    }
    # What is left out stays embedded.
    assert plain.shards == found.shards
    assert files_in(photos / ".index" / "shards") == before
    assert "15 photos in 2 classes" in found.summary
    assert "1 left out, 1 relabelled" in found.summary
