# What a fault of the disk or of the power cut short is removed, so that it, and nothing else, is made
# again.
import base64


def drop_damaged_results():
    classifiers = "retrained_model*.tflite"
    tables = ("*.tsv", "*.npz", "*.json", "*.html")
    looked_at = {
        ".": (classifiers, "label_map.txt", "report.html"),
        DATASET_RESULTS: (*tables, "shards/*"),
        RESULTS: (*tables, classifiers, "label_map.txt", "*.png", "embeddings/*.npz"),
    }
    for folder, patterns in looked_at.items():
        for path in sorted(path for p in patterns for path in Path(folder).glob(p)):
            if files.is_cut_short(path):
                print(f"{path} is damaged; it is made again.", file=sys.stderr)
                path.unlink(missing_ok=True)


def drop_damaged_notes():
    """Removes Snakemake's notes that hold nothing; without them it would miss a changed setting."""
    notes = Path(".snakemake/metadata")
    for note in sorted(notes.rglob("*")):
        if note.is_dir() or note.read_bytes().endswith(b"}"):
            continue
        name = "".join(part.removeprefix("@") for part in note.relative_to(notes).parts)
        path = Path(base64.urlsafe_b64decode(name).decode())
        print(f"What is known of {path} is damaged; it is made again.", file=sys.stderr)
        # In place of a file that a job updates, the one that says that it is complete.
        if path.parent.name == "embeddings":
            path = path.with_suffix(".complete")
        elif path.parent.name == "shards":
            path = path.parent.with_name(".complete")
        elif path.with_name(".complete").exists():
            path = path.with_name(".complete")
        files.remove(path)
        note.unlink(missing_ok=True)


if workflow.is_main_process and not workflow.output_settings.dryrun:
    drop_damaged_results()
    drop_damaged_notes()
