# What the labelling page needs; scripts/label.py runs this and serves the page.
rule label:
    input:
        unless_made_of("label"),
        embeddings=[
            configured(f"{BACKBONE_RESULTS}/embeddings/{shard}.npz", LABELLING)
            for shard in SHARDS
        ],
        manifest=there("label", MANIFEST),
        unlabelled=there("label", UNLABELLED),
        applied=there("label", f"{DATASET_RESULTS}/applied_corrections.tsv"),
    output:
        sources="results/labelling.json",
        groups=configured(f"{BACKBONE_RESULTS}/labelling/groups.tsv", LABELLING),
        fingerprint="results/.label",
    log:
        f"{LOGS}/label.log",
    conda:
        "../envs/retrain.yaml"
    threads: 4
    params:
        fingerprint=fingerprint("label"),
        # A function, because Snakemake would take braces in a path for wildcards.
        settings=lambda wildcards, output: {
            "dataset": DATASET.name,
            "labels": os.path.abspath(PLAN.labels),
            "folder": os.path.dirname(output.groups),
            "is_trained_on": bool(SETTINGS.unlabelled or SETTINGS.corrections),
        },
    script:
        "../../scripts/prepare_labels.py"


rule export:
    input:
        unless_made_of("export"),
        photos=photos_for("export"),
        manifest=there("export", MANIFEST),
    output:
        folder=directory(f"{DATASET_RESULTS}/labelled"),
        fingerprint=f"{DATASET_RESULTS}/.export",
    log:
        f"{LOGS}/export.log",
    localrule: True
    conda:
        "../envs/retrain.yaml"
    params:
        fingerprint=fingerprint("export"),
    script:
        "../../scripts/export.py"
