"""What the labelling page's server answers, whom it refuses, and what is in the file afterwards."""

import json
import shutil
import threading
from pathlib import Path

import pytest

from edgetpu_retrain.errors import UserError
from edgetpu_retrain.index import corrections
from edgetpu_retrain.io import files
from edgetpu_retrain.labelling.labels_file import Decision, History, LabelsFile, undo
from edgetpu_retrain.labelling.session import Session, training
from tests.labelling import lay_colours, prepare

pytest.importorskip("flask", reason="needs the extra `label`")
from edgetpu_retrain.labelling import server

HOST = "127.0.0.1:5000"
HEADER = "sha256\tclass\tpath\tnote\n"
A, B, C = "a" * 64, "b" * 64, "c" * 64


@pytest.fixture
def session(tmp_path: Path) -> Session:
    lay_colours(tmp_path / "heap", 12)
    return Session(prepare(tmp_path, tmp_path / "heap"))


@pytest.fixture
def client(session: Session):
    return server.make_app(session, "secret", "snakemake --cores all").test_client()


def post(client, path: str, body: object, **headers: str | None):
    sent = {"Host": HOST, "Origin": f"http://{HOST}", "Content-Type": "application/json"}
    sent = {key: value for key, value in (sent | headers).items() if value is not None}
    return client.post(f"/secret/{path}", data=json.dumps(body), headers=sent)


def get(client, path: str, **headers: str):
    return client.get(f"/secret/{path}", headers={"Host": HOST} | headers)


def label(client, identities: list[str], name: str | None, **headers: str | None):
    return post(client, "label", {"photos": identities, "class": name, "each": False}, **headers)


def labels(session: Session) -> dict[str, str]:
    path = Path(session.sources.labels)
    return {s: one.label for s, one in corrections.read(path).items()} if path.exists() else {}


def test_a_label_is_in_the_file_when_it_is_answered(client, session: Session):
    some = session.identities[:3]
    answer = label(client, some, "red")
    assert answer.status_code == 200
    assert labels(session) == dict.fromkeys(some, "red")
    assert answer.json["changed"] == 3
    assert [number for number in answer.json["labels"] if number != -1] == [0, 0, 0]
    label(client, some[:1], "")
    label(client, some[1:2], None)
    assert labels(session) == {some[0]: "", some[2]: "red"}
    lines = corrections.read(session.sources.labels)
    assert lines[some[2]].note == corrections.IN_A_GROUP
    assert lines[some[0]].note == ""
    assert Path(lines[some[2]].path).exists()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 404),
        ({"Host": "evil.example", "Origin": "http://evil.example"}, 404),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:5001"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": None}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
    ],
)
def test_another_page_in_the_browser_changes_nothing(client, session: Session, headers, status):
    answer = label(client, session.identities[:1], "red", **headers)
    assert answer.status_code in (status, 400)
    assert answer.status_code != 200
    assert labels(session) == {}


def test_another_host_reads_nothing(client):
    for path in ("", "state", "photos", "labels", "view/todo"):
        assert get(client, path).status_code == 200
        assert get(client, path, Host="evil.example").status_code in (400, 404)
        assert client.get(f"/other/{path}", headers={"Host": HOST}).status_code == 404
        assert client.get(f"/{path}", headers={"Host": HOST}).status_code == 404


def test_no_request_names_a_file(client, session: Session, tmp_path: Path):
    (tmp_path / "secret.png").write_bytes((tmp_path / "heap" / "00000.png").read_bytes() + b"x")
    outside = files.sha256(tmp_path / "secret.png")
    for name in (
        "../../secret.png", "..%2f..%2fsecret.png", "%2e%2e/%2e%2e/secret.png", "/etc/passwd",
        str(tmp_path / "secret.png"), outside, session.identities[0].upper(), "",
    ):  # fmt: skip
        for kind in ("thumbnail", "photo"):
            assert get(client, f"{kind}/{name}").status_code in (308, 404), name
    assert get(client, "label.py").status_code == 404
    assert get(client, "../server.py").status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        None, [], {}, {"photos": "x", "class": "a", "each": False},
        {"photos": [1], "class": "a", "each": False}, {"photos": [], "class": 1, "each": False},
        {"photos": [], "class": "a", "each": "yes"}, {"photos": [A], "class": "a"},
        {"photos": [A], "class": "a", "each": False, "path": "/etc/passwd"},
        {"photos": [A], "class": "a", "each": False}, {"photos": [], "class": "a", "each": False},
    ],
)  # fmt: skip
def test_other_bodies_are_refused(client, session: Session, body):
    assert post(client, "label", body).status_code in (400, 409)
    assert labels(session) == {}


def test_a_huge_body_is_refused(client, session: Session):
    body = {"photos": ["x" * server.MAX_BODY_BYTES], "class": "a", "each": False}
    assert post(client, "label", body).status_code == 413
    assert labels(session) == {}


@pytest.mark.parametrize("name", ["a/b", "..", ".hidden", " ", "a\tb", "a\nb", "x" * 300])
def test_a_class_that_cannot_be_a_folder_is_refused(client, session: Session, name):
    answer = label(client, session.identities[:1], name)
    assert answer.status_code == 409
    assert "class" in answer.json["error"].lower()
    assert labels(session) == {}


def test_nothing_is_shown_as_done_that_could_not_be_written(client, session, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device", "corrections.tsv")

    monkeypatch.setattr("edgetpu_retrain.labelling.labels_file.tables.write", full)
    answer = label(client, session.identities[:1], "red")
    assert answer.status_code == 500
    assert "no space left" in answer.json["error"]
    assert set(get(client, "labels").json["labels"]) == {-1}


def test_pictures_are_small_and_made_once(client, session: Session, tmp_path: Path):
    sha256 = session.identities[0]
    first = get(client, f"thumbnail/{sha256}")
    assert first.mimetype == "image/jpeg"
    assert "immutable" in first.headers["Cache-Control"]
    shutil.rmtree(tmp_path / "heap")
    assert get(client, f"thumbnail/{sha256}").data == first.data
    gone = get(client, f"photo/{sha256}")
    assert gone.status_code == 404


def test_headers_keep_scripts_of_others_out(client):
    headers = get(client, "").headers
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"


def test_a_photo_in_a_folder_keeps_the_classes_of_folders(tmp_path: Path):
    """The index takes a class that is no folder only from an unlabelled photo."""
    lay_colours(tmp_path / "sorted" / "a", 5, "a")
    lay_colours(tmp_path / "sorted" / "b", 5, "b")
    for path in (tmp_path / "sorted/b").iterdir():
        path.write_bytes(path.read_bytes() + b"another")
    (tmp_path / "heap").mkdir()
    for path in list((tmp_path / "sorted/a").iterdir())[:3]:
        (tmp_path / "heap" / path.name).write_bytes(path.read_bytes() + b"new")
    session = Session(prepare(tmp_path, tmp_path / "heap", tmp_path / "sorted"))
    names = dict(zip(session.identities, session.photos.paths.tolist(), strict=True))
    sorted_photo = next(s for s, path in names.items() if "sorted/a" in path)
    new_photo = next(s for s, path in names.items() if "heap" in path)
    assert session.classes == ["a", "b"]
    with pytest.raises(UserError, match=r"'c' is a new class\. Give it to a photo"):
        session.label([sorted_photo], "c")
    session.label([new_photo], "c")
    session.label([sorted_photo], "c")
    # What the page wrote, the index takes.
    prepare(tmp_path, tmp_path / "heap", tmp_path / "sorted")
    session.label([sorted_photo], None)
    counts = {one["name"]: one["photos"] for one in session.state()["classes"]}
    assert counts == {"a": 15, "b": 15, "c": 1}


def test_the_model_follows_in_a_thread_of_its_own(session: Session):
    with training(session):
        learned = threading.Event()
        reds = [s for s, path in session.paths.items() if int(Path(path).stem) < 12]
        others = [s for s in session.identities if s not in reds]
        session.label(reds[:8], "red")
        session.label(others[:8], "other")
        for _ in range(200):
            state = session.state()
            if state["learned"] == state["version"]:
                break
            learned.wait(0.05)
        groups = session.view("todo")["groups"]
    shown = {session.identities[i] for group in groups for card in group["cards"] for i in card}
    assert shown == set(session.identities) - set(reds[:8]) - set(others[:8])
    assert {group["class"] for group in groups} <= {0, 1}


def test_views_show_what_they_say(session: Session):
    some = session.identities
    session.label(some[:6], "red")
    session.label(some[6:12], "blue")
    session.label(some[12:14], "")
    for view, expected in (("labelled", set(some[:12])), ("left_out", set(some[12:14]))):
        groups = session.view(view)["groups"]
        shown = [some[i] for group in groups for card in group["cards"] for i in card]
        assert set(shown) == expected
        assert len(shown) == len(expected)


def test_another_program_may_edit_the_file(tmp_path: Path):
    path = tmp_path / "labels.tsv"
    path.write_text(f"\ufeff{HEADER}{A}\trose\tx.jpg\tlooked at\n", "utf-8")
    labels = LabelsFile(path)
    assert labels.decisions() == {A: Decision("rose", "looked at")}
    path.write_text(f"{HEADER}{A}\tdaisy\tx.jpg\t\n{B}\tdaisy\ty.jpg\t\n")
    changes = labels.change({C: Decision("tulip")}, {C: "z\udcff.jpg"})
    assert [one.before for one in changes] == [None]
    found = corrections.read(path)
    assert {s: one.label for s, one in found.items()} == {A: "daisy", B: "daisy", C: "tulip"}
    # What is no table any more is left alone.
    path.write_text("notes")
    with pytest.raises(UserError, match="line 1"):
        labels.change({A: None}, {})
    assert path.read_text() == "notes"


def test_two_programs_lose_no_label_of_each_other(tmp_path: Path):
    one, other = (LabelsFile(tmp_path / "labels.tsv") for _ in range(2))

    def work(labels: LabelsFile, start: int) -> None:
        for i in range(start, start + 60):
            labels.change({f"{i:064x}": Decision("x")}, {f"{i:064x}": ""})

    threads = [threading.Thread(target=work, args=a) for a in ((one, 0), (other, 100))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(corrections.read(tmp_path / "labels.tsv")) == 120


def test_undo_spares_what_was_decided_since(tmp_path: Path):
    labels, history = LabelsFile(tmp_path / "labels.tsv"), History(tmp_path / "history.jsonl")
    paths = dict.fromkeys((A, B), "x.jpg")
    history.add(labels.change(dict.fromkeys((A, B), Decision("rose")), paths))
    labels.change({B: Decision("daisy")}, paths)
    with (tmp_path / "history.jsonl").open("a") as file:
        file.write('{"changes": [{"sha2')
    again = History(tmp_path / "history.jsonl")
    assert len(again) == 1
    undo(labels, again, paths)
    assert LabelsFile(tmp_path / "labels.tsv").decisions() == {B: Decision("daisy")}
    assert len(History(tmp_path / "history.jsonl")) == 0
    with pytest.raises(UserError, match="nothing to undo"):
        undo(labels, again, paths)


def test_a_link_to_the_file_stays_a_link(tmp_path: Path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "labels.tsv").symlink_to(tmp_path / "elsewhere" / "labels.tsv")
    LabelsFile(tmp_path / "labels.tsv").change({A: Decision("rose")}, {A: ""})
    assert (tmp_path / "labels.tsv").is_symlink()
    assert A in corrections.read(tmp_path / "elsewhere" / "labels.tsv")
