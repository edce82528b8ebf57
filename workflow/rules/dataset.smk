rule fetch_dataset:
    output:
        archive=f"{DATASET_RESOURCES}/archive",
    log:
        f"{LOGS}/fetch_dataset.log",
    conda:
        "../envs/retrain.yaml"
    params:
        urls=DATASET.urls,
        sha256=DATASET.sha256,
    script:
        "../../scripts/fetch_dataset.py"


rule extract_dataset:
    input:
        archive=lambda wildcards: archive(),
    output:
        photos=directory(f"{DATASET_RESOURCES}/photos"),
    log:
        f"{LOGS}/extract_dataset.log",
    conda:
        "../envs/retrain.yaml"
    params:
        sha256=DATASET.sha256,
    script:
        "../../scripts/extract_dataset.py"


# A checkpoint, so that only the shards whose photos changed are embedded again; update, so that a
# file that stays is left alone.
checkpoint index:
    input:
        photos=photos_made(),
        missed=index_missed(),
    output:
        **index_outputs(),
    log:
        f"{LOGS}/index.log",
    conda:
        "../envs/retrain.yaml"
    params:
        folder=lambda wildcards: DATASET.folder,
        listing=LISTING,
        split=config["split"],
        max_skipped=config["max_skipped"],
        # Kept also where the job fails, as its log is.
        listed_in=f"{LOGS}/not_photos.tsv",
        corrections=CORRECTIONS,
        corrections_digest=CORRECTIONS and files.sha256(CORRECTIONS),
    script:
        "../../scripts/index.py"
