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


rule draw_dataset:
    output:
        photos=directory(f"{DATASET_RESOURCES}/drawn"),
    log:
        f"{LOGS}/draw_dataset.log",
    conda:
        "../envs/retrain.yaml"
    params:
        drawn=DATASET.drawn,
    script:
        "../../scripts/draw_dataset.py"


# A checkpoint, so that only the shards whose manifest changed are embedded again; update, so that
# a manifest that stays is left alone.
checkpoint index_photos:
    input:
        photos=photos_made(),
    output:
        shards=update(manifests_to_write()),
        skipped=update(f"{DATASET_RESULTS}/skipped.tsv"),
    log:
        f"{LOGS}/index_photos.log",
    conda:
        "../envs/retrain.yaml"
    threads: 8
    params:
        folder=lambda wildcards: DATASET.folder,
        listing=listing_digest(DATASET.folder) if DATASET.folder else "",
        split=config["split"],
        shards=len(SHARDS),
        max_skipped=config["max_skipped"],
    script:
        "../../scripts/index_photos.py"
