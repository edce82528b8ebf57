"""Label photos on a page in the browser that learns from your labels.

    python scripts/label.py
    python scripts/label.py --cores 4 --config dataset= unlabelled=photos/new

Arguments other than those listed below are passed to snakemake, which embeds new photos first. Then
the page is served, on this machine only. End it with Ctrl-C; every label you see is saved.
"""

import argparse
import contextlib
import importlib.util
import subprocess
import sys
import webbrowser
from pathlib import Path

from edgetpu_retrain.errors import UserError, how_to_install
from edgetpu_retrain.io import program

SOURCES = "results/labelling.json"


def parse_arguments() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="All other arguments are passed to snakemake: --cores, --config, --configfile, ...",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--port", type=int, default=0, help="port of the page (default: any free one)"
    )
    parser.add_argument("--no-browser", action="store_true", help="only print the address")
    parser.add_argument(
        "--no-run",
        action="store_true",
        help="use the photos as of the last run, without embedding new ones",
    )
    return parser.parse_known_args()


def prepare(arguments: list[str]) -> None:
    """Embeds new photos."""
    if not any(one.startswith(("--cores", "-c", "--jobs", "-j")) for one in arguments):
        arguments = ["--cores", "all", *arguments]
    command = [sys.executable, "-m", "snakemake", "--quiet", "host", "reason", *arguments]
    done = subprocess.run([*command, "--", "label"])
    if done.returncode:
        sys.exit(done.returncode)


def check_packages() -> None:
    for name in ("flask", "sklearn", "waitress"):
        if importlib.util.find_spec(name) is None:
            raise UserError(
                f"The package {name}, which the page needs, is not installed. "
                f"{how_to_install('label')}"
            )


def main() -> None:
    given, others = parse_arguments()
    with program.run():
        check_packages()
    if not given.no_run:
        prepare(others)
    with program.printing():
        from edgetpu_retrain.workflow import commands

        import waitress

        from edgetpu_retrain.labelling import server
        from edgetpu_retrain.labelling.session import Session, training
        from edgetpu_retrain.labelling.sources import Sources

        if not Path(SOURCES).is_file():
            raise UserError(
                f"There is no {SOURCES} here. Run this in the project's folder, without --no-run."
            )
        session = Session(Sources.load(SOURCES))
        token = server.new_token()
        command = commands.join(commands.snakemake(others))
        app = server.make_app(session, token, command)
        try:
            listening = waitress.create_server(
                app,
                host="127.0.0.1",
                port=given.port,
                threads=8,
                max_request_body_size=server.MAX_BODY_BYTES,
                ident=None,
            )
        except OSError as error:
            raise UserError(
                f"Port {given.port} cannot be used ({error.strerror}). Choose another with --port."
            ) from None
        address = f"http://127.0.0.1:{listening.effective_port}/{token}/"
        print(f"Label your photos at {address}\nEnd with Ctrl-C.", flush=True)
        if not given.no_browser:
            with contextlib.suppress(webbrowser.Error):
                webbrowser.open(address)
        with training(session):
            try:
                listening.run()
            finally:
                listening.close()
        print(f"\nYour labels are in {session.sources.labels}.")
        if session.sources.is_trained_on:
            print(f"Train with them: {command}")
        else:
            print(f"To train with them, set corrections: {session.sources.labels} in config.yaml.")


if __name__ == "__main__":
    main()
