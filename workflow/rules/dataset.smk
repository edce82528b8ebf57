rule fetch_dataset:
    output:
        archive=f"{DATASET_RESOURCES}/archive",
    log:
        f"{LOGS}/fetch_dataset.log",
    params:
        urls=DATASET.urls,
        sha256=DATASET.sha256,
    conda:
        "../envs/retrain.yaml"
    script:
        "../../scripts/fetch_dataset.py"


rule extract_dataset:
    input:
        archive=archive(),
    output:
        photos=directory(f"{DATASET_RESOURCES}/photos"),
    log:
        f"{LOGS}/extract_dataset.log",
    params:
        sha256=DATASET.sha256,
    conda:
        "../envs/retrain.yaml"
    script:
        "../../scripts/extract_dataset.py"


rule draw_dataset:
    output:
        photos=directory(f"{DATASET_RESOURCES}/drawn"),
    log:
        f"{LOGS}/draw_dataset.log",
    params:
        drawn=DATASET.drawn,
    conda:
        "../envs/retrain.yaml"
    script:
        "../../scripts/draw_dataset.py"


# A checkpoint, so that only the shards whose manifest changed are embedded again; update, so that
# a manifest that stays is left alone.
checkpoint index_photos:
    input:
        photos_made(),
    output:
        shards=update(expand(f"{DATASET_RESULTS}/shards/{{shard}}.tsv", shard=SHARDS)),
        skipped=update(f"{DATASET_RESULTS}/skipped.tsv"),
    log:
        f"{LOGS}/index_photos.log",
    params:
        root=photos_made() or DATASET.folder,
        listing=listing_digest(DATASET.folder) if DATASET.folder else "",
        split=config["split"],
        max_skipped=config["max_skipped"],
    threads: 8
    conda:
        "../envs/retrain.yaml"
    script:
        "../../scripts/index_photos.py"
