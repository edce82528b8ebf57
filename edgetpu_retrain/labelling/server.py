"""Serve the labelling page on this machine only.

The address contains a secret, so that other users of the machine cannot change labels. A web page
that is open in the same browser cannot either: it does not know the secret, and the headers Host
and Origin are checked. Requests name photos by identity, never files.
"""

import hmac
import secrets
from pathlib import Path
from typing import Any

from flask import Flask, Response, abort, jsonify, request
from werkzeug.exceptions import HTTPException

from edgetpu_retrain.errors import UserError
from edgetpu_retrain.io import files, program
from edgetpu_retrain.labelling import views
from edgetpu_retrain.labelling.session import Session
from edgetpu_retrain.photos import decode, memory
from edgetpu_retrain.report.thumbnails import to_jpeg

_TEMPLATES = Path(__file__).with_name("templates")
_KINDS = {"label.html": "text/html", "label.css": "text/css", "label.js": "text/javascript"}
HOSTS = ["127.0.0.1", "localhost"]
MAX_BODY_BYTES = 8 << 20
_MAX_PHOTOS = 100_000
_SIDE, _LARGE_SIDE = 224, 1600
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def new_token() -> str:
    """Returns an unguessable secret for the address."""
    return secrets.token_urlsafe(24)


def make_app(session: Session, token: str, command: str) -> Flask:
    """Creates the web application.

    Args:
        session: the photos and their labels.
        token: the secret; requests without it get the status 404.
        command: the command that trains with the labels, for the page to show.
    """
    app = Flask(__name__, static_folder=None)
    app.config.update(TRUSTED_HOSTS=HOSTS, MAX_CONTENT_LENGTH=MAX_BODY_BYTES)

    @app.before_request
    def check() -> None:
        given = (request.view_args or {}).pop("token", "")
        if not hmac.compare_digest(given.encode(), token.encode()):
            abort(404)
        is_own = request.headers.get("Origin") == f"http://{request.host}"
        if request.method == "POST" and not is_own:
            abort(403)

    @app.after_request
    def add_headers(response: Response) -> Response:
        response.headers.update(_HEADERS)
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    @app.errorhandler(HTTPException)
    def refuse(error: HTTPException) -> tuple[Response, int]:
        return jsonify(error=error.description), error.code or 500

    @app.errorhandler(UserError)
    def explain(error: UserError) -> tuple[Response, int]:
        return jsonify(error=str(error)), 409

    @app.errorhandler(OSError)
    def explain_system(error: OSError) -> tuple[Response, int]:
        return jsonify(error=f"Nothing was saved: {program.describe_os_error(error)}"), 500

    @app.get("/<token>/")
    def page() -> Response:
        return _template("label.html")

    @app.get("/<token>/<any('label.css', 'label.js'):name>")
    def part(name: str) -> Response:
        return _template(name)

    @app.get("/<token>/photos")
    def photos() -> Response:
        dataset = session.sources.dataset
        return jsonify(dataset=dataset, photos=session.list_photos(), command=command)

    @app.get("/<token>/state")
    def state() -> Response:
        session.refresh()
        return jsonify(session.state())

    @app.get("/<token>/labels")
    def labels() -> Response:
        return jsonify(session.labels())

    @app.get("/<token>/view/<name>")
    def view(name: str) -> Response:
        if name not in views.VIEWS:
            abort(404)
        return jsonify(session.view(name))

    @app.post("/<token>/label")
    def label() -> Response:
        changed = session.label(*_parse(request.get_json()))
        return jsonify(changed=changed, **session.labels())

    @app.post("/<token>/undo")
    def undo() -> Response:
        return jsonify(changed=session.undo(), **session.labels())

    @app.get("/<token>/thumbnail/<sha256>")
    def thumbnail(sha256: str) -> Response:
        return _jpeg(session, sha256, _SIDE, Path(session.sources.folder, "thumbnails"))

    @app.get("/<token>/photo/<sha256>")
    def photo(sha256: str) -> Response:
        return _jpeg(session, sha256, _LARGE_SIDE, None)

    return app


def _template(name: str) -> Response:
    return Response((_TEMPLATES / name).read_bytes(), mimetype=_KINDS[name])


def _parse(body: Any) -> tuple[list[str], str | None, bool]:
    """Returns the photos and the class in a request, and whether each photo was looked at."""
    if not isinstance(body, dict) or body.keys() != {"photos", "class", "each"}:
        abort(400)
    identities, name, each = body["photos"], body["class"], body["each"]
    is_list = isinstance(identities, list) and len(identities) <= _MAX_PHOTOS
    if not (is_list and all(isinstance(one, str) for one in identities)):
        abort(400)
    if not (name is None or isinstance(name, str)) or not isinstance(each, bool):
        abort(400)
    return identities, name, each


def _jpeg(session: Session, sha256: str, side: int, kept_in: Path | None) -> Response:
    """Returns a photo as a small JPEG, cached in the folder `kept_in` if there is one."""
    if sha256 not in session.row_of:
        abort(404)
    kept = kept_in / sha256[:2] / f"{sha256}.jpg" if kept_in else None
    if kept and kept.is_file():
        content = kept.read_bytes()
    else:
        try:
            original = decode.read_content(session.paths[sha256], sha256)
            with memory.for_photo(original, side):
                content = to_jpeg(decode.read_photo(original, side), side)
        except (UserError, decode.PhotoError) as error:
            abort(404, str(error))
        if kept:
            with files.replacing(kept) as temporary:
                temporary.write_bytes(content)
    response = Response(content, mimetype="image/jpeg")
    # The content of a photo with this identity never changes.
    response.headers["Cache-Control"] = "private, max-age=86400, immutable"
    return response
