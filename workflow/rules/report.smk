# The settings that a result depends on.
REPORTED = (
    "dataset",
    "dataset_sha256",
    "test_dataset",
    "corrections",
    "backbone",
    "device",
    "split",
    "resize",
    "seed",
    "max_skipped",
    "training",
)


rule report:
    input:
        predictions=f"{RESULTS}/predictions.tsv",
        evaluation=f"{RESULTS}/evaluation.json",
        groups=f"{RESULTS}/groups.tsv",
        embeddings=EMBEDDINGS,
        manifest=manifest,
        skipped=f"{RESULTS}/skipped.tsv",
        corrections=applied_corrections,
        models=expand(
            f"{RESULTS}/retrained_model{{twin}}.tflite", twin=sorted({"", TWIN})
        ),
    output:
        page=report(
            f"{RESULTS}/report.html",
            category="Report",
            caption="../report/report.rst",
        ),
        suspects=f"{RESULTS}/suspects.tsv",
        copies=f"{RESULTS}/copies.tsv",
        # update keeps what was reported before, to say what has changed since.
        runs=update(f"{RESULTS}/runs.json"),
    log:
        f"{LOGS}/{BACKBONE.name}/report.log",
    conda:
        "../envs/retrain.yaml"
    params:
        dataset=DATASET.name,
        backbone=BACKBONE.name,
        settings={key: config[key] for key in REPORTED if key in config}
        | {"device": DEVICE}
        | ({"calibration": config["calibration"]} if BACKBONE.CALIBRATED else {}),
    script:
        "../../scripts/report.py"


# Each of the compared is a run of its own in this folder, inside of this job.
rule compare:
    output:
        table=f"{DATASET_RESULTS}/comparison.json",
        page=report(
            f"{DATASET_RESULTS}/comparison.html",
            category="Report",
            caption="../report/comparison.rst",
        ),
    log:
        f"{LOGS}/compare.log",
    conda:
        "../envs/retrain.yaml"
    threads: 8
    params:
        dataset=DATASET.name,
        entries=COMPARED,
        config={key: config[key] for key in config if key != "compare"}
        | {"device": DEVICE},
        listing=LISTING,
        corrections_digest=CORRECTIONS and files.sha256(CORRECTIONS),
    script:
        "../../scripts/compare.py"
