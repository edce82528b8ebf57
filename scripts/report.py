"""Write report.html and the tables next to it."""

from pathlib import Path

from edgetpu_retrain.workflow import job

from edgetpu_retrain import report

with job.run(snakemake):
    folder = Path(snakemake.output.page).parent
    fine_tuning = folder.parent / "fine_tuning.json"
    comparison = folder.parent.parent / "comparison.json"
    report.make_report(
        report.Sources(
            predictions=Path(snakemake.input.predictions),
            evaluation=Path(snakemake.input.evaluation),
            groups=Path(snakemake.input.groups),
            head=Path(snakemake.input.head),
            embeddings=[Path(path) for path in snakemake.input.embeddings],
            manifest=Path(snakemake.input.manifest),
            unlabelled=Path(snakemake.input.unlabelled),
            skipped=Path(snakemake.input.skipped),
            corrections=Path(snakemake.input.corrections),
            models=[Path(path) for path in snakemake.input.models],
            # Includes the runs of other backbones and recipes on the same dataset.
            runs=sorted(folder.parent.parent.glob("*/*/runs.json")),
            fine_tuning=fine_tuning if fine_tuning.is_file() else None,
            comparison=comparison if comparison.is_file() else None,
            label_lists={name: path for name, path in snakemake.params.label_lists.items() if path},
        ),
        snakemake.params.dataset,
        snakemake.wildcards.backbone,
        snakemake.params.settings,
        folder,
        snakemake.params.commands,
        snakemake.params.edgetpu_model,
    )
